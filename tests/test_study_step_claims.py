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
from jobs.comparison import budget
from jobs.study import step_claims
from jobs.study.claims import arms, clusters
from jobs.study.claims.arms import ADDED, REMOVED
from jobs.study.claims.verdicts import verdicts
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
    monkeypatch.setattr(arms, "TRIAL", 4)
    monkeypatch.setattr(budget, "TOLERANCE", 100.0)  # so short, BicycleGAN's schedule has too few updates
    config = step_claims.Config(
        shoes=side_by_side(tmp_path / "shoes", 20, 0),
        facades=side_by_side(tmp_path / "facades", 16, 1),
        weights="random",
        size=32,
        shoes_seeds=(0, 1),
        encoder_images=8,
        generator_images=16,
        finetune_images=8,
        switches=("use_vae", "loss_D_swap_z", "loss_z_l2"),
        limit=6,
        codes=128,
        mapper_epochs=2,
        folder=str(tmp_path / "out"),
    )
    first = step_claims.run(config)
    json.dumps(first)
    trained = ("stage2", "stage3", "stage2_more", "foreign", "random", "joint", "bicyclegan", "munit")
    for arm in (*trained, "switch-use_vae", "switch-loss_D_swap_z", "switch-loss_z_l2"):
        assert np.isfinite(first[f"shoes/{arm}/psnr"]) and first[f"facades/{arm}/psnr_spread"] == 0
    for claim in ("a", "b", "c", "d", "e/use_vae"):
        assert first[f"shoes/claim_{claim}"] in ("holds", "not", "seeds disagree", "seconds differ")
        assert len(first[f"shoes/claim_{claim}/db"]) == 2 and len(first[f"facades/claim_{claim}/db"]) == 1
    _what_starts_from_what(tmp_path / "out")
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("weights.pt")}
    assert len(made) > 30
    again = step_claims.run(config)
    assert {path: path.stat().st_mtime_ns for path in made} == made and again == first
    assert (tmp_path / "out" / "shoes" / "budget.json").exists()
    step_claims.run(replace(config, shoes_seeds=(1,), facades_seeds=()))  # by the budget of seed 0
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_what_is_wrong_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    for name, more, wanted in (
        ("switches", ("nosuch",), "--switches nosuch: choose among"),
        ("shoes_seeds", (1, 1), "each seed once"),
        ("facades_seeds", (-1,), "from 0 on"),
        ("generator_images", 0, "--generator-images 0: at least 2"),
        ("limit", 0, "--limit 0"),
        ("codes", 1, "--codes 1"),
    ):
        with pytest.raises(ValueError, match=wanted):
            step_claims.Config(shoes="", facades="", **{name: more})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="give --shoes-seeds or --facades-seeds"):
        step_claims.Config(shoes="", facades="", shoes_seeds=(), facades_seeds=())
    shoes = side_by_side(tmp_path / "shoes", 2, 0)
    config = step_claims.Config(
        shoes=shoes, facades=str(tmp_path / "none"), weights="random", folder=str(tmp_path / "o")
    )
    for changed, wanted in (
        (config, "--facades .*none: there is no such folder"),
        (replace(config, size=48), "--families bicyclegan.*: --size 48"),
    ):
        with pytest.raises(ValueError, match=wanted):
            step_claims.run(changed)
    assert not list((tmp_path / "o").rglob("*.pt"))


