"""Figures of samples against loops over a family with known samples; labels of the same photographs; and the job."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import models.imle
from jobs import evaluate, sample, shard
from models.common.vgg import VGG
from models.family import Batch, Family
from pipeline.artifacts import progress
from pipeline.data.palettes import KNOWN
from pipeline.data.shards import DataSet
from pipeline.evaluation import measures, metrics, protocol
from pipeline.runs import checkpoint
from pipeline.tracking.journal import Tracker
from pipeline.training.job import Job, Run
from pipeline.training.loop import fit


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)


class Noise(Family):
    """Samples are noise, and it is noted how many are asked for at once."""

    samplers = ("prior",)

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def sample(self, given: Batch, count: int, generator: torch.Generator, sampler: str = "") -> Tensor:
        self.asked.append(count)
        return torch.rand(len(given["input"]), count, 3, 8, 8, generator=generator)


def test_samples_are_drawn_a_few_at_a_time_and_all_differ() -> None:
    family = Noise()
    drawn = protocol.draw(family, {"input": torch.zeros(1, 3, 8, 8)}, 50, torch.Generator().manual_seed(0), "prior")
    assert family.asked == [20, 20, 10]
    assert len(torch.unique(drawn.flatten(1), dim=0)) == 50


def test_protocols_are_the_published_ones() -> None:
    counts = {name: (p.inputs, p.samples, p.inputs * p.compared) for name, p in protocol.PROTOCOLS.items()}
    assert counts == {"bicyclegan": (100, 20, 1900), "imle": (100, 80, 4000)}


@pytest.mark.parametrize("pairs", ["consecutive", "disjoint"])
def test_judging_equals_the_loop(pairs: metrics.Pairs) -> None:
    vgg = VGG("vgg19", ("relu1_2",)).random(0)
    samples, truth = normal(3, 6, 3, 8, 8), normal(3, 3, 8, 8, seed=1)
    largest: list[int] = []

    def gap(a: Tensor, b: Tensor) -> Tensor:
        largest.append(len(a))
        return (a - b).square().mean((1, 2, 3))

    found, seen = protocol.judge(zip(samples, truth, strict=True), {"gap": protocol.batched(gap)}, pairs, vgg)
    near, mean, spread, best = [], [], [], []
    places = [(j, j + 1) for j in range(5)] if pairs == "consecutive" else [(0, 1), (2, 3), (4, 5)]
    for i in range(3):
        each = [float((samples[i, j] - truth[i]).square().mean()) for j in range(6)]
        near.append(min(each))
        mean.append(np.mean(each))
        levels = [np.clip(np.round(127.5 + 127.5 * x.double().numpy()), 0, 255) for x in (*samples[i], truth[i])]
        best.append(max(10 * np.log10(255**2 / ((one - levels[-1]) ** 2).mean()) for one in levels[:-1]))
        spread.append(np.mean([float((samples[i, j] - samples[i, k]).square().mean()) for j, k in places]))
    wanted = {"diversity_gap": spread, "nearest_of_6_gap": near, "mean_gap_to_truth": mean, "best_of_6_psnr": best}
    assert found == pytest.approx({name: np.mean(values) for name, values in wanted.items()}, rel=1e-5)
    assert torch.allclose(seen, vgg(samples.flatten(0, 1))["relu1_2"].mean((2, 3)), atol=1e-5)
    protocol.batched(gap)(samples[0].repeat(9, 1, 1, 1), samples[0].repeat(9, 1, 1, 1))
    assert max(largest) == protocol.BATCH


COLOURS = np.array(KNOWN["facades"].colours, np.uint8)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory, inline: Any) -> Iterator[dict[str, str]]:
    """Side-by-side pictures as label maps, as painted pictures, in another size, with one sample less; and others."""
    from pipeline.artifacts import pool

    root = tmp_path_factory.mktemp("sets")
    for name, shift in (("source", 0), ("others", 1)):
        for split, count in (("train", 12), ("val", 6)):
            (root / name / split).mkdir(parents=True)
            for i in range(count):
                random = np.random.default_rng([count, i, shift])
                ids = random.integers(0, 12, (4, 4)).repeat(4, 0).repeat(4, 1)
                photograph = (COLOURS[ids] // 2 + random.integers(0, 60, (16, 16, 3))).astype(np.uint8)
                Image.fromarray(np.concatenate([photograph, COLOURS[ids]], 1)).save(root / name / split / f"{i}.png")
    (root / "fewer" / "val").mkdir(parents=True)
    for i in range(5):
        (root / "fewer" / "val" / f"{i}.png").write_bytes((root / "source" / "val" / f"{i}.png").read_bytes())
    options = {
        "labels": {"palette": "facades"},
        "pictures": {},
        "small": {"palette": "facades", "resize": 8},
        "fewer": {"palette": "facades", "source": "fewer"},
        "others": {"palette": "facades", "source": "others"},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "each", inline)
        for name, given in options.items():
            source = str(root / given.pop("source", "source"))
            shard.run(
                shard.Config(source=source, output=str(root / f"set-{name}"), input_side="right", workers=1, **given)
            )
    yield {name: str(root / f"set-{name}") for name in options}


@pytest.fixture(scope="module")
def run(sets: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tiny run on label maps and one on the painted pictures."""
    tiny = replace(models.imle.PRESETS["tiny"], imle_images=8, settle_images=0)
    found = {}
    for kind, condition in (("labels", "labels"), ("pictures", "image")):
        folder = tmp_path_factory.mktemp(kind)
        recipe = replace(tiny, condition=condition, labels=12, other=False)
        fit(Job("imle", recipe, sets[kind], str(folder), run=Run(workers=0, threads=1)))
        found[kind] = str(folder)
    return found


