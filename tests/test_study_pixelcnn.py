"""The study of PixelCNN with networks of a few features on a few made-up pictures."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from jobs.study import pixelcnn as study
from jobs.study.pixels import codes, digits, runs
from models import pixelcnn
from models.common.seeds import seeded
from models.family import Facts
from models.group import Group
from models.pixelcnn import PixelCNN

SMALL: dict[str, Any] = {"features": 4, "layers": 1, "head_features": 4, "encoder_features": 2, "batch": 8}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    def recipe_of(preset: str, images: int, **changes: Any) -> pixelcnn.Config:
        return replace(runs.recipe_of(preset, images, **changes), **SMALL, dilations=(1,))

    monkeypatch.setattr(digits, "recipe_of", recipe_of)
    monkeypatch.setattr(codes, "recipe_of", recipe_of)
    monkeypatch.setattr(digits, "EACH", 2)
    monkeypatch.setattr(codes, "DRAWN", 1)
    monkeypatch.setattr(codes, "ROWS", 2)


@pytest.fixture
def sets(tmp_path: Path) -> dict[str, str]:
    random = np.random.default_rng(0)
    x = {split: random.integers(0, 256, (n, 28, 28), dtype=np.uint8) for split, n in (("train", 80), ("test", 20))}
    y = {split: np.arange(len(one)) % 10 for split, one in x.items()}
    np.savez(tmp_path / "digits.npz", **{f"x_{s}": x[s] for s in x}, **{f"y_{s}": y[s] for s in y})
    for split, count in (("train", 24), ("val", 8)):
        (tmp_path / "shoes" / split).mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(0, 256, (32, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "shoes" / split / f"{i}.png")
    return {"mnist": str(tmp_path / "digits.npz"), "shoes": str(tmp_path / "shoes")}


@pytest.mark.long
def test_all_of_it(small: None, sets: dict[str, str], tmp_path: Path, no_ray: None) -> None:
    lengths = {"images": 32, "binary_images": 32, "code_images": 32, "encoder_images": 24, "style_images": 16}
    given: dict[str, Any] = {**sets, **lengths, "folder": str(tmp_path / "study"), "weights": "random"}
    config = study.Config(**given, held_out=20, judge_images=128)
    found = study.run(config)
    assert all(np.isfinite(found[name]) for name in study.FIGURES), found
    # Noise of 256 levels costs 8 bits, of two levels ln 2 nats a pixel; without the class at most log2 10 / 784 more.
    assert found["grey_bits_per_dim"] == pytest.approx(8, abs=0.3)
    assert found["binary_nats"] == pytest.approx(784 * np.log(2), rel=0.1)
    assert -0.02 < found["grey_class_gain"] <= 0.0043  # at most log2(10) bits an image
    pictures = {p.stem.rpartition("-")[0] for p in (tmp_path / "study" / "pictures").iterdir()}
    assert pictures == {"digits-by-class", "digits-between", "digits-decodings", "shoes-by-style"}
    spent = json.loads((tmp_path / "study" / "digits-class-seconds.json").read_text())
    again = study.run(config)
    assert again == found  # nothing is trained again, CPU seconds included
    assert spent["cpu_seconds"] == found["grey_cpu_seconds"] > 0


def test_what_the_class_saves_beside_the_mean_over_the_classes() -> None:
    recipe = replace(pixelcnn.PRESETS["tiny-class"], levels=256)
    facts = {"class": {"kind": "class", "classes": 10}}
    family = pixelcnn.build(recipe, Group(), None, Facts(30, facts))
    assert isinstance(family, PixelCNN)
    batch = {
        "target": torch.randint(0, 256, (3, 1, 8, 8), generator=seeded("x")) / 127.5 - 1,
        "class": torch.tensor([1, 2, 3]),
        "index": torch.arange(3),
    }
    each = torch.stack([family.log_prob({**batch, "class": torch.full((3,), c)}).exp() for c in range(10)])
    own = each[batch["class"], torch.arange(3)]
    wanted = (own.log2() - each.mean(0).log2()) / 64
    assert torch.allclose(digits._class_gain(family, batch), wanted, rtol=1e-9, atol=1e-15)


def test_the_judge_learns(tmp_path: Path) -> None:
    """Ten bars, each at a place of its own."""
    x = np.zeros((200, 28, 28), np.uint8)
    y = np.arange(200) % 10
    for i, c in enumerate(y):
        x[i, :, 2 * c + 3 : 2 * c + 5] = 255
    path = str(tmp_path / "bars.npz")
    np.savez(path, x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    judge = digits.Judge(path, 4000)
    pictures = torch.from_numpy(x)[:, None].float() / 127.5 - 1
    assert judge.accuracy(pictures, torch.from_numpy(y)) > 0.95
    assert judge.accuracy(pictures, (torch.from_numpy(y) + 1) % 10) < 0.05


@pytest.mark.parametrize(
    ("option", "value"), [("binary_images", -1), ("style_images", 0), ("encoder_images", 0), ("judge_images", 63)]
)
def test_lengths_are_checked_before_anything_is_made(option: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"--{option.replace('_', '-')} {value}: give at least"):
        study.Config(**{option: value})
