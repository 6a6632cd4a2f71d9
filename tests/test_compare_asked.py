"""What is asked of jobs.compare: rows, budgets, and what is refused before hours of work."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import models
from jobs import compare, shard
from jobs.comparison import budget, runs
from jobs.comparison.budget import _by_seconds
from jobs.comparison.rows import entries, entry
from jobs.comparison.runs import refuse_at_once
from models.group import Group
from pipeline.evaluation import cost
from pipeline.evaluation.setting import Options
from pipeline.training.job import Job
from pipeline.training.loop import fit
from tests.comparisons import FAMILIES, config, made_sets, rows


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return made_sets(tmp_path_factory.mktemp("sets"))


def test_rows_are_presets_changed_and_stretched() -> None:
    made = entry("z=pix2pix:tiny:code=8,dropped=[1,2],game=lsgan", 16)
    assert (made.name, made.family) == ("z", "pix2pix")
    recipe: Any = made.recipe
    assert (recipe.code, recipe.dropped, recipe.game, recipe.size) == (8, (1, 2), "lsgan", 16)
    assert made.of(40, "updates").length == cost.Length(40, 160)
    assert made.of(80, "images").length == cost.Length(20, 80)
    step = entry("step:tiny", 16)
    longer: Any = step.of(24, "updates").recipe
    assert (longer.generator_images, longer.finetune_images, longer.encoder_images) == (48, 48, 48)
    assert (longer.generator_constant, longer.mapper_epochs) == (24, 10)  # the schedule with it, not the mapper
    assert entry("imle:tiny", 16).length == cost.Length(12, 48)
    for text, wanted in {
        "pix2pix": r"--families pix2pix: wanted \[NAME=\]FAMILY:PRESET",
        "nosuch:tiny": "no family 'nosuch'",
        "pix2pix:nosuch": "no preset 'nosuch'",
        "pix2pix:tiny:wings=2": "--families pix2pix:tiny:wings=2: pix2pix has no field 'wings'",
        "pix2pix:tiny:levels=many": "levels",
        "pix2pix:small": "--size 16: must be a multiple of 128",
        "imle:paper": "its pictures are not square; add aspect=1",
        "pix2pix:tiny:size=32": "all rows have the same; give --size",
        "pix2pix:tiny:seed=1": "all rows have the same; give --seeds",
        "report=pix2pix:tiny": "report is no name for a row",
        "..=pix2pix:tiny": r"\.\. is no name for a row",
    }.items():
        with pytest.raises(ValueError, match=wanted):
            entry(text, 16)
    with pytest.raises(ValueError, match="flow is there twice; write NAME=flow"):
        entries(("flow:tiny", "flow:tiny"), 16)


def test_seconds_become_updates() -> None:
    """StEP's mapper takes what it takes; the other stages share the rest in proportion."""
    step = entry("step:tiny", 16)
    stages: Any = models.load("step").build(step.recipe, Group(alone=True)).stages
    [batch] = [stage.batch for stage in stages if stage.name == "mapper"]
    assert batch > 1
    measured = {"encoder": (4, 1.0), "generator": (8, 2.0), "finetune": (8, 3.0), "mapper": (200 * batch, 0.05)}
    stretched: Any = _by_seconds(step, 74.0, measured).recipe  # 4 steps of each stage: 4 + 8 + 12; the mapper: 10
    assert stretched.generator_images == round(16 * 64 / 24) and stretched.encoder_images == round(16 * 64 / 24)
    with pytest.raises(ValueError, match="--seconds 9: step takes 10 for what does not grow"):
        _by_seconds(step, 9.0, measured)
    [row] = entries(("pix2pix:small",), 128)  # 12 + 12 epochs, each of at least one update: a second each
    assert _by_seconds(row, 24.0, {"train": (4, 1.0)}).length.updates == 24
    with pytest.raises(ValueError, match="--seconds 8: the schedule of pix2pix comes to 24 s; give more"):
        _by_seconds(row, 8.0, {"train": (4, 1.0)})
    with pytest.raises(ValueError, match="no stage of it trains the generator"):
        entry("flow:tiny:images=0", 16).of(4, "updates")


def test_a_budget_in_seconds_is_measured_once(sets: dict[str, str], tmp_path: Path) -> None:
    short = config(sets, tmp_path, families=FAMILIES[:1], seeds=(0,), updates=0, seconds=0.4)
    compare.run(short)
    measured = tmp_path / "pix2pix" / "trial" / "seconds.json"
    [(images, each)] = json.loads(measured.read_text()).values()
    assert images >= 12 * 4
    [row] = rows(tmp_path, "costs")
    assert float(row["updates"]) == pytest.approx(0.4 / each, rel=0.15, abs=4)
    before = measured.stat().st_mtime_ns
    compare.run(short)
    assert measured.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="Choose another --output"):  # how long another network takes is not known
        compare.run(replace(short, families=("pix2pix:tiny:width=6",)))