def _what_starts_from_what(out: Path) -> None:
    def parts(arm: str, part: str, of: str = "shoes") -> list[torch.Tensor]:
        family = checkpoint.restore(str(out / of / arm / "seed-1" / "train"))[0]
        return list(getattr(family, part).parameters())

    def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
        return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))

    own = parts("encoder", "encoder")
    untrained = models.step.build(replace(models.step.PRESETS["demo"], size=32, seed=1), Group())
    assert same(parts("stage2", "encoder"), own) and same(parts("stage2_more", "encoder"), own)
    assert same(parts("random", "encoder"), list(untrained.encoder.parameters()))
    assert same(parts("foreign", "encoder"), parts("encoder", "encoder", "facades"))
    assert not same(parts("foreign", "encoder"), own)
    assert not same(parts("stage3", "encoder"), own) and not same(parts("joint", "encoder"), own)
    for arm in ("stage3", "stage2_more"):
        assert not same(parts(arm, "generator"), parts("stage2", "generator"))
    assert not same(parts("encoder-use_vae", "encoder"), own)  # E is variational from its own training on
    described = {
        arm: json.loads((out / "shoes" / arm / "seed-1" / "train" / "recipe.json").read_text()) for arm in ARMS
    }
    started = {arm: one["inputs"].get("start", {}) for arm, one in described.items()}
    assert [sorted(one) for one in started.values()] == [["encoder"], *[["encoder", "generator"]] * 2, ["encoder"]]
    frozen = (out / "shoes" / "stage2" / "seed-1" / "train" / "stages" / "generator.pt").read_bytes()
    assert started["stage3"]["generator"] == started["stage2_more"]["generator"] == hashlib.sha256(frozen).hexdigest()
    vae = (out / "shoes" / "encoder-use_vae" / "seed-1" / "train" / "stages" / "encoder.pt").read_bytes()
    assert started["switch-use_vae"]["encoder"] == hashlib.sha256(vae).hexdigest()
    lengths = {arm: checkpoint.restore(str(out / "shoes" / arm / "seed-1" / "train"))[0].recipe for arm in ARMS}
    assert [lengths[arm].generator_images for arm in ARMS] == [16, 16, 16, 16]
    assert [lengths[arm].finetune_images for arm in ARMS] == [0, 8, 8, 8]


ARMS = ("stage2", "stage3", "stage2_more", "switch-use_vae")


def test_verdicts_count_the_seeds() -> None:
    def arm(*psnr: float, seconds: float = 100.0) -> dict[int, dict[str, float]]:
        """The seeds' seconds vary around their mean."""
        return {
            seed: {
                "psnr": value,
                "vgg_perceptual": 1.0,
                "cpu_seconds": seconds + 30 - 60 * seed,
                "cpu_seconds_with_encoder": 95.0 + 10 * seed,
            }
            for seed, value in enumerate(psnr)
        }

    found = {
        "stage2": arm(15.0, 15.0, seconds=80),
        "bicyclegan": arm(14.0, 15.05, seconds=109),
        "munit": arm(14.5, 13.0, seconds=91),
        "stage3": arm(15.5, 15.4),
        "stage2_more": arm(15.2, 15.5),
        "foreign": arm(14.0, 14.8),
        "random": arm(13.0, 13.0),
        "joint": arm(16.0, 14.0),
        "switch-use_vae": arm(15.6, 15.7),
        "switch-loss_z_l2": arm(15.0, 15.0),
    }
    made = verdicts("s", found)
    assert made["s/claim_a"] == "holds" and made["s/claim_a/db"] == [0.5, -0.05]  # within 0.1 dB: as good
    assert made["s/claim_b"] == "seeds disagree" and made["s/claim_b/db"] == [0.3, -0.1]
    assert made["s/claim_c"] == "not" and made["s/claim_c/db"] == [-1.0, -0.2]
    assert made["s/claim_d"] == "seeds disagree"
    assert made["s/claim_e/use_vae"] == "seeds disagree" and made["s/claim_e/use_vae/db"] == [-0.1, -0.3]
    assert made["s/without/loss_z_l2/db"] == [0.5, 0.4] and "s/without/loss_z_l2" not in made  # no claim, so no verdict
    failed = {**found, "switch-use_vae": {1: found["switch-use_vae"][1]}}  # its first seed
    assert verdicts("s", failed)["s/claim_e/use_vae/db"] == [-0.3]
    as_good = {**found, "foreign": arm(14.95, 14.95)}
    assert verdicts("s", as_good)["s/claim_c"] == "holds"
    assert verdicts("s", {**as_good, "random": arm(14.96, 14.0)})["s/claim_c"] == "seeds disagree"  # so is a random E
    for one in ("munit", "bicyclegan"):
        assert verdicts("s", {**found, one: arm(14.0, 14.0, seconds=111)})["s/claim_a"] == "seconds differ"
    assert verdicts("s", {**found, "joint": arm(14.0, 14.0, seconds=89)})["s/claim_d"] == "seconds differ"


def test_every_switch_changes_the_recipe_and_fits() -> None:
    base = models.step.PRESETS["demo"]
    for changes in {**REMOVED, **ADDED}.values():
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
