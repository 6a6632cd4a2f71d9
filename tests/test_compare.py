"""jobs.compare with tiny families: the same table for any workers and after a kill, reasons in place of figures, runs
below one parent, and figures equal to a naive second implementation's."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import models
from jobs import compare, shard
from jobs.comparison import runs
from jobs.comparison.rows import entry
from models.common.seeds import seeded
from models.family import Batch
from models.group import Group
from pipeline.data.order import picks
from pipeline.data.shards import DataSet
from pipeline.data.sources.colourings import COLOURINGS, HELD_OUT, SHOWN, layout
from pipeline.evaluation import cost
from pipeline.runs import checkpoint
from pipeline.training.job import Job
from pipeline.training.loop import fit
from tests.comparisons import FAMILIES, config, made_sets, rows

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return made_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def done(sets: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison in this process, in MLflow."""
    output = tmp_path_factory.mktemp("done")
    compare.run(config(sets, output, tracking=None))
    return output


def tables(output: Path) -> dict[str, bytes]:
    return {name: (output / "report" / name).read_bytes() for name in ("figures.csv", "summary.csv")}


def test_two_ray_workers_give_the_same_table(
    sets: dict[str, str], done: Path, tmp_path: Path, ray_cluster: None
) -> None:
    compare.run(config(sets, tmp_path, workers=2))
    assert tables(tmp_path) == tables(done)
    for name in ("pix2pix", "munit", "ids"):
        path = Path(name) / "seed-1" / "train" / "weights.pt"
        assert (tmp_path / path).read_bytes() == (done / path).read_bytes()


def test_killed_and_resumed_it_gives_the_same_table(sets: dict[str, str], done: Path, tmp_path: Path) -> None:
    """kill -9 once the first run is measured; the runs that were finished are not trained again."""
    words = ["--data", sets["image"], "--labels", sets["labels"], "--output", str(tmp_path), "--tracking", "off"]
    words += ["--families", *FAMILIES, "--seeds", "0", "1", "--updates", "4", "--size", "16", "--weights", "random"]
    words += ["--protocol", "own", "--inputs", "3", "--samples", "4", "--segmenter-steps", "5", "--sheet", "2"]
    first = tmp_path / "pix2pix" / "seed-0"
    command = [sys.executable, "-m", "jobs.compare", *words]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 300
    while not (first / "evaluation" / "cost.json").exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "report" / "made.json").exists()
    made = (first / "train" / "weights.pt").stat().st_mtime_ns
    compare.run(config(sets, tmp_path))
    assert (first / "train" / "weights.pt").stat().st_mtime_ns == made
    assert tables(tmp_path) == tables(done)


def test_the_same_command_again_does_nothing(sets: dict[str, str], done: Path) -> None:
    kinds = (".pt", ".html", ".png", ".csv")
    paths = [p for p in done.rglob("*") if p.suffix in kinds and p.parent.name != "pictures"]  # the journal's copies
    before = {path: path.stat().st_mtime_ns for path in paths}
    assert len(before) > 20
    compare.run(config(sets, done))
    assert {path: path.stat().st_mtime_ns for path in paths} == before


def test_the_page_follows_what_was_asked(sets: dict[str, str], done: Path, tmp_path: Path) -> None:
    """The same recipe in other words: the run is kept, the page says the new words."""
    trained = []
    for more in ("", ":size=16"):
        asked = f"{FAMILIES[0]}{more}"
        compare.run(config(sets, tmp_path, families=(asked,), seeds=(0,)))
        trained.append((tmp_path / "pix2pix" / "seed-0" / "train" / "weights.pt").stat().st_mtime_ns)
        assert f"Rows: {asked}.</p>" in (tmp_path / "report" / "index.html").read_text()
    assert trained[0] == trained[1]


