"""Early signs: they come for a made-up collapsed run and for a won game, once, and not for healthy ones."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import models.pix2pix
from models.common.adversarial import COLLAPSED, IGNORED, WON
from models.family import Draw
from models.pix2pix import Pix2Pix
from pipeline.training import signs
from pipeline.training.job import Job, Run
from pipeline.training.loop import fit
from pipeline.training.signs import READINGS, STEPS, Signs


def told(sign: Any, readings: list[tuple[int, float]]) -> list[int]:
    """Steps at which the sign is given."""
    seen = Signs([sign])
    return [done for done, value in readings if seen.read(done, {sign.figure: value})]


def every(ten: int, value: Any, end: int = 4000) -> list[tuple[int, float]]:
    return [(done, float(value(done))) for done in range(ten, end + 1, ten)]


def test_a_won_game_is_told_once_after_a_thousand_steps() -> None:
    assert told(WON, every(10, lambda _: 1.0)) == [10 + STEPS]
    noisy = every(10, lambda done: 0.999 - 0.01 * (done % 70 == 0))
    assert told(WON, noisy) == [10 + STEPS]  # single readings within the limit do not hide it


def test_healthy_games_are_not_told() -> None:
    assert told(WON, every(10, lambda done: 0.85 + 0.15 * math.sin(done / 300))) == []
    assert told(WON, every(10, lambda done: 1.0 if 1000 < done <= 1900 else 0.9)) == []  # ahead for 900 steps
    assert told(WON, every(10, lambda _: 0.985)) == []
    assert told(WON, every(10, lambda _: 0.0)) == []


def test_it_is_told_again_after_a_recovery() -> None:
    won = every(10, lambda done: 0.7 if 2000 < done <= 3000 else 1.0, 6000)
    # Of 101 readings three of 0.7 leave the mean above 0.99: those of steps 2980 to 3000.
    assert told(WON, won) == [1010, 3980]


def test_a_collapse_is_told_by_the_third_look() -> None:
    assert told(COLLAPSED, every(500, lambda _: 0.01)) == [1500]
    falls = every(500, lambda done: 0.8 if done <= 1500 else 0.01)
    assert told(COLLAPSED, falls) == [3000]
    assert told(COLLAPSED, every(2000, lambda _: 0.01, 8000)) == [2000 * READINGS]
    assert told(IGNORED, every(500, lambda _: 0.001)) == [1500]


def test_a_young_generator_is_no_collapse() -> None:
    assert told(COLLAPSED, every(500, lambda done: min(0.6, done / 8000))) == []  # 0.06 after 500 steps
    assert told(IGNORED, every(500, lambda done: 0.0005 if done <= 500 else 0.05)) == []


def test_figures_that_are_not_there_are_no_sign() -> None:
    assert not Signs([WON]).read(5000, {"loss": 1.0})


QUIET = Run(workers=0, threads=1, checkpoint_every=50, log_every=2, evaluate_every=4, evaluate_images=4)
RECIPE = replace(models.pix2pix.PRESETS["tiny"], epoch=48, decay_epochs=0)


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("sick", [False, True])
def test_the_loop_warns(
    sick: bool,
    tiny_work: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Twelve steps, a window of six. The sick run's G gives grey whatever it is asked, and its D is always right."""
    monkeypatch.setattr(signs, "STEPS", 6)
    if sick:
        update = Pix2Pix.update

        def won(self: Pix2Pix, draw: Draw, images: int) -> dict[str, torch.Tensor]:
            return {**update(self, draw, images), "discriminator_right": torch.tensor(1.0, dtype=torch.float64)}

        monkeypatch.setattr(Pix2Pix, "update", won)
        monkeypatch.setattr(Pix2Pix, "_run", lambda self, x, live: 0 * x + 0 * self.generator(x, live=live))
    fit(Job("pix2pix", RECIPE, tiny_work["data"], str(tmp_path), run=QUIET))
    printed, lines = capsys.readouterr().err, events(tmp_path)
    tags = {name: text for line in lines for name, text in line.get("tags", {}).items() if name.startswith("warning")}
    told = {name: line["step"] for line in lines for name in line.get("values", {}) if "/warning/" in name}
    if not sick:
        assert "warning" not in printed and not tags and not told
        return
    assert "warning: stage train, step 8: discriminator_right has been 1 " in printed
    assert "warning: stage train, step 12: held_out/spread has been 0 " in printed
    assert tags.keys() == {"warning.train.discriminator_right", "warning.train.held_out.spread"}
    assert tags["warning.train.held_out.spread"].endswith(COLLAPSED.says)
    assert told == {"train/warning/discriminator_right": 32, "train/warning/held_out/spread": 48}
