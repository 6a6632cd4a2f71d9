"""The loop on real shards, in this process: resume bit for bit, and every refusal."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import models.step
from models.family import Draw, FieldSpec
from models.step.training import StEP
from pipeline.artifacts import storage
from pipeline.runs import checkpoint
from pipeline.training.job import Job, Run
from pipeline.training.loop import fit
from pipeline.training.trainer import Stopped

TINY = models.step.PRESETS["tiny"]
QUIET = Run(workers=0, threads=1, checkpoint_every=3, log_every=1, evaluate_every=4, evaluate_images=4)


def job(work: dict[str, str], output: Path, **changes: Any) -> Job:
    made = Job("step", TINY, work["data"], str(output), artifacts={"neighbours": work["neighbours"]}, run=QUIET)
    return replace(made, **changes)


@pytest.fixture(scope="module")
def undisturbed(tiny_work: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    fit(job(tiny_work, folder))
    return folder


def scalars(folder: Path) -> dict[tuple[str, int], float]:
    """The last value of each (name, step) but of speed."""
    found = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        event = json.loads(line)
        for name, value in event.get("values", {}).items() if "step" in event else ():
            if "second" not in name and "/" in name and not name.startswith("system/"):
                found[name, event["step"]] = value
    return found


@pytest.mark.parametrize("at", [2, 5, 9, 14])
def test_a_stopped_run_ends_as_an_undisturbed_one_bit_for_bit(
    tiny_work: dict[str, str], undisturbed: Path, tmp_path: Path, at: int
) -> None:
    with pytest.raises(Stopped, match="goes on with the same command"):
        fit(job(tiny_work, tmp_path, stop_after=at))
    fit(job(tiny_work, tmp_path))
    assert (tmp_path / "weights.pt").read_bytes() == (undisturbed / "weights.pt").read_bytes()
    assert scalars(tmp_path) == scalars(undisturbed)


def test_a_kill_between_checkpoints_costs_only_the_steps_since(
    tiny_work: dict[str, str], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update, calls = StEP.update, 0

    def dies(self: StEP, draw: Draw, images: int) -> dict[str, torch.Tensor]:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return update(self, draw, images)

    monkeypatch.setattr(StEP, "update", dies)
    with pytest.raises(KeyboardInterrupt):
        fit(job(tiny_work, tmp_path))
    monkeypatch.undo()
    before = checkpoint.steps(str(tmp_path))
    assert before[-1] < 5  # the death came after steps that no checkpoint holds
    fit(job(tiny_work, tmp_path))
    assert (tmp_path / "weights.pt").read_bytes() == (undisturbed / "weights.pt").read_bytes()


def test_a_kill_after_a_stages_end_does_not_write_it_again(
    tiny_work: dict[str, str], undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the next stage's first checkpoint; but if it was damaged meanwhile, it is."""
    enter = StEP.enter

    def dies(self: StEP, stage: str) -> None:
        if stage != "encoder":
            raise KeyboardInterrupt
        enter(self, stage)

    end, marker = tmp_path / "stages" / "encoder.pt", tmp_path / "stages" / "encoder.json"
    monkeypatch.setattr(StEP, "enter", dies)
    for damage in (None, False, True):
        if damage:
            end.write_bytes(end.read_bytes()[:-1])
        before = marker.stat().st_mtime_ns if damage is not None else 0
        with pytest.raises(KeyboardInterrupt):
            fit(job(tiny_work, tmp_path))
        assert (marker.stat().st_mtime_ns == before) == (damage is False)
        assert end.read_bytes() == (undisturbed / "stages" / "encoder.pt").read_bytes()
    monkeypatch.undo()
    fit(job(tiny_work, tmp_path))
    assert (tmp_path / "weights.pt").read_bytes() == (undisturbed / "weights.pt").read_bytes()


def test_a_finished_run_is_not_trained_again(tiny_work: dict[str, str], undisturbed: Path) -> None:
    before = (undisturbed / "metrics.jsonl").read_bytes()
    fit(job(tiny_work, undisturbed))
    assert (undisturbed / "metrics.jsonl").read_bytes() == before


def test_another_recipe_is_refused_by_name(tiny_work: dict[str, str], undisturbed: Path) -> None:
    with pytest.raises(ValueError, match=r"margin is 0.1 there, 0.2 wanted"):
        fit(job(tiny_work, undisturbed, recipe=replace(TINY, margin=0.2)))
    with pytest.raises(ValueError, match=r"mapper_epochs is 10 there, 5 wanted \(a length may only grow\)"):
        fit(job(tiny_work, undisturbed, recipe=replace(TINY, mapper_epochs=5)))


def test_a_run_that_saved_nothing_may_become_another(tiny_work: dict[str, str], tmp_path: Path) -> None:
    storage.publish_json(str(tmp_path / "recipe.json"), {"family": "step", "recipe": {"margin": 9.0}, "inputs": {}})
    with pytest.raises(Stopped):
        fit(job(tiny_work, tmp_path, stop_after=3))
    with pytest.raises(ValueError, match=r"margin is 0\.1 there, 9\.0 wanted"):  # now there is something to lose
        fit(job(tiny_work, tmp_path, recipe=replace(TINY, margin=9.0)))