def test_what_cannot_be_measured_says_why(sets: dict[str, str], done: Path, tmp_path: Path) -> None:
    cells = {one["family"]: one for one in rows(done)}
    assert cells["pix2pix"]["reconstruction_psnr"] == "" and cells["munit"]["reconstruction_psnr"] != ""
    assert all(one["segmentation_miou"] and one["modes"] and one["best_psnr"] for one in cells.values())
    page = (done / "report" / "index.html").read_text()
    assert "needs a family that reconstructs a target from its own code<small>pix2pix, ids: recon" in page
    plain = str(tmp_path / "plain")
    shard.run(shard.Config(source="demo", output=plain, size=16, crops=2, workers=0))
    compare.run(config({"image": plain, "labels": ""}, tmp_path / "out", families=FAMILIES[:1], seeds=(0,)))
    [only] = rows(tmp_path / "out")
    assert only["modes"] == only["segmentation_accuracy"] == "" and only["best_psnr"]
    page = (tmp_path / "out" / "report" / "index.html").read_text()
    assert "the data set has no field truths (array)" in page
    assert "no label maps of these pictures were given (--labels)" in page


def test_the_page_opens_without_a_server(done: Path) -> None:
    page = (done / "report" / "index.html").read_text()
    assert not re.search(r"<(script|link|iframe)|https?:|@import|url\(", page)
    sources = re.findall(r'(?:src|href)="([^"]{22})', page)
    assert sources == ["data:image/png;base64,"] * 2
    assert all(f">{n}<" in page for n in ("pix2pix", "munit", "ids")) and "RANDOM weights" in page


