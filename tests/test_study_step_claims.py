"""jobs.study step-claims: its arms are what they say, verdicts count seeds, finished runs are kept."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import models.step
from jobs.comparison import runs
from jobs.study import step_claims
from jobs.study.claims import clusters
from jobs.study.claims.arms import SWITCHES
from jobs.study.step_claims import _verdicts
from models.group import Group
from pipeline.runs import checkpoint


def side_by_side(folder: Path, count: int, seed: int) -> str:
    """Pictures with the input on the right."""
    random = np.random.default_rng(seed)
    for split, n in (("train", count), ("val", 6)):
        (folder / split).mkdir(parents=True)
        for i in range(n):
            colour = random.integers(0, 255, 3)
            target = np.clip(colour + random.normal(0, 20, (32, 32, 3)), 0, 255)
            pair = np.concatenate([target, np.repeat(target.mean(2, keepdims=True), 3, 2)], 1)
            Image.fromarray(pair.astype(np.uint8)).save(folder / split / f"{i:03d}.png")
    return str(folder)


@pytest.mark.long
def test_the_study_runs_and_trains_no_run_twice(tmp_path: Path, no_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "TRIAL", 4)
    config = step_claims.Config(
        shoes=side_by_side(tmp_path / "shoes", 20, 0),
        facades=side_by_side(tmp_path / "facades", 16, 1),
        weights="random",
        size=32,
        shoes_seeds=(0, 1),
        encoder_images=8,
        generator_images=16,
        finetune_images=8,
        switches=("use_vae", "loss_D_swap_z"),
        limit=6,
        codes=128,
        mapper_epochs=2,
        folder=str(tmp_path / "out"),
    )
    first = step_claims.run(config)
    json.dumps(first)
    arms = ("stage2", "stage3", "stage2_long", "foreign", "random", "joint", "bicyclegan", "munit")
    for arm in (*arms, "switch-use_vae", "switch-loss_D_swap_z"):
        assert np.isfinite(first[f"shoes/{arm}/psnr"]) and first[f"facades/{arm}/psnr_spread"] == 0
    for claim in ("a", "b", "c", "d", "e/use_vae"):
        assert first[f"shoes/claim_{claim}"] in ("holds", "not", "seeds disagree")
        assert len(first[f"shoes/claim_{claim}/db"]) == 2 and len(first[f"facades/claim_{claim}/db"]) == 1
    _what_starts_from_what(tmp_path / "out")
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("weights.pt")}
    assert len(made) > 30
    again = step_claims.run(config)
    assert {path: path.stat().st_mtime_ns for path in made} == made and again == first
    with pytest.raises(ValueError, match="--switches nosuch: choose among"):
        step_claims.run(replace(config, switches=("nosuch",)))


def _what_starts_from_what(out: Path) -> None:
    def parts(arm: str, part: str, of: str = "shoes") -> list[torch.Tensor]:
        family = checkpoint.restore(str(out / of / arm / "seed-1" / "train"))[0]
        return list(getattr(family, part).parameters())

    def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
        return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))

    own = parts("encoder", "encoder")
    untrained = models.step.build(replace(models.step.PRESETS["demo"], size=32, seed=1), Group())
    assert same(parts("stage2", "encoder"), own) and same(parts("stage2_long", "encoder"), own)
    assert same(parts("random", "encoder"), list(untrained.encoder.parameters()))
    assert same(parts("foreign", "encoder"), parts("encoder", "encoder", "facades"))
    assert not same(parts("foreign", "encoder"), own)
    assert not same(parts("stage3", "encoder"), own) and not same(parts("joint", "encoder"), own)
    assert not same(parts("stage3", "generator"), parts("stage2", "generator"))
    described = {
        arm: json.loads((out / "shoes" / arm / "seed-1" / "train" / "recipe.json").read_text()) for arm in ARMS
    }
    started = {arm: one["inputs"].get("start", {}) for arm, one in described.items()}
    assert [sorted(one) for one in started.values()] == [["encoder"], ["encoder", "generator"], ["encoder"]]
    frozen = (out / "shoes" / "stage2" / "seed-1" / "train" / "stages" / "generator.pt").read_bytes()
    assert started["stage3"]["generator"] == hashlib.sha256(frozen).hexdigest()
    lengths = {arm: checkpoint.restore(str(out / "shoes" / arm / "seed-1" / "train"))[0].recipe for arm in ARMS}
    assert [lengths[arm].generator_images for arm in ARMS] == [16, 16, 24]
    assert [lengths[arm].finetune_images for arm in ARMS] == [0, 8, 0]


ARMS = ("stage2", "stage3", "stage2_long")


def test_verdicts_count_the_seeds() -> None:
    def arm(*psnr: float) -> dict[int, dict[str, float]]:
        return {seed: {"psnr": value} for seed, value in enumerate(psnr)}

    found = {
        "stage2": arm(15.0, 15.0),
        "bicyclegan": arm(14.0, 15.05),
        "munit": arm(14.5, 13.0),
        "stage3": arm(15.5, 15.4),
        "stage2_long": arm(15.2, 15.5),
        "foreign": arm(14.0, 14.8),
        "joint": arm(16.0, 14.0),
        "switch-x": arm(15.6, 15.7),
    }
    made = _verdicts("s", found)
    assert made["s/claim_a"] == "holds" and made["s/claim_a/db"] == [0.5, -0.05]  # within 0.1 dB: as good
    assert made["s/claim_b"] == "seeds disagree" and made["s/claim_b/db"] == [0.3, -0.1]
    assert made["s/claim_c"] == "not" and made["s/claim_c/db"] == [-1.0, -0.2]
    assert made["s/claim_d"] == "seeds disagree"
    assert made["s/claim_e/x"] == "seeds disagree" and made["s/claim_e/x/db"] == [-0.1, -0.3]


def test_every_switch_changes_the_recipe_and_fits() -> None:
    base = models.step.PRESETS["demo"]
    for changes in SWITCHES.values():
        changed = replace(base, **changes)
        models.step.check(changed, None)
        assert changed != base


def test_codes_of_known_clusters() -> None:
    """After one epoch the mapper knows nothing; the gaussian is what it is, and lies between the clusters."""
    short = clusters.measured(600, 1, 0)
    trained = clusters.measured(600, 60, 0)
    gaussian = [one["gaussian/near_a_cluster"] for one in (short, trained)]
    assert gaussian[0] == gaussian[1] < 0.02
    assert trained["mapper/near_a_cluster"] > 0.04 > 0.01 > short["mapper/near_a_cluster"]
    assert trained["mapper/captured"] == clusters.CLUSTERS


def test_the_clusters_own_codes_are_near_them() -> None:
    random: Any = np.random.default_rng(0)
    centres = random.normal(size=(6, 8))
    points = centres[np.arange(3000) % 6] + clusters.DEVIATION * random.normal(size=(3000, 8))
    from pipeline.evaluation.coverage import mode_figures

    found = mode_figures(points, centres, clusters.DEVIATION * 2.0)
    assert found.high_quality > 0.99 and found.captured == 6