def test_label_maps_are_refused_where_pictures_are_read(
    tiny_work: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models.step, "fields", lambda recipe: {"input": FieldSpec("labels")})
    with pytest.raises(ValueError, match="its inputs are pictures, this family reads label maps"):
        fit(job(tiny_work, tmp_path))


def test_the_last_stage_may_grow_and_an_earlier_one_may_not(
    tiny_work: dict[str, str], undisturbed: Path, tmp_path: Path
) -> None:
    longer = replace(TINY, mapper_epochs=12)
    fit(job(tiny_work, tmp_path))
    fit(job(tiny_work, tmp_path, recipe=longer))
    whole = tmp_path / "whole"
    fit(job(tiny_work, whole, recipe=longer))
    assert (tmp_path / "weights.pt").read_bytes() == (whole / "weights.pt").read_bytes()
    with pytest.raises(ValueError, match="stage 'generator' was finished at 16 images"):
        fit(job(tiny_work, tmp_path, recipe=replace(longer, generator_images=32)))


def test_not_a_number_stops_the_run_with_step_name_and_checkpoint(
    tiny_work: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = StEP.update

    def breaks(self: StEP, draw: Draw, images: int) -> dict[str, torch.Tensor]:
        found = update(self, draw, images)
        return {**found, "triplet": torch.tensor(torch.nan)} if images >= 12 else found

    monkeypatch.setattr(StEP, "update", breaks)
    with pytest.raises(
        FloatingPointError, match=r"step 3 of stage encoder: triplet\. Last checkpoint: .*000000003\.pt"
    ):
        fit(job(tiny_work, tmp_path))


def test_a_stage_can_start_from_another_runs_weights(
    tiny_work: dict[str, str], undisturbed: Path, tmp_path: Path
) -> None:
    taken = str(undisturbed / "stages" / "encoder.pt")
    fit(job(tiny_work, tmp_path, start={"encoder": taken}))
    assert not (tmp_path / "stages" / "encoder.pt").exists()  # not trained here
    ours, theirs = (checkpoint.load(str(f / "weights.pt"))["family"] for f in (tmp_path, undisturbed))
    # Same encoder, same order, fresh optimisers in each stage: the rest comes out the same too.
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    with pytest.raises(ValueError, match="do not fit this recipe"):
        fit(job(tiny_work, tmp_path / "b", start={"encoder": taken}, recipe=replace(TINY, encoder_width=8)))


def test_neighbours_of_another_data_set_are_refused(tiny_work: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--neighbours .* is of the data set"):
        fit(job(tiny_work, tmp_path, data=tiny_work["other"]))


def test_a_damaged_checkpoint_is_named(tiny_work: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        fit(job(tiny_work, tmp_path, stop_after=3))
    [path] = (tmp_path / "checkpoints").glob("*.pt")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"does not match the sha256"):
        fit(job(tiny_work, tmp_path))


def test_only_the_last_checkpoints_and_the_best_are_kept(undisturbed: Path) -> None:
    kept = checkpoint.steps(str(undisturbed))
    best = checkpoint.best(str(undisturbed))
    assert best.keys() == {"generator", "finetune"}
    assert set(kept) == {there["step"] for there in best.values()} | set(kept[-2:])
    found = [json.loads(line) for line in (undisturbed / "metrics.jsonl").read_text().splitlines()]
    for stage, there in best.items():
        seen = [e["values"][name] for e in found if (name := f"{stage}/held_out/l1") in e.get("values", {})]
        assert there["value"] == min(seen) and there["figure"] == "l1"
    last = checkpoint.load(str(undisturbed / "checkpoints" / f"{best['finetune']['step']:09d}.pt"))["family"]
    family, _ = checkpoint.restore(str(undisturbed), "best")
    assert all(torch.equal(last[key], value) for key, value in family.state_dict().items())
    assert sorted(storage.names(str(undisturbed / "stages"))) == sorted(
        f"{s}.{e}" for s in ("encoder", "generator", "finetune", "mapper") for e in ("json", "pt")
    )


@pytest.mark.slow
def test_two_ray_train_workers_take_the_steps_of_one(
    tiny_work: dict[str, str], undisturbed: Path, tmp_path: Path
) -> None:
    tracking = f"sqlite:///{tmp_path}/mlflow.db"
    fit(job(tiny_work, tmp_path, run=replace(QUIET, workers=2), tracking=tracking))
    assert (tmp_path / "model" / "MLmodel").exists()  # rank 0 alone makes it while the other waits at the end
    one, two = scalars(undisturbed), scalars(tmp_path)
    assert one.keys() == two.keys()
    # The encoder has no adversary: the same batches give the same losses up to float32 rounding. Other batches would
    # differ by tens of per cent. (GAN losses drift apart by themselves; their equality is shown in float64.)
    for key, value in one.items():
        if key[0].startswith("encoder/"):
            assert two[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key


def test_what_another_try_would_not_mend_is_not_tried_again(tiny_work: dict[str, str], tmp_path: Path) -> None:
    """On Ray Train, which tries whatever is raised again: a second try would stop one step later."""
    with pytest.raises(Stopped, match="stopped at step 5"):
        fit(job(tiny_work, tmp_path, run=replace(QUIET, workers=1), stop_after=5))
    assert checkpoint.steps(str(tmp_path))[-1] == 5
