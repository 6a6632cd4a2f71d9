"""A run's generator as a file for other programs: `torch.export` and ONNX, compared with the run's own pictures."""

from __future__ import annotations

import importlib
import io
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.common.graph import Graph

NEEDED = ("onnx", "onnxscript", "onnxruntime")
NOTES = "variegate.json"
"""Name of the description within a .pt2 file."""
LEAST = {"batch": 1, "rows": 2, "columns": 2}
"""Smallest values of what is not fixed."""
Inputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class File:
    """One form of a generator, as its file's bytes."""

    data: bytes
    difference: float
    """Largest absolute difference to the generator's own output, over all cases."""
    version: str
    """Of the form: of ONNX, the operator set."""


def described(graph: Graph) -> dict[str, Any]:
    """Names, types, shapes and values of inputs and output; JSON. `4*rows` stands for multiples of 4 from 8 on."""
    with torch.no_grad():
        out = graph.module(*graph.inputs.values())
    tensors = {**graph.inputs, graph.output: out}
    told = [
        {
            "name": name,
            "type": str(x.dtype).removeprefix("torch."),
            "shape": [str(free.get(d, int(x.shape[d]))) if d in free else int(x.shape[d]) for d in range(x.ndim)],
            "values": graph.ranges[name],
        }
        for name, x in tensors.items()
        for free in [_free(x, graph.step)]
    ]
    return {"inputs": told[:-1], "output": told[-1], "note": graph.note}


def _free(x: Tensor, multiple: int) -> dict[int, str]:
    """Dimension -> its name, of those that are not fixed."""
    found = {0: "batch"}
    if multiple and x.ndim > 2:
        times = f"{multiple}*" if multiple > 1 else ""
        found |= {x.ndim - 2: f"{times}rows", x.ndim - 1: f"{times}columns"}
    return found


def trace(graph: Graph) -> torch.export.ExportedProgram:
    """The generator as a program, of any batch size and, where the network allows it, any size of pictures."""
    batch, rows, columns = (torch.export.Dim(name, min=least) for name, least in LEAST.items())
    shapes = []
    for x in graph.inputs.values():
        free: dict[int, Any] = {0: batch}
        if graph.step and x.ndim > 2:
            sides = (rows, columns) if graph.step == 1 else (graph.step * rows, graph.step * columns)
            free |= {x.ndim - 2: sides[0], x.ndim - 1: sides[1]}
        shapes.append(free)
    with torch.no_grad():
        return torch.export.export(graph.module, tuple(graph.inputs.values()), dynamic_shapes=(tuple(shapes),))


def cases(graph: Graph) -> list[Inputs]:
    """What the files are compared on: all examples, the first alone, and wider ones where the width is free."""
    whole = tuple(graph.inputs.values())
    found = [whole, tuple(x[:1] for x in whole)]
    if graph.step:
        found.append(tuple(torch.cat([x, x.flip(-1)[..., : graph.step]], -1) if x.ndim > 2 else x for x in whole))
    return found


def pt2(graph: Graph, program: torch.export.ExportedProgram) -> File:
    """As `torch.export.load` reads it; its extra file `variegate.json` is `described`."""
    sink = io.BytesIO()
    torch.export.save(program, sink, extra_files={NOTES: json.dumps(described(graph))})
    again = torch.export.load(io.BytesIO(sink.getvalue())).module()
    return File(sink.getvalue(), _difference(graph, lambda inputs: again(*inputs).numpy()), torch.__version__)


def onnx(graph: Graph, program: torch.export.ExportedProgram) -> File:
    """As onnxruntime reads it; its metadata are `described`.

    Raises:
        ValueError: what it needs is not installed.
    """
    runtime = _installed()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        made = torch.onnx.export(
            program,
            dynamo=True,
            input_names=list(graph.inputs),
            output_names=[graph.output],
            verbose=False,
            optimize=False,  # the optimiser of onnxscript 0.7 drops "+ 1e-8" as adding 0; onnxruntime has its own
        )
    assert made is not None
    told = described(graph)
    for name, value in told.items():
        made.model.metadata_props[name] = value if isinstance(value, str) else json.dumps(value)
    ends = [*made.model.graph.inputs, *made.model.graph.outputs]
    for end, one in zip(ends, [*told["inputs"], told["output"]], strict=True):
        end.shape = importlib.import_module("onnx_ir").Shape(one["shape"])  # else free sides are called s21, s76
    data = made.model_proto.SerializeToString()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def run(inputs: Inputs) -> np.ndarray:
        given = {name: x.numpy() for name, x in zip(graph.inputs, inputs, strict=True)}
        [out] = session.run([graph.output], given)
        return np.asarray(out)

    return File(data, _difference(graph, run), str(made.model.opset_imports[""]))


FORMS: dict[str, Callable[[Graph, torch.export.ExportedProgram], File]] = {"pt2": pt2, "onnx": onnx}
"""Suffix -> how the file is made."""


def _installed() -> Any:
    missing = []
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise ValueError(
            f"--forms onnx needs {', '.join(missing)}, which is not installed: pip install 'variegate[export]', "
            "or give --forms pt2"
        )
    return importlib.import_module("onnxruntime")


def _difference(graph: Graph, run: Callable[[Inputs], np.ndarray]) -> float:
    found = []
    for inputs in cases(graph):
        with torch.no_grad():
            wanted, made = graph.module(*inputs).numpy(), run(inputs)
        if made.shape != wanted.shape:
            raise ValueError(f"the exported generator makes {made.shape}, the run's own {wanted.shape}")
        found.append(float(np.abs(made - wanted).max()))
    return float(np.max(found))  # NaN, where one is


def largest(files: Sequence[File]) -> float:
    """Difference of all."""
    return float(np.max([file.difference for file in files]))