def test_every_run_lies_below_one_parent_in_mlflow(done: Path) -> None:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{done}/mlflow.db")
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()], max_results=100)
    [parent] = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    below = [run.info.run_name for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    wanted = [
        f"{n} seed {s}{what}" for n in ("pix2pix", "munit", "ids") for s in (0, 1) for what in ("", " evaluation")
    ]
    assert sorted(below) == sorted(wanted)
    files = {one.path for one in client.list_artifacts(parent.info.run_id)}
    assert {"index.html", "samples.png", "quality.png", "figures.csv", "costs.csv", "summary.csv"} <= files


def test_budgets_are_kept_and_printed(done: Path) -> None:
    for one in rows(done, "costs"):
        assert float(one["updates"]) == 4 and float(one["images"]) == 16
        assert float(one["cpu_seconds"]) > 0 and float(one["seconds_per_sample"]) > 0
    logged = cost.stage_seconds(str(done / "munit" / "seed-0" / "train"))
    assert logged["train"][0] == 16 and logged["train"][1] > 0


def journal(folder: Path, name: str, entries: list[tuple[int, float]]) -> str:
    lines = [json.dumps({"step": n, "values": {f"{name}/cpu_seconds_per_step": each}}) for n, each in entries]
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    return str(folder)


def test_a_slow_beginning_is_paid_but_not_typical(tmp_path: Path) -> None:
    """Nor are searches a beginning: conditional IMLE's are part of what its steps cost."""
    folder = journal(tmp_path, "train", [(20, 1.1), (40, 0.5), (50, 0.6)])
    assert cost.stage_seconds(folder) == {"train": (50, pytest.approx((20 * 1.1 + 20 * 0.5 + 10 * 0.6) / 50))}
    plain = models.load("pix2pix").build(models.load("pix2pix").PRESETS["tiny"], Group(alone=True))
    assert cost.typical_seconds(folder, plain) == {"train": (50, 0.6)}
    folder = journal(tmp_path, "imle", [(20, 6.1), (40, 0.2), (60, 0.3)])
    searching = models.load("imle").build(models.load("imle").PRESETS["tiny"], Group(alone=True))
    assert cost.typical_seconds(folder, searching) == {"imle": (60, pytest.approx(2.2))}


def given_of(number: int, labels: bool) -> Batch:
    """An input by the source's definition, not by the pipeline's."""
    ids = layout(HELD_OUT + number, 16)
    picture = torch.from_numpy(SHOWN[ids].transpose(2, 0, 1).astype(np.float32)) / 127.5 - 1
    given = torch.from_numpy(ids.astype(np.int64)) if labels else picture
    return {"index": torch.tensor([number]), "input": given[None]}


@pytest.mark.parametrize("name", ["pix2pix", "munit", "ids"])
def test_figures_equal_a_second_implementation(sets: dict[str, str], done: Path, name: str) -> None:
    """Best PSNR, diversity in L1, modes: by loops in NumPy over samples that are drawn anew."""
    [row] = [one for one in rows(done) if one["family"] == name and one["seed"] == "1"]
    family: Any = checkpoint.restore(str(done / name / "seed-1" / "train"))[0]
    [sampler] = family.samplers
    data = DataSet(sets["image"], "val")
    best, apart, modes, on = [], [], [], []
    for i in picks(8, 3):
        with torch.no_grad():
            drawn = family.sample(given_of(i, name == "ids"), 4, seeded(0, sampler, str(i)), sampler)[0].double()
        bytes_ = np.clip(np.round(drawn.float().numpy() * np.float32(127.5) + np.float32(127.5)), 0, 255).astype(float)
        truth = data.image(i, "target").transpose(2, 0, 1).astype(float)
        best.append(max(10 * np.log10(255**2 / ((one - truth) ** 2).mean()) for one in bytes_))
        apart += [np.abs(bytes_[k] - bytes_[k + 1]).mean() for k in range(3)]
        truths = COLOURINGS[:, layout(HELD_OUT + i, 16)].transpose(0, 3, 1, 2) / 127.5 - 1
        between = np.mean([((truths[a] - truths[b]) ** 2).mean() for a in range(4) for b in range(a)])
        near = [[((one - t) ** 2).mean() < 0.03 * between for t in truths] for one in drawn.numpy()]
        modes.append(sum(map(any, zip(*near, strict=True))))
        on.append(np.mean([any(one) for one in near]))
    assert float(row["best_psnr"]) == pytest.approx(np.mean(best), rel=1e-6)
    assert float(row["diversity_l1"]) == pytest.approx(np.mean(apart), rel=1e-6)
    assert float(row["modes"]) == np.mean(modes) and float(row["on_a_mode"]) == np.mean(on)
    assert float(row["diversity_l1"]) > 0


def test_parameters_are_those_that_a_sample_goes_through() -> None:
    given = given_of(0, False)
    for text, parts in {
        "pix2pix:tiny": ["generator"],
        "munit:tiny": ["generator_a.content_encoder", "generator_b.decoder"],
        "flow:tiny": ["average.net"],
    }.items():
        one = entry(text, 16)
        family: Any = models.load(one.family).build(one.recipe, Group(alone=True))
        counted = cost.generator_parameters(family, given)
        if one.family == "munit":
            known = {id(p) for net in (family.generator_a, family.generator_b) for p in net.parameters()}
            whole = sum(p.numel() for p in family.generator_a.parameters())
            style = sum(p.numel() for n, p in family.generator_b.named_parameters() if n.startswith("style"))
            assert counted == whole - style and known
        else:
            net = family.generator if one.family == "pix2pix" else family.average.net
            assert counted == sum(p.numel() for p in net.parameters()), parts


def test_a_run_that_fails_is_a_row_with_a_reason(
    sets: dict[str, str], done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the same command tries it again."""

    def failing(job: Job) -> str:
        if "munit/seed-1" in job.output:
            raise FloatingPointError("stage train: loss is nan")
        return fit(job)

    monkeypatch.setattr(runs, "fit", failing)
    compare.run(config(sets, tmp_path))
    cells = {(one["family"], one["seed"]): one for one in rows(tmp_path)}
    whole = {(one["family"], one["seed"]): one for one in rows(done)}
    assert len(cells) == 6 and set(cells.pop(("munit", "1")).values()) == {"munit", "1", ""}
    assert cells == {key: whole[key] for key in cells}
    page = (tmp_path / "report" / "index.html").read_text()
    assert "training failed: stage train: loss is nan" in page and "of 1 of 2 seeds" in page
    asked: list[tuple[str, int]] = []

    def each(*given: Any, **more: Any) -> Any:
        asked.append((more["what"], len(given[2])))
        return pool_each(*given, **more)

    pool_each = compare.pool.each
    monkeypatch.setattr(runs, "fit", fit)
    monkeypatch.setattr(compare.pool, "each", each)
    compare.run(config(sets, tmp_path))
    assert tables(tmp_path) == tables(done)
    assert asked == [("", 5), ("train and measure", 1)]
    monkeypatch.setattr(runs, "fit", failing)
    with pytest.raises(ValueError, match=r"munit: training failed: .* nan; nor could any other run be trained"):
        compare.run(config(sets, tmp_path / "none", families=FAMILIES[1:2], seeds=(1,)))
