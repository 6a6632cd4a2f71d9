"""Matches on actors, in training and by a double loop: the same. And every refusal."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import models.imle
from jobs import evaluate, match, shard
from models.common.seeds import seeded
from models.imle import noise_seed
from models.imle.training import IMLE
from pipeline.artifacts import artifact, pool, storage
from pipeline.data.images import Images
from pipeline.data.shards import DataSet
from pipeline.runs import checkpoint
from pipeline.training import matches
from pipeline.training.job import Job, Run
from pipeline.training.loop import fit
from pipeline.training.trainer import Stopped

TINY = replace(models.imle.PRESETS["tiny"], imle_images=32, settle_images=8)
QUIET = Run(workers=0, threads=1, checkpoint_every=3, log_every=1, evaluate_every=4, evaluate_images=4)


def job(work: dict[str, str], output: Path, **changes: Any) -> Job:
    return replace(Job("imle", TINY, work["data"], str(output), run=QUIET), **changes)


@pytest.fixture(scope="module")
def work(tiny_work: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The tiny data set in three shards."""
    data = str(tmp_path_factory.mktemp("data"))
    shard.run(shard.Config(source="demo", output=data, size=16, crops=2, shard_size=12, workers=0))
    return {"data": data, "other": tiny_work["other"]}


@pytest.fixture(scope="module")
def trained(work: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imle")
    fit(job(work, folder))
    return folder


def config(work: dict[str, str], run: Path, output: Path, **changes: Any) -> match.Config:
    return replace(match.Config(run=str(run), data=work["data"], output=str(output), samples=6, step=8), **changes)


def begun(run: Path) -> dict[str, str]:
    """From the newest checkpoint of `run`: the one that its matches are of."""
    path = checkpoint.latest_path(str(run))
    assert path is not None
    return {"crn": path}


def parts(folder: Path) -> list[bytes]:
    return [p.read_bytes() for p in sorted(folder.glob("*.parquet"))]


@pytest.mark.parametrize("at", [3, 7, 9])
def test_a_stopped_run_ends_as_an_undisturbed_one(work: dict[str, str], trained: Path, tmp_path: Path, at: int) -> None:
    """7 is between two searches: their table comes from the checkpoint."""
    with pytest.raises(Stopped):
        fit(job(work, tmp_path, stop_after=at))
    fit(job(work, tmp_path))
    assert (tmp_path / "weights.pt").read_bytes() == (trained / "weights.pt").read_bytes()


def test_this_process_three_actors_training_and_a_double_loop_agree(
    work: dict[str, str], trained: Path, tmp_path: Path, ray_cluster: None
) -> None:
    cards = [match.run(config(work, trained, tmp_path / str(n), workers=n)) for n in (0, 3)]
    assert cards[0] == cards[1]
    assert parts(tmp_path / "0") == parts(tmp_path / "3")

    data = DataSet(work["data"])
    table, _ = matches.load(str(tmp_path / "3"), data, TINY)
    path = checkpoint.latest_path(str(trained))
    assert path is not None
    family, _ = checkpoint.revive(str(trained), path)
    assert isinstance(family, IMLE)
    images = Images(data)
    for i in range(len(data)):
        pair = images.centred([i], ("input", "target"), TINY.frame)
        distances = []
        for candidate in range(6):
            z = torch.randn(2, 16, 16, generator=seeded(noise_seed(0, 8, i), candidate))[None]
            with torch.no_grad():
                fake = family.generator(pair["input"], family.encoder(pair["input"], z))
            distances.append(float((127.5 * (fake - pair["target"])).abs().double().mean()))
        assert table["candidate"][i].tolist() == [min(range(6), key=lambda j: distances[j])]
        assert float(table["distance"][i]) == pytest.approx(min(distances), rel=1e-5)

    order = iter(torch.randperm(len(data), generator=seeded(0)).split(4))

    def draw(stream: str) -> dict[str, Any]:
        rows = next(order).tolist()
        crop = torch.tensor([matches.CENTRE] * len(rows), dtype=torch.float64)
        return {**images.centred(rows, ("input", "target"), TINY.frame), "crop": crop}

    whole = len(data) // 4 * 4
    own = models.imle.build(replace(TINY, set_size=whole, samples=6), family.group)
    own.load_state_dict(family.state_dict())
    found = own.refresh(draw, {}, lambda q, p: q, 8)
    for row, index in enumerate(found["index"].tolist()):
        for name in ("seed", "candidate", "distance"):
            assert torch.equal(found[name][row], table[name][index]), name


def test_a_killed_search_goes_on_and_ends_the_same(
    work: dict[str, str], trained: Path, tmp_path: Path, inline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "each", inline)
    whole = match.run(config(work, trained, tmp_path / "whole"))
    publish = artifact.publish_part

    def dies(folder: str, number: int, table: Any) -> None:
        if number == 1:
            raise KeyboardInterrupt
        publish(folder, number, table)

    monkeypatch.setattr(artifact, "publish_part", dies)
    assert whole["parts"] == 3
    with pytest.raises(KeyboardInterrupt):
        match.run(config(work, trained, tmp_path / "cut"))
    monkeypatch.setattr(artifact, "publish_part", publish)
    first = (tmp_path / "cut" / "00000.parquet").stat().st_mtime_ns
    assert match.run(config(work, trained, tmp_path / "cut")) == whole
    assert (tmp_path / "cut" / "00000.parquet").stat().st_mtime_ns == first


def test_a_killed_actors_share_is_done_again(
    work: dict[str, str], trained: Path, tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = match.run(config(work, trained, tmp_path / "whole"))
    make, marker = matches.shard_matcher, str(tmp_path / "killed")

    def dies_once(*given: Any) -> Any:
        search = make(*given)

        def work(shard: int) -> dict[str, Any]:
            if shard == 1 and not Path(marker).exists():
                open(marker, "x").close()
                os.kill(os.getpid(), signal.SIGKILL)
            return search(shard)

        return work

    monkeypatch.setattr(matches, "shard_matcher", dies_once)
    assert match.run(config(work, trained, tmp_path / "killed-once")) == whole
    assert Path(marker).exists()
    assert parts(tmp_path / "killed-once") == parts(tmp_path / "whole")


FOLLOW_UPS: dict[str, dict[str, Any]] = {
    "adaptive": {"adaptive_gamma": 0.1, "adaptive_staleness": 1, "adaptive_force": 2, "refresh_steps": 2},
    "levels": {"level_samples": (3, 2), "noise_encoder": False},
    "projected": {"search": "projected", "rerank": 2, "projection": 64, "epsilon": 60.0},
}


@pytest.mark.parametrize("kind", FOLLOW_UPS)
def test_follow_ups_resume_and_match_alike(work: dict[str, str], tmp_path: Path, kind: str, no_ray: None) -> None:
    """A run stopped between two searches ends as an undisturbed one; jobs.match finds what its own search finds."""
    recipe = replace(TINY, settle_images=0, **FOLLOW_UPS[kind])
    fit(job(work, tmp_path / "whole", recipe=recipe))
    with pytest.raises(Stopped):
        fit(job(work, tmp_path / "cut", recipe=recipe, stop_after=5))
    fit(job(work, tmp_path / "cut", recipe=recipe))
    assert (tmp_path / "cut" / "weights.pt").read_bytes() == (tmp_path / "whole" / "weights.pt").read_bytes()

    card = match.run(config(work, tmp_path / "whole", tmp_path / "m", samples=0, step=4))
    data = DataSet(work["data"])
    table, _ = matches.load(str(tmp_path / "m"), data, recipe)
    path = checkpoint.latest_path(str(tmp_path / "whole"))
    assert path is not None
    family, _ = checkpoint.revive(str(tmp_path / "whole"), path)
    assert isinstance(family, IMLE)
    pair = Images(data).centred([5], ("input", "target"), TINY.frame)
    for name, column in family.search(pair, [noise_seed(0, 4, 5)]).items():
        assert torch.equal(column[0], table[name][5]), name
    further = job(
        work, tmp_path / "on", recipe=replace(recipe, adaptive_gamma=0.0), artifacts={"matches": str(tmp_path / "m")}
    )
    fit(replace(further, start=begun(tmp_path / "whole")))
    assert ("all_rejected" in card["notes"]) == (kind == "projected")
    if kind == "levels":
        with pytest.raises(ValueError, match="--samples 6: this run searches level by level"):
            match.run(config(work, tmp_path / "whole", tmp_path / "x"))


def test_the_sheet_shows_the_samples_that_the_distances_are_of(
    work: dict[str, str], trained: Path, tmp_path: Path, no_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: dict[str, Any] = {}
    monkeypatch.setattr(matches.tensors, "to_uint8", lambda x: x)
    page = Image.new("RGB", (8, 8))
    monkeypatch.setattr(matches.sheets, "sheet", lambda rows, names, *_: shown.update(rows=rows, names=names) or page)
    match.run(config(work, trained, tmp_path / "m", sheet=5))
    data = DataSet(work["data"])
    table, _ = matches.load(str(tmp_path / "m"), data, TINY)
    assert len(shown["rows"]) == 5
    for (_, target, sample), name in zip(shown["rows"], shown["names"], strict=True):
        key, told = name.split("\ndistance ")
        distance = float(table["distance"][data.keys.index(key)])
        assert float(told) == pytest.approx(distance, rel=1e-3)
        assert float(127.5 * (sample - target).abs().mean()) == pytest.approx(distance, rel=0.05)  # shown clipped
    assert (tmp_path / "m" / "nearest.png").exists()
    match.run(config(work, trained, tmp_path / "none", sheet=0))
    assert not (tmp_path / "none" / "nearest.png").exists()


def test_training_on_given_matches_uses_them(work: dict[str, str], trained: Path, tmp_path: Path, no_ray: None) -> None:
    match.run(config(work, trained, tmp_path / "m"))
    further = job(
        work, tmp_path / "run", artifacts={"matches": str(tmp_path / "m")}, recipe=replace(TINY, settle_images=0)
    )
    for start in ({}, {"crn": str(trained / "stages" / "imle.pt")}):
        with pytest.raises(
            ValueError, match=r"--matches .* are samples of the checkpoint with sha256 \w+: begin from it"
        ):
            fit(replace(further, start=start))
    fit(replace(further, start=begun(trained)))
    state = checkpoint.latest(str(tmp_path / "run"))
    table, _ = matches.load(str(tmp_path / "m"), DataSet(work["data"]), TINY)
    assert state is not None and torch.equal(state["tables"]["imle"]["seed"], table["seed"])
    facts = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert facts["inputs"]["matches"] == artifact.load_card(str(tmp_path / "m"))["content"]


@pytest.mark.parametrize("lengths", [(0, 16, 0), (16, 0, 0)])
def test_a_stage_of_no_pictures_changes_nothing(
    work: dict[str, str], tmp_path: Path, lengths: tuple[int, int, int]
) -> None:
    """Entering `imle` opens the noise, entering `settle` begins the encoder anew: only where something trains them."""
    crn, imle, settle = lengths
    recipe = replace(TINY, crn_images=crn, imle_images=imle, settle_images=settle)
    fit(job(work, tmp_path, recipe=recipe))
    final, _ = checkpoint.restore(str(tmp_path))
    trained, _ = checkpoint.restore(str(tmp_path), "crn" if crn else "imle")
    for name, value in trained.state_dict().items():
        assert torch.equal(final.state_dict()[name], value), name
    assert bool(final.noisy) == (not crn)


def test_starting_from_another_runs_stage(work: dict[str, str], tmp_path: Path) -> None:
    """From `crn` the noise is opened; from a stage with noise it is kept. Such a run can be evaluated."""
    first = replace(TINY, crn_images=16, imle_images=16, settle_images=0)
    fit(job(work, tmp_path / "first", recipe=first))
    for stage in ("crn", "imle"):
        start = {"crn": str(tmp_path / "first" / "stages" / f"{stage}.pt")}
        run = tmp_path / f"from-{stage}"
        with pytest.raises(Stopped):
            fit(job(work, run, recipe=replace(first, crn_images=0), start=start, stop_after=1))
        there, _ = checkpoint.restore(str(tmp_path / "first"), stage)
        state = checkpoint.latest(str(run))
        assert state is not None
        before, after = (s["generator.levels.0.first.weight"] for s in (there.state_dict(), state["family"]))
        moved = (after - before)[:, -2:].abs().max() / before[:, :-2].square().mean().sqrt()
        assert bool(moved > 3) == (stage == "crn")  # N(0, (5 r)^2); a step of Adam moves by its rate
    fit(job(work, tmp_path / "from-imle", recipe=replace(first, crn_images=0), start=start))
    plain = evaluate.Config(
        run=str(tmp_path / "from-imle"), data=work["data"], output=str(tmp_path / "e"), weights="random", net="vgg19"
    )
    figures = evaluate.run(replace(plain, layers=("relu1_1",), limit=6, inputs=2, samples=2))
    assert "prior/precision_vgg_k3" in figures


def test_settle_searches_by_itself(work: dict[str, str], trained: Path, tmp_path: Path, no_ray: None) -> None:
    """Its encoder is another one: the matches are of none of its samples. Its candidates are not those of `imle`."""
    match.run(config(work, trained, tmp_path / "m"))
    recipe = replace(TINY, imle_images=16, settle_images=16)
    with pytest.raises(Stopped):
        further = job(work, tmp_path / "run", artifacts={"matches": str(tmp_path / "m")}, recipe=recipe, stop_after=5)
        fit(replace(further, start=begun(trained)))
    state = checkpoint.latest(str(tmp_path / "run"))
    assert state is not None and state["stage"] == "settle"
    table = state["tables"]["settle"]
    assert len(table["index"]) == TINY.set_size
    seeds = {noise_seed(0, 4, i, time) for i in table["index"].tolist() for time in range(3)}
    assert set(table["seed"].tolist()) <= seeds


def test_refusals(work: dict[str, str], trained: Path, tmp_path: Path, no_ray: None) -> None:
    output = tmp_path / "m"
    card = match.run(config(work, trained, output))
    with pytest.raises(ValueError, match="checkpoint is"):  # another checkpoint in the same folder
        match.run(config(work, trained, output, checkpoint=str(trained / "stages" / "imle.pt")))
    with pytest.raises(ValueError, match=r"options\.samples is 6 there, 7 wanted"):
        match.run(config(work, trained, output, samples=7))
    with pytest.raises(ValueError, match="another data set or split"):
        matches.load(str(output), DataSet(work["other"]), TINY)
    with pytest.raises(ValueError, match=r"--data: the run in .* was trained with \w+, not with"):
        match.run(config(work, trained, tmp_path / "x", data=work["other"]))
    facts = json.loads((trained / "recipe.json").read_text())
    rebalanced = tmp_path / "rebalanced"
    shutil.copytree(trained, rebalanced)
    facts["inputs"]["rarity"] = "abc"
    storage.publish_json(str(rebalanced / "recipe.json"), facts)
    with pytest.raises(ValueError, match=r"--rarity: the run in .* was trained with abc, not with none"):
        match.run(config(work, rebalanced, tmp_path / "x"))
    with pytest.raises(ValueError, match="has no checkpoint yet"):
        match.run(config(work, tmp_path / "none", tmp_path / "x"))
    assert match.run(config(work, trained, tmp_path / "one", samples=1))["notes"].keys() == {"distance"}
    guessed = match.run(config(work, trained, tmp_path / "guessed", search="projected"))
    assert guessed["options"]["search"] == "projected"
    assert card["notes"]["distance"] <= guessed["notes"]["distance"] < 1.02 * card["notes"]["distance"]
    with pytest.raises(ValueError, match="--samples -1"):
        config(work, trained, output, samples=-1)
    with pytest.raises(ValueError, match=r"are of noise 2, this run's is 3"):
        matches.load(str(output), DataSet(work["data"]), replace(TINY, noise=3))
    with pytest.raises(ValueError, match=r"are of levels 1, this run's is 2"):
        matches.load(str(output), DataSet(work["data"]), replace(TINY, level_samples=(2, 2), noise_encoder=False))
    damaged = tmp_path / "damaged"
    shutil.copytree(output, damaged)
    part = damaged / "00001.parquet"
    whole = part.read_bytes()
    at = len(whole) // 3
    part.write_bytes(whole[:at] + bytes(64) + whole[at + 64 :])
    with pytest.raises(ValueError, match=r"damaged/00001.parquet cannot be read .* run its job again"):
        matches.load(str(damaged), DataSet(work["data"]), TINY)
    left = [artifact.read_part(str(output), part) for part in range(card["parts"])]
    left[0] = left[0].slice(1)
    shutil.rmtree(output)
    storage.publish_json(str(output / "request.json"), {k: card[k] for k in ("kind", "version", "inputs", "options")})
    for part, table in enumerate(left):
        artifact.publish_part(str(output), part, table)
    artifact.finish(str(output), range(card["parts"]), {})
    with pytest.raises(ValueError, match=r"1 keys are missing \(00000000\)"):
        matches.load(str(output), DataSet(work["data"]), TINY)


def test_not_a_number_names_the_sample(
    work: dict[str, str], trained: Path, tmp_path: Path, no_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = IMLE.search

    def breaks(self: IMLE, *given: Any) -> Any:
        with torch.no_grad():
            self.generator.rgb.weight.fill_(float("nan"))
        return search(self, *given)

    monkeypatch.setattr(IMLE, "search", breaks)
    with pytest.raises(FloatingPointError, match="sample 00000000: "):
        match.run(config(work, trained, tmp_path / "m"))


def test_matches_end_with_their_stage(work: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        fit(job(work, tmp_path, stop_after=9))  # the first step of stage settle
    state = checkpoint.latest(str(tmp_path))
    assert state is not None and state["stage"] == "settle"
    assert set(state["tables"]) == {"settle"}  # of stage imle nothing is left
    done = checkpoint.load(str(tmp_path / "stages" / "imle.pt"))
    assert done["tables"] == {}


@pytest.mark.parametrize("adaptive", [0.0, 0.02])
@pytest.mark.parametrize("searches", [0, 1])
def test_a_run_asked_to_stop_within_a_search_goes_on_from_before_it(
    searches: int, adaptive: float, work: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(TINY, adaptive_gamma=adaptive, adaptive_staleness=0, settle_images=0)
    fit(job(work, tmp_path / "whole", recipe=recipe))
    search, seen = IMLE.search, 0

    def stops(self: IMLE, batch: Any, *args: Any, **kw: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == searches * 2 + 2:  # two batches a search of eight pairs: within the first or the second search
            storage.publish(str(tmp_path / "run" / "stop"), b"")
        return search(self, batch, *args, **kw)

    monkeypatch.setattr(IMLE, "search", stops)
    with pytest.raises(Stopped, match=f"stopped at step {searches * TINY.refresh_steps};"):
        fit(job(work, tmp_path / "run", recipe=recipe))
    monkeypatch.undo()
    fit(job(work, tmp_path / "run", recipe=recipe))
    assert (tmp_path / "run" / "weights.pt").read_bytes() == (tmp_path / "whole" / "weights.pt").read_bytes()
