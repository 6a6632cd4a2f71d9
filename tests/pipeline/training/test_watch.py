"""What a run reports: means over held-out batches of uneven sizes, scalars read late, the first that is not finite."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from models.family import Batch, Stage
from models.group import Group
from pipeline.data.order import picks
from pipeline.runs import checkpoint
from pipeline.training.job import Job, Run
from pipeline.training.watch import Watch, Window


class Data:
    fields: ClassVar[dict[str, Any]] = {}

    def __len__(self) -> int:
        return 5


class Five:
    """Five held-out samples whose value is their position."""

    data = Data()

    def centred(self, positions: Any, fields: Any, frame: Any) -> Batch:
        return {"index": torch.tensor(list(positions))}


class Mean:
    """Its figure is a batch's mean; `even` only where there is an even position."""

    recipe = SimpleNamespace(frame=(8, 8))

    def evaluate(self, batch: Batch) -> dict[str, float]:
        index = batch["index"].double()
        found = {"position": float(index.mean())}
        even = index[index % 2 == 0]
        return {**found, "even": float(len(even))} if len(even) == len(index) else found


def test_held_out_means_are_weighted_by_the_batches_sizes(tmp_path: Path) -> None:
    job = Job("x", SimpleNamespace(frame=(8, 8)), "", str(tmp_path), run=Run(evaluate_images=5))
    watch = Watch.__new__(Watch)
    watch.job, watch.family, watch.device = job, Mean(), torch.device("cpu")  # type: ignore[assignment]
    watch.held_out = Five()  # type: ignore[assignment]
    assert picks(5, 5) == [0, 1, 2, 3, 4]
    found = watch._evaluate(2)  # batches (0, 1), (2, 3), (4): a mean of means would be 2.33
    assert found["position"] == 2.0
    assert found["even"] == 1.0  # of the last batch alone


def test_a_stages_best_is_its_own_lowest_so_far_and_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, told = str(tmp_path), []
    watch = Watch.__new__(Watch)
    watch.job, watch.held_out = Job("x", SimpleNamespace(), "", folder), Five()  # type: ignore[assignment]
    watch.tracker = SimpleNamespace(scalars=lambda values, step: told.append((step, values)))  # type: ignore[assignment]
    watch.family, watch.signs = SimpleNamespace(signs=()), {}  # type: ignore[assignment]
    monkeypatch.setattr(Watch, "_preview", lambda *_: None)
    figures = [("a", 3.0), ("a", 2.0), ("a", 2.5), ("a", 2.0), ("b", 9.0), ("b", 10.0), ("b", 8.0), ("b", 8.5)]
    found = []
    for step, (name, value) in enumerate(figures, start=1):
        monkeypatch.setattr(Watch, "_evaluate", lambda *_, value=value: {"first": value, "second": -value})
        found.append(watch.look(Stage(name, 8, 2), step))
        checkpoint.save(folder, step, {"family": {}}, {"stage": name}, keep_last=1, figure=found[-1])
    assert found == [("first", 3), ("first", 2), None, None, ("first", 9), None, ("first", 8), None]
    assert told[2] == (6, {"a/held_out/first": 2.5, "a/held_out/second": -2.5})
    assert checkpoint.best(folder) == {
        "a": {"step": 2, "figure": "first", "value": 2.0},
        "b": {"step": 7, "figure": "first", "value": 8.0},
    }
    assert checkpoint.steps(folder) == [2, 7, 8]
    (tmp_path / "checkpoints" / "000000008.pt").unlink()
    assert checkpoint.steps(folder) == [2, 7]  # a marker alone is no checkpoint


def test_scalars_are_read_in_one_go_and_averaged_by_step() -> None:
    window = Window()
    window.add(0, {"a": torch.tensor(1.0), "b": torch.tensor(10.0, dtype=torch.float64)})
    window.add(1, {"a": torch.tensor(2.0)})
    assert window.read() is None and not window.full
    window.add(2, {"a": torch.tensor(6.0)})
    assert window.read() is None
    assert window.take(Group()) == ({"a": 3.0, "b": 10.0}, 0.0)
    assert window.take(Group()) == ({}, 0.0)
    window.add(2, {"a": torch.tensor(5.0)}, 0.5)
    window.add(3, {"a": torch.tensor(5.0)}, 1.0)
    window.read()
    assert window.take(Group()) == ({"a": 5.0}, 0.75)


def test_the_first_step_that_is_not_finite_is_named() -> None:
    window = Window()
    for step, value in enumerate([1.0, float("inf"), float("nan"), 1.0]):
        window.add(step, {"fine": torch.tensor(0.0), "loss": torch.tensor(value)})
    assert window.read() == (1, ["loss"])


def test_what_is_unread_is_bounded() -> None:
    window = Window()
    for step in range(Window.FULL):
        assert not window.full
        window.add(step, {"loss": torch.tensor(0.0)})
    assert window.full


@pytest.mark.parametrize("log_every", [1, 50])
def test_not_a_number_is_found_before_anything_is_saved(
    log_every: int, tiny_work: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scalars may lie unread for many steps: a checkpoint reads them first."""
    import models.imle
    from models.imle.training import IMLE
    from pipeline.training.loop import fit

    update = IMLE.update

    def breaks(self: IMLE, draw: Any, images: int) -> dict[str, torch.Tensor]:
        found = update(self, draw, images)
        return {**found, "loss": torch.tensor(torch.nan)} if images == 16 else found

    monkeypatch.setattr(IMLE, "update", breaks)
    run = Run(workers=0, threads=1, checkpoint_every=3, log_every=log_every, evaluate_every=100)
    job = Job("imle", models.imle.PRESETS["tiny"], tiny_work["data"], str(tmp_path), run=run)
    with pytest.raises(FloatingPointError, match=r"not finite at step 4 of stage imle: loss\. Last.*000000003\.pt"):
        fit(job)
    assert checkpoint.steps(str(tmp_path)) == [3]