def test_budgets_and_data_that_are_none_are_refused(sets: dict[str, str], tmp_path: Path) -> None:
    for more, wanted in (
        ({"updates": 0}, "give one budget, --updates, --images or --seconds, not none"),
        ({"images": 5}, r"not --updates 4, --images 5"),
        ({"source": "demo"}, "either --data or --source"),
        ({"families": ()}, "give --families"),
        ({"updates": 0, "seconds": float("nan")}, "give one budget"),
        ({"seeds": (0, 0)}, "--seeds 0 0: give each once"),
        ({"seeds": (0, -1)}, "--seeds 0 -1: give each once, from 0 on"),
        ({"resize": 16}, "--resize go with --source"),
        ({"samplers": ("prior",)}, "--samplers: each family is measured by its first way"),
    ):
        with pytest.raises(ValueError, match=wanted):
            config(sets, tmp_path, **more)
    with pytest.raises(ValueError, match="its inputs are label maps, this family reads pictures"):
        compare.run(replace(config(sets, tmp_path, families=("flow:tiny",)), data=sets["labels"]))
    with pytest.raises(ValueError, match="--labels: families that read label maps need"):
        compare.run(replace(config(sets, tmp_path), labels=""))


def test_a_budget_that_a_schedule_cannot_keep_is_refused() -> None:
    """pix2pix has 12 + 12 epochs, each of at least one update."""
    [row] = entries(("pix2pix:small",), 128)
    with pytest.raises(ValueError, match=r"--updates 4: the schedule of pix2pix comes to 24 updates; give more"):
        row.within(4, "updates")
    assert abs(row.within(1000, "updates").length.updates - 1000) <= 100


def test_data_sets_of_other_pictures_are_refused(sets: dict[str, str], tmp_path: Path) -> None:
    fewer = str(tmp_path / "fewer")
    option = {"size": "16", "count": "16", "held_out": "6", "input": "labels"}
    shard.run(shard.Config(source="colourings", option=option, output=fewer, workers=0))
    with pytest.raises(ValueError, match=r"--labels: not of the same pictures as --data.*split val"):
        compare.run(replace(config(sets, tmp_path / "out"), labels=fewer))
    with pytest.raises(ValueError, match=r"--labels .*: 2 keys are missing"):  # for the segmenter alone
        compare.run(replace(config(sets, tmp_path / "out", families=FAMILIES[:1]), labels=fewer))
    assert not list((tmp_path / "out").rglob("*.pt"))
    with pytest.raises(ValueError, match="labels is no name for a row here"):
        named = config(sets, tmp_path / "out", families=("labels=pix2pix:tiny",), data="", labels="", source="demo")
        compare.run(named)


def test_pictures_that_are_not_square_are_cut_in_one_way(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / "wide" / split).mkdir(parents=True)
        for i in range(4):  # only the last one is wide
            Image.new("RGB", (48 if i == 3 else 32, 16), (60 * i, 9, 9)).save(tmp_path / "wide" / split / f"{i}.png")
    data = str(tmp_path / "data")
    shard.run(shard.Config(source=str(tmp_path / "wide"), input_side="left", output=data, workers=0))
    reads = dict.fromkeys(("pix2pix", "munit", "flow"), data)
    options = Options(weights="random")
    with pytest.raises(ValueError, match="cut in different ways, pix2pix by stretch, munit by cover; add fit=stretch"):
        refuse_at_once(entries(("pix2pix:tiny", "munit:tiny:pairing=paired"), 16), reads, data, "", "val", options)
    alike = entries(("pix2pix:tiny", "munit:tiny:pairing=paired,fit=stretch"), 16)
    refuse_at_once(alike, reads, data, "", "val", options)


def test_a_longer_run_that_fails_is_not_the_shorter_one(
    sets: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """flow has only lengths to stretch: the same folder goes on."""
    asked = config(sets, tmp_path, families=("flow:tiny", "pix2pix:tiny"), seeds=(0,))
    compare.run(replace(asked, families=("flow:tiny",)))

    def failing(job: Job) -> str:
        if "flow" in job.output:
            raise FloatingPointError("stage train: loss is nan")
        return fit(job)

    monkeypatch.setattr(runs, "fit", failing)
    compare.run(replace(asked, updates=8))
    flow, pix2pix = rows(tmp_path)
    assert set(flow.values()) == {"flow", "0", ""} and pix2pix["best_psnr"]
    monkeypatch.setattr(runs, "fit", fit)
    compare.run(replace(asked, updates=8))
    assert [float(one["updates"]) for one in rows(tmp_path, "costs")] == [8, 8]
    monkeypatch.setattr(budget, "fit", failing)
    with pytest.raises(ValueError, match=r"--families flow: its trial failed .*; change or drop it"):
        compare.run(replace(asked, updates=0, seconds=1.0))
