"""Exported generators: the graph makes the family's own samples, the files make the graph's at other batches and sizes,
and say what they take."""

import copy
import dataclasses
import io
import json
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import models
from models import imle
from models.abilities import Exports, require
from models.common.graph import Graph
from models.common.seeds import seeded
from models.family import Family, Recipe
from pipeline.runs import export
from tests.models.test_translation import CASES as TRANSLATION
from tests.models.translation import Data, built

IMLE = imle.PRESETS["tiny"]
SHALLOW = {name: dataclasses.replace(TRANSLATION[name], levels=3) for name in ("pix2pix", "bicyclegan")}
CASES: dict[str, Recipe] = {
    **TRANSLATION,
    **SHALLOW,
    "pix2pix/one": TRANSLATION["pix2pix"],  # 16 pixels, halved four times
    "pix2pix/eval": dataclasses.replace(SHALLOW["pix2pix"], eval_mode=True),
    "step": models.load("step").PRESETS["tiny"],
    "imle": IMLE,
    "imle/labels": dataclasses.replace(IMLE, condition="labels", labels=5, noise_encoder=False),
    "imle/levels": dataclasses.replace(IMLE, level_samples=(2, 2), noise_encoder=False),
    "gans": models.load("gans").PRESETS["tiny"],
    "gans/acgan": dataclasses.replace(models.load("gans").PRESETS["tiny"], objective="acgan"),
}
ANY_SIZE = ("pix2pix", "pix2pixhd")
"""Traced for any size of pictures, which takes about ten times as long; the others here for that of the examples.
jobs.export compares both files with the run's own pictures, at wider sizes too, before it writes them."""
RUN_BY_ONNX = (*ANY_SIZE, "pix2pix/lightness", "bicyclegan", "munit", "flow", "step", "imle", "gans/acgan")


def family(name: str) -> Family:
    """Untrained, with codes, clusters and batch statistics as a trained one has them."""
    own: Any = built(name.split("/")[0], CASES[name]).eval()
    if name == "pix2pixhd":
        own.clusters.centres.normal_(generator=seeded("centres"))
        own.clusters.counts.copy_(torch.tensor([3, 1, 3, 2, 3]))
    if name == "step":
        own.adopt("finetune", {"code": torch.randn(8, own.recipe.code, generator=seeded("codes"))})
    for layer in own.modules():
        if isinstance(getattr(layer, "running_var", None), torch.Tensor):
            layer.running_var.uniform_(0.5, 2, generator=seeded("variance"))
            layer.running_mean.normal_(generator=seeded("mean"))
    return own


def graph(own: Family, any_size: bool = True) -> Graph:
    given = Data(own, own.stages[0].name).batch(own.reads, 3)
    made = require(own, Exports, "test").graph(given, seeded(0))
    return made if any_size else dataclasses.replace(made, multiple=0)


@pytest.mark.parametrize("name", CASES)
def test_the_graph_makes_the_familys_own_samples(name: str) -> None:
    own: Any = family(name)
    given = Data(own, own.stages[0].name).batch(own.reads, 3)
    made = graph(own)
    with torch.no_grad():
        out = made.module(*made.inputs.values())
    assert set(made.ranges) == {*made.inputs, made.output}
    if name == "flow":
        state, time, x = made.inputs.values()
        assert made.output == "velocity" and torch.equal(out, own.average.net(state, time, given=x))
        return
    dropped = name in ("pix2pix", "pix2pix/lightness", "pix2pix/one", "pix2pix/resnet")
    assert ("without dropout" in made.note) == dropped
    if dropped:  # dropout has no weights: the same generator built without it
        assert not torch.allclose(out, own.sample(given, 1, seeded(0))[:, 0])
        twin = built("pix2pix", dataclasses.replace(own.recipe, dropped=(), block_dropout=0.0)).eval()
        twin.load_state_dict(own.state_dict())
        own = twin
    torch.testing.assert_close(out, own.sample(given, 1, seeded(0))[:, 0])