def config(run: str, data: str, output: Path, **changes: Any) -> evaluate.Config:
    given = evaluate.Config(run=run, data=data, output=str(output), weights="random", segmenter_steps=2)
    return replace(given, net="vgg19", layers=("relu1_2",), **changes)


def test_evaluation_of_a_run_on_label_maps(run: dict[str, str], sets: dict[str, str], tmp_path: Path) -> None:
    with Tracker(str(tmp_path / "tracked"), None, job="evaluation", name="evaluation") as tracker:
        figures = evaluate.run(config(run["labels"], sets["labels"], tmp_path, inputs=4, samples=3, sheet=2), tracker)
    lines = [json.loads(line) for line in (tmp_path / "tracked" / "metrics.jsonl").read_text().splitlines()]
    told = {name: value for line in lines for name, value in line.get("values", {}).items()}
    assert told == {name: value for name, value in figures.items() if isinstance(value, float)}
    assert (tmp_path / "tracked" / "pictures" / "samples-prior-0.png").exists()
    assert json.loads((tmp_path / "evaluation.json").read_text())["figures"] == figures
    perceptual = "vgg_perceptual-vgg19-relu1_2-random0"
    names = {f"prior/{n}_{d}" for n in ("diversity_own-4x2", "nearest_of_3") for d in ("pixels_l1", perceptual)}
    names |= {"prior/best_of_3_psnr", "prior/density_vgg_k5", "prior/coverage_vgg_k5"}
    names |= {f"prior/mean_{d}_to_truth" for d in ("pixels_l1", perceptual)} | {"prior/diversity_protocol", "images"}
    names |= {f"prior/{n}_vgg_k3" for n in ("precision", "recall")} | {"prior/recall_vgg_k3_of_3"}
    names |= {f"segmenter_{n}_real" for n in ("accuracy", "miou")}
    names |= {f"prior/segmentation_{n}" for n in ("accuracy", "miou")}
    assert figures.keys() == names
    assert figures["prior/diversity_protocol"] == "own: 4 inputs x 3 samples, 2 consecutive pairs of each, 8 in all"
    for distance in ("pixels_l1", perceptual):
        assert 0 < figures[f"prior/nearest_of_3_{distance}"] < figures[f"prior/mean_{distance}_to_truth"]
    assert (tmp_path / "samples-prior.png").exists()
    assert evaluate.run(config(run["labels"], sets["labels"], tmp_path, inputs=4, samples=3)) == figures


