"""Micro-batches: k of them are one batch for every translation family without batch norm, on one rank and on two."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from models.bicyclegan import training
from models.bicyclegan.losses import divergence
from models.common.stepwise import Dealt, Stepwise
from models.group import Group
from tests.models.test_translation import CASES
from tests.models.translation import Data, built, largest_error, train, two_workers

OWN = [name for name, recipe in CASES.items() if getattr(recipe, "norm", "instance") != "batch"]
NORMED = [name for name in CASES if name not in OWN]


def cut() -> Group:
    return Group(accumulate=2)


def test_which_have_batch_norm() -> None:
    """pix2pix alone, by default; the others are exact."""
    assert {name.split("/")[0] for name in NORMED} == {"pix2pix"} and "pix2pix/labels" in OWN
    for name in CASES:
        family = built(name.split("/")[0], CASES[name])
        assert isinstance(family, Stepwise) and family.accumulates
        has = any(isinstance(m, torch.nn.BatchNorm2d) for m in family.modules())
        assert has == (name in NORMED)


@pytest.mark.parametrize("name", OWN)
def test_micro_batches_equal_the_batch(name: str) -> None:
    family, recipe = name.split("/")[0], CASES[name]
    whole = train(family, recipe, Group())
    counts = (2,) if family == "bicyclegan" else (2, 4)  # its samples go by twos
    for count in counts:
        errors = largest_error(whole, train(family, recipe, Group(accumulate=count)))
        assert max(errors.values()) < 1e-9, (count, errors)


def test_batch_norm_makes_it_another_step() -> None:
    recipe = dataclasses.replace(CASES["pix2pix"], dropped=())
    errors = largest_error(train("pix2pix", recipe, Group()), train("pix2pix", recipe, Group(accumulate=2)))
    assert errors["train"] > 1e-3


def test_the_comparison_sees_a_sum_taken_for_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train("bicyclegan", CASES["bicyclegan"], Group())
    monkeypatch.setattr(training, "divergence", lambda mean, logvar: divergence(mean, logvar) / 2)
    wrong = train("bicyclegan", CASES["bicyclegan"], Group(accumulate=2))
    assert largest_error(whole, wrong)["train"] > 1e-4


def test_two_ranks_of_two_micro_batches_equal_one_batch(tmp_path: Path) -> None:
    cases = {name: CASES[name] for name in ("flow", "munit", "pix2pix/labels", "bicyclegan")}
    cases["bicyclegan"] = dataclasses.replace(cases["bicyclegan"], batch=8)
    two = two_workers(cases, tmp_path, cut)
    for name, recipe in cases.items():
        errors = largest_error(train(name.split("/")[0], recipe, Group()), two[name])
        assert max(errors.values()) < 1e-9, (name, errors)


def test_what_happens_once_a_step_happens_once() -> None:
    one, many = (built("flow", CASES["flow"], Group(accumulate=count)).double() for count in (1, 4))
    for family in (one, many):
        family.enter("train")
        data = Data(family, "train", dtype=torch.float64)
        for i in range(3):
            family.update(data, 4 * i)
        assert int(family.average.count) == 3 and data.count == 3  # type: ignore[union-attr]
        assert int(next(iter(family.optimisers["generator"].state.values()))["step"]) == 3
    for a, b in zip(one.average.net.parameters(), many.average.net.parameters(), strict=True):  # type: ignore[union-attr]
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


def test_the_turn_ends_where_a_step_fails() -> None:
    family = built("pix2pix", CASES["pix2pix/labels"], Group(accumulate=2))
    family.enter("train")
    data = Data(family, "train")

    def wrong(stream: str) -> Any:
        batch = data(stream)
        batch["input"][2:] = 99  # of the second micro-batch
        return batch

    with pytest.raises(ValueError, match="class id 99"):
        family.update(wrong, 0)
    assert family.group.turn == 0
    assert float(family.update(data, 0)["loss"]) > 0


def test_draws_are_made_once_and_cut() -> None:
    calls = []

    def draw(stream: str) -> dict[str, torch.Tensor]:
        calls.append(stream)
        return {"x": torch.arange(6) + 10 * len(calls)}

    dealt = Dealt(draw, 3)
    parts = [dealt.part(number) for number in range(3)]
    assert [part("a")["x"].tolist() for part in parts] == [[10, 11], [12, 13], [14, 15]]
    assert [part("b")["x"].tolist() for part in reversed(parts)] == [[24, 25], [22, 23], [20, 21]]
    assert calls == ["a", "b"]


def test_graphs_are_freed_between_micro_batches() -> None:
    """pix2pixHD keeps nothing across its one yield: the saved tensors of one micro-batch at a time."""

    def peak(accumulate: int) -> int:
        family = built("pix2pixhd", CASES["pix2pixhd"], Group(accumulate=accumulate))
        family.enter("global")
        data, alive, most = Data(family, "global"), 0, 0

        class Saved:
            def __init__(self, x: torch.Tensor) -> None:
                nonlocal alive, most
                self.x, self.bytes = x, x.numel() * x.element_size()
                alive += self.bytes
                most = max(most, alive)

            def __del__(self) -> None:
                nonlocal alive
                alive -= self.bytes

        with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.x):
            family.update(data, 0)
        return most

    whole, quarter = peak(1), peak(4)
    assert quarter < 0.5 * whole  # weights are saved too, as often
