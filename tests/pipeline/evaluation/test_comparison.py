"""Which figures are compared, over seeds and in pairs, against hand-made records; the page holds everything itself."""

import csv
import io
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models.common.vgg import VGG
from pipeline.evaluation import comparison, comparison_page
from pipeline.evaluation.comparison import NO_LABELS, result, summary
from pipeline.evaluation.comparison_page import Facts
from pipeline.evaluation.remembered import Remembered

NET = "vgg_perceptual-vgg19-relu1_2-abc"


def record(best: float, **more: float) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "mapper/best_of_20_psnr": best,
        f"mapper/nearest_of_20_{NET}": 2.0,
        "mapper/nearest_of_20_pixels_l1": 30.0,
        f"mapper/diversity_bicyclegan-100x19_{NET}": 0.5,
        "mapper/diversity_protocol": "bicyclegan: 100 inputs",
        "mapper/precision_vgg_k3": 0.25,
        "gaussian/precision_vgg_k3": 0.75,
        "images": 100.0,
        **more,
    }
    return {"figures": figures, "missing": {"truths": "the data set has no field truths (array)"}}


COSTS: dict[str, Any] = {
    "stages": ["encoder", "generator", "finetune", "mapper"],
    "sampler": "mapper",
    "updates": 10,
    "images": 20,
    "cpu_seconds": 1.5,
}


def test_cells_are_of_the_first_sampler_and_the_last_stage() -> None:
    rebuilt = {"finetune/psnr": 14.0, "generator/psnr": 13.0, f"finetune/{NET}": 2.5}
    one = result("step", 3, record(15.0, **rebuilt), COSTS)
    assert one.figures["reconstruction_psnr"] == 14.0 and one.figures["reconstruction_perceptual"] == 2.5
    assert one.figures["precision"] == 0.25 and one.figures["best_psnr"] == 15.0
    assert one.figures["best_perceptual"] == 2.0 and one.figures["diversity_perceptual"] == 0.5
    assert one.figures["updates"] == 10 and one.figures["cpu_seconds"] == 1.5
    assert one.reasons["modes"] == "the data set has no field truths (array)"
    assert one.reasons["segmentation_miou"] == NO_LABELS
    assert not one.figures.keys() & one.reasons.keys()
    names = {column.name for column in (*comparison.COLUMNS, *comparison.COSTS)}
    assert one.figures.keys() | one.reasons.keys() == names  # a figure or a reason, never neither


def test_means_spreads_and_differences_against_loops() -> None:
    values = {("a", 0): 10.0, ("a", 1): 12.0, ("b", 0): 11.0, ("b", 1): 16.0, ("b", 2): 12.0}
    found = summary([result(n, s, record(v), COSTS) for (n, s), v in values.items()])
    b = found["b"]["best_psnr"]
    assert (b.mean, b.spread, b.seeds) == (13.0, 5.0, 3)
    assert (b.difference, b.difference_spread) == (2.5, 3.0)  # of seeds 0 and 1 alone: 11 - 10, 16 - 12
    assert (found["a"]["best_psnr"].difference, found["a"]["best_psnr"].mean) == (0.0, 11.0)
    alone = summary([result("a", 0, record(1.0), COSTS), result("b", 5, record(2.0), COSTS)])
    assert math.isnan(alone["b"]["best_psnr"].difference)


def test_tables_are_read_back() -> None:
    results = [result("a", 0, record(1 / 3), COSTS), result("b", 0, record(2.0, **{"finetune/psnr": 9.0}), COSTS)]
    rows = list(csv.DictReader(io.StringIO(comparison.table(results, comparison.COLUMNS))))
    assert float(rows[0]["best_psnr"]) == 1 / 3 and rows[0]["reconstruction_psnr"] == ""
    assert float(rows[1]["reconstruction_psnr"]) == 9.0
    assert "cpu_seconds" not in rows[0]  # the clock is no part of what is compared
    lines = list(csv.DictReader(io.StringIO(comparison.summary_table(summary(results)))))
    [line] = [one for one in lines if one["family"] == "b" and one["figure"] == "best_psnr"]
    assert float(line["difference"]) == pytest.approx(2 - 1 / 3)
    [line] = [one for one in lines if one["figure"] == "reconstruction_psnr"]
    assert line["difference"] == ""  # the first family has none


def test_the_page_needs_nothing_else_and_escapes_what_it_is_given() -> None:
    results = [result(n, s, record(10.0 + s + len(n)), COSTS) for n in ("a", "<b>") for s in (0, 1)]
    made = summary(results)
    data = comparison_page.plot(results, made)
    picture = Image.open(io.BytesIO(data))
    assert picture.size[0] > 800 and len(np.unique(np.asarray(picture).reshape(-1, 4), axis=0)) > 50
    facts = Facts("T", "python -m x 'http://there'", ["a note"], "RANDOM weights")
    page = comparison_page.page(facts, results, made, {"Plot": data})
    assert not re.search(r"<(script|link|iframe|object)|@import|url\(", page)
    assert re.findall(r'(?:src|href)="(.{22})', page) == ["data:image/png;base64,"]
    assert "<b>" not in page and "&lt;b&gt;" in page and "RANDOM weights" in page
    assert "the data set has no field truths (array)" in page and NO_LABELS in page
    assert "+2 ± 0" in page  # "<b>" is two characters longer than "a"
    assert 'class="best">13.5' in page.replace("<td ", "")


def test_features_are_remembered_and_equal_the_networks() -> None:
    vgg = VGG("vgg19", ("relu1_2", "relu2_2")).random(0)
    calls: list[int] = []
    vgg.register_forward_hook(lambda module, given, out: calls.append(len(given[0])))
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    kept = Remembered(vgg)
    first, again = kept(images), kept(images[[5, 0, 0, 3]])
    assert calls == [6]
    wanted = vgg(images)
    for layer in vgg.layers:
        assert torch.equal(first[layer], wanted[layer])
        assert torch.equal(again[layer], wanted[layer][[5, 0, 0, 3]])
    calls.clear()
    mixed = Remembered(vgg)
    mixed(images[[1, 4]])
    assert torch.equal(mixed(images)["relu1_2"], wanted["relu1_2"]) and calls == [2, 4]  # the new ones alone
    calls.clear()
    small = Remembered(vgg, 1)  # room for nothing: each call computes its own
    small(images[:2])
    small(images[2:4])
    assert torch.equal(small(images[:2])["relu1_2"], wanted["relu1_2"][:2]) and calls == [2, 2, 2]