def test_figures_and_sheets_are_kept_for_the_same_weights_data_and_options(
    run: dict[str, str],
    sets: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    counted = []

    def measured(setting: Any) -> measures.Found:
        counted.append(setting)
        return measures.Found({"images": float(len(counted))}, {"samples-prior": Image.new("RGB", (4, 4))})

    monkeypatch.setattr(evaluate, "measure", measured)
    asked = config(run["labels"], sets["labels"], tmp_path / "a")
    with Tracker(str(tmp_path / "tracked"), None, job="evaluation", name="evaluation") as tracker:
        assert [evaluate.run(asked, tracker)["images"] for _ in range(3)] == [1, 1, 1]
    assert (tmp_path / "tracked" / "pictures" / "samples-prior-0.png").exists() and capsys.readouterr().err == ""
    assert evaluate.run(replace(asked, data=sets["others"]))["images"] == 2
    assert "a is made anew: data differs" in capsys.readouterr().out
    assert evaluate.run(replace(asked, data=sets["others"], seed=1))["images"] == 3
    assert "a is made anew: seed differs" in capsys.readouterr().out
    identity = checkpoint.identity
    monkeypatch.setattr(checkpoint, "identity", lambda *given: identity(*given) + "x")
    assert evaluate.run(replace(asked, data=sets["others"], seed=1))["images"] == 4
    assert "a is made anew: run differs" in capsys.readouterr().out
    weights = tmp_path / "vgg.pth"
    for number, content in enumerate((b"1", b"2")):
        weights.write_bytes(content)
        assert evaluate.run(replace(asked, weights=str(weights), data=sets["others"], seed=1))["images"] == 5 + number
        assert "a is made anew: weights differs" in capsys.readouterr().out


def test_samples_are_kept_and_those_of_a_folder_made_anew(
    run: dict[str, str], sets: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = []
    drawn, request = sample._draw, sample._request

    def draw(*given: Any) -> list[str]:
        counted.append(given)
        return drawn(*given)

    monkeypatch.setattr(sample, "_draw", draw)
    asked = sample.Config(run=run["pictures"], data=sets["pictures"], output=str(tmp_path / "a"), count=2)
    paths = sample.run(asked)
    assert sample.run(asked) == paths == [f"{tmp_path}/a/samples-prior.png"] and len(counted) == 1
    sample.run(replace(asked, count=1))
    sample.run(replace(asked, count=1, workers=2))  # who draws changes nothing
    assert len(counted) == 2
    fingerprint = DataSet(sets["pictures"]).fingerprint
    monkeypatch.setattr(sample, "_request", lambda config: {**request(config), "data": fingerprint + "x"})
    sample.run(replace(asked, count=1))
    monkeypatch.setattr(sample, "_request", request)
    assert len(counted) == 3
    pictures = replace(asked, data="", inputs=str(Path(sets["pictures"]).parent / "source" / "val"))
    sample.run(pictures)
    sample.run(pictures)  # they may have changed
    assert len(counted) == 5
    sample.run(asked)  # what lies there now is the folder's
    assert len(counted) == 6


def test_progress_is_shown_while_samples_are_drawn_and_measured(
    run: dict[str, str],
    sets: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("FIRST", "EVERY"):
        monkeypatch.setattr(progress, name, 0.0)
    monkeypatch.setattr(progress, "BEAT", 0.0005)
    evaluate.run(config(run["labels"], sets["labels"], tmp_path / "a", inputs=4, samples=3))
    told = capsys.readouterr().err
    for what in ("train the segmenter: 0 of 2 steps", "samples: prior: 0 of 4 inputs", "held-out samples: 0 of 1"):
        assert what in told, what
    sample.run(sample.Config(run=run["labels"], data=sets["labels"], output=str(tmp_path / "b"), count=8))
    told = capsys.readouterr().err
    assert "samples: prior: 0 of 6 inputs" in told and "left" in told


def test_labels_of_a_run_on_pictures(run: dict[str, str], sets: dict[str, str], tmp_path: Path) -> None:
    given = config(run["pictures"], sets["pictures"], tmp_path / "a", protocol="imle", sheet=0)
    figures = evaluate.run(given)
    assert not [name for name in figures if "segment" in name] and not list((tmp_path / "a").glob("*.p[tn]*"))
    assert str(figures["prior/diversity_protocol"]).startswith("imle: 6 inputs x 80 samples, 40 disjoint pairs of each")
    own = evaluate.run(config(run["labels"], sets["labels"], tmp_path / "b", samples=2))
    read = config(run["pictures"], sets["pictures"], tmp_path / "c", samples=2, labels=sets["labels"])
    other = evaluate.run(replace(read, segmenter=str(tmp_path / "b" / "segmenter.pt"), segmenter_steps=0))
    assert other["segmenter_accuracy_real"] == own["segmenter_accuracy_real"]
    assert {"prior/segmentation_accuracy", "prior/segmentation_miou"} <= other.keys()
    assert not (tmp_path / "c" / "segmenter.pt").exists()


def test_labels_of_other_photographs_are_refused(sets: dict[str, str]) -> None:
    data = DataSet(sets["pictures"], "val")
    own = protocol.labels_of(DataSet(sets["labels"], "val"), data, 6, (16, 16))
    assert own.shape == (6, 16, 16) and own.dtype == torch.int64
    for name, told in (
        ("fewer", "1 keys are missing: 00000005"),
        ("others", "6 photographs are others"),
        ("small", "6 photographs are others .*or of another size: 00000000"),
        ("pictures", "wanted label maps as inputs"),
    ):
        with pytest.raises(ValueError, match=told):
            protocol.labels_of(DataSet(sets[name], "val"), data, 6, (16, 16))


def test_options_that_contradict_are_refused(tmp_path: Path) -> None:
    for changes, told in (
        ({"protocol": "imle", "samples": 4}, "--protocol imle has its own"),
        ({"samples": 1}, "--samples 1: give at least 1 and 2"),
        ({"segmenter_steps": -1}, "--segmenter-steps -1"),
    ):
        with pytest.raises(ValueError, match=told):
            config("run", "data", tmp_path, **changes)