@pytest.mark.parametrize("name", [name for name in CASES if name not in RUN_BY_ONNX])
def test_the_program_is_the_graph(name: str) -> None:
    made = graph(family(name), any_size=False)
    assert export.pt2(made, export.trace(made)).difference < 1e-5


@pytest.mark.parametrize("name", RUN_BY_ONNX)
def test_both_files_are_the_graph_and_describe_it(name: str) -> None:
    made = graph(family(name), name in ANY_SIZE)
    program = export.trace(made)
    assert export.pt2(made, program).difference < 1e-5
    file = export.onnx(made, program)
    assert file.difference < 1e-4

    # By the file alone: names, shapes and metadata are those of the description.
    told, session = export.described(made), onnxruntime.InferenceSession(file.data)
    assert [one.name for one in session.get_inputs()] == [one["name"] for one in told["inputs"]] == list(made.inputs)
    for one, wanted in zip(session.get_inputs(), told["inputs"], strict=True):
        fixed = [side for side in wanted["shape"] if isinstance(side, int)]
        assert [side for side in one.shape if isinstance(side, int)] == fixed and list(one.shape) == wanted["shape"]
    metadata = {one.key: one.value for one in onnx.load_from_string(file.data).metadata_props}
    assert json.loads(metadata["inputs"]) == told["inputs"] and json.loads(metadata["output"]) == told["output"]
    assert metadata["note"] == told["note"]

    # One row at a new size, if any size is free.
    given = {key: x[:1] for key, x in made.inputs.items()}
    if made.multiple:
        sides = dict.fromkeys((1, 2), 5 * made.multiple)
        given = {key: grown(x, sides[1], sides[2]) if x.ndim > 2 else x for key, x in given.items()}
    with torch.no_grad():
        wanted = made.module(*given.values()).numpy()
    [out] = session.run(None, {key: x.numpy() for key, x in given.items()})
    np.testing.assert_allclose(out, wanted, atol=1e-4)


def grown(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Repeated, and cut."""
    times = [1] * (x.ndim - 2) + [-(-height // x.shape[-2]), -(-width // x.shape[-1])]
    return x.repeat(*times)[..., :height, :width].contiguous()


def test_the_pt2_file_holds_its_description() -> None:
    made = graph(family("bicyclegan"))
    file = export.pt2(made, export.trace(made))
    extra = {export.NOTES: ""}
    torch.export.load(io.BytesIO(file.data), extra_files=extra)
    assert json.loads(extra[export.NOTES]) == export.described(made)
    assert export.described(made)["inputs"] == [
        {"name": "input", "type": "float32", "shape": ["batch", 3, "8*rows", "8*columns"], "values": "[-1, 1], RGB"},
        {"name": "code", "type": "float32", "shape": ["batch", 3], "values": "N(0, 1)"},
    ]


def test_a_side_of_one_multiple_is_fixed() -> None:
    made = graph(family("pix2pix/one"))
    assert (made.multiple, made.step) == (16, 0)
    assert export.described(made)["output"]["shape"] == ["batch", 3, 16, 16]


def test_a_difference_is_seen() -> None:
    """Of a program whose weights are others, in any of the cases."""
    own: Any = family("bicyclegan")
    made = graph(own, any_size=False)
    program = export.trace(graph(copy.deepcopy(own), any_size=False))
    own.generator.ups[-1].bias.data[0] += 1e-3
    assert 1e-4 < export.pt2(made, program).difference < 2e-3


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    made = graph(family("munit"), any_size=False)
    monkeypatch.setattr(export, "NEEDED", ("onnx", "onnxmissing", "onnxruntime"))
    with pytest.raises(ValueError, match=r"--forms onnx needs onnxmissing, which is not installed: pip install"):
        export.onnx(made, export.trace(made))


def test_points_are_no_picture() -> None:
    own: Any = built("gans", models.load("gans").PRESETS["ring"])
    with pytest.raises(ValueError, match="--form points: this generator makes points"):
        own.graph({"index": torch.arange(2)}, seeded(0))
