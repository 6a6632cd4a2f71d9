"""Checkpoints on disk: which count, which are kept, whose run they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from models.family import Facts, Recipe
from pipeline.runs import checkpoint


@dataclass(frozen=True)
class Small(Recipe):
    LENGTHS = ("images",)

    images: int = 8
    widths: tuple[int, ...] = (4, 2)


def state(value: float) -> checkpoint.State:
    return {"family": {"w": torch.tensor([value])}}


def test_a_state_comes_back_and_damage_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "weights")
    checkpoint.publish(path, state(1.5), {"stage": "a"})
    assert checkpoint.load(path + ".pt")["family"]["w"].item() == 1.5
    first = checkpoint.identity(str(tmp_path))
    checkpoint.publish(str(tmp_path / "again"), state(1.5), {})
    assert (tmp_path / "again.pt").read_bytes() == (tmp_path / "weights.pt").read_bytes()  # the name is not in it
    checkpoint.publish(path, state(2.5), {})
    assert checkpoint.identity(str(tmp_path)) != first
    data = bytearray((tmp_path / "weights.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "weights.pt").write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"weights\.pt does not match the sha256"):
        checkpoint.load(path + ".pt")
    checkpoint.publish(path, {"segmenter": {}}, {})
    with pytest.raises(ValueError, match="has no 'family' entry"):
        checkpoint.load(path + ".pt")


def test_the_last_ones_and_each_stages_best_are_kept(tmp_path: Path) -> None:
    folder = str(tmp_path)
    assert checkpoint.latest(folder) is None and checkpoint.latest_path(folder) is None
    for step, stage, figure in ((1, "a", 0.5), (2, "a", None), (3, "b", 0.9), (4, "b", None), (5, "b", None)):
        of = None if figure is None else ("l1", figure)
        checkpoint.save(folder, step, state(step), {"stage": stage}, keep_last=2, figure=of)
    assert checkpoint.steps(folder) == [1, 3, 4, 5]
    assert checkpoint.best(folder) == {
        "a": {"step": 1, "figure": "l1", "value": 0.5},
        "b": {"step": 3, "figure": "l1", "value": 0.9},
    }
    checkpoint.save(folder, 6, state(6), {"stage": "b"}, keep_last=2, figure=("l1", 0.8))
    assert checkpoint.steps(folder) == [1, 5, 6]  # 3 is no longer its stage's best
    latest = checkpoint.latest(folder)
    assert latest is not None and latest["family"]["w"].item() == 6
    (tmp_path / "checkpoints/000000006.json").unlink()  # killed before the marker
    assert str(checkpoint.latest_path(folder)).endswith("000000005.pt")


def test_a_recipe_comes_back_and_what_is_none_is_refused() -> None:
    recipe = Small(images=3, widths=(1,))
    value = checkpoint.recipe_json(recipe)
    assert value["widths"] == [1] and checkpoint.recipe_from(Small, value) == recipe
    with pytest.raises(ValueError, match="unknown fields depth"):
        checkpoint.recipe_from(Small, {**value, "depth": 1})
    with pytest.raises(ValueError, match="not a recipe of"):
        checkpoint.recipe_from(Small, {**value, "images": "many"})


def test_a_run_is_claimed_once_and_its_length_may_grow(tmp_path: Path) -> None:
    folder, recipe = str(tmp_path), Small()

    def claim(recipe: Recipe, family: str = "small", data: str = "d") -> None:
        checkpoint.claim(folder, family, recipe, {"dataset": data}, Facts())

    claim(recipe)
    claim(replace(recipe, widths=(8,)), data="e")  # nothing was saved yet
    claim(recipe)
    checkpoint.save(folder, 1, state(1), {"stage": "a"}, keep_last=2)
    claim(replace(recipe, images=9))
    with pytest.raises(ValueError, match=r"images is 9 there, 8 wanted \(a length may only grow\)"):
        claim(recipe)
    for changes, told in (
        ({"recipe": replace(recipe, images=9, widths=(8,))}, r"widths is \[4, 2\] there, \[8\] wanted"),
        ({"recipe": replace(recipe, images=9), "family": "other"}, r"run: family is small there, other wanted\. C"),
        ({"recipe": replace(recipe, images=9), "data": "e"}, "dataset is 'd' there, 'e' wanted"),
    ):
        with pytest.raises(ValueError, match=told):
            claim(**changes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no final weights yet \(stages finished: none\)"):
        checkpoint.restore(folder)
