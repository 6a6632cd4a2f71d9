"""A trained run as an MLflow model: this code, a recipe and a state dict; nothing is pickled.

    model = mlflow.pyfunc.load_model("models:/variegate-facades/1")   # anywhere the project is installed
    model.predict(images, params={"count": 4, "sampler": "mapper", "seed": 0})

`images`: a DataFrame with a column `image` (base64 of PNG or JPEG files: what the REST server gets), a list of such
strings or of file bytes, or a uint8 array `N H W 3`. An array gives an array `N count S S 3`; anything else gives one
list of base64 PNG strings an image. S is the recipe's size.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.family import Family
from pipeline.artifacts import storage
from pipeline.data import decode
from pipeline.runs import checkpoint
from pipeline.tracking import sheets
from pipeline.training.feed import fit, to_tensor

with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # MLflow's own chat types warn while they are imported
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import PythonModel, save_model
    from mlflow.types.schema import ParamSchema, ParamSpec

MOST = 64
"""Samples of one image in one call."""


def save(run: str, output: str) -> None:
    """Write the finished run in folder `run` (local or remote) as an MLflow model folder `output` (local, new).

    Raises:
        ValueError: the run is not finished, or `output` is there already.
    """
    if Path(output).exists():
        raise ValueError(f"{output} exists already: a model folder is written once")
    checkpoint.restore(run)  # not finished, or damaged: said before anything is written
    with tempfile.TemporaryDirectory(prefix="variegate-model-") as folder:
        for name in ("recipe.json", "weights.pt", "weights.json"):
            (Path(folder) / name).write_bytes(storage.read(storage.join(run, name)))
        facts = storage.read_json(storage.join(folder, "recipe.json"))
        params = [ParamSpec("count", "long", 1), ParamSpec("seed", "long", 0), ParamSpec("sampler", "string", "")]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # advice: give an example of the input
            save_model(
                path=output,
                python_model=str(Path(__file__).with_name("served.py")),
                artifacts={"run": folder},
                signature=ModelSignature(params=ParamSchema(params)),
                pip_requirements=["variegate"],
                metadata={"family": facts["family"], "inputs": facts["inputs"]},
            )


class Sampler:
    """Draws samples; `Model` below is the same as MLflow wants it."""

    family: Family

    def load_context(self, context: Any) -> None:
        self.family, _ = checkpoint.restore(context.artifacts["run"])

    # Without type hints: MLflow would take them for a schema, and warns of those it cannot use.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """See the module. The samples of an image depend on the seed and its pixels, not on its place in the list.

        Raises:
            ValueError: not images, or a count outside 1..64.
        """
        options = {"count": 1, "seed": 0, "sampler": "", **(params or {})}
        count = int(options["count"])
        if not 1 <= count <= MOST:
            raise ValueError(f"count {count}: 1 to {MOST} samples an image")
        images, as_arrays = _images(model_input)
        frame = self.family.recipe.frame
        cut = [fit(image, frame, 1.0, (0.5, 0.5), nearest=False) for image in images]
        drawn = [self._draw(image, count, int(options["seed"]), str(options["sampler"])) for image in cut]
        if as_arrays:
            return np.stack([np.stack(row) for row in drawn])
        return [[base64.b64encode(decode.to_png(x)).decode() for x in row] for row in drawn]

    def _draw(self, image: np.ndarray, count: int, seed: int, sampler: str) -> list[np.ndarray]:
        mark = hashlib.sha256(f"{seed}/{sampler}/".encode() + image.tobytes()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(mark[:8], "little") >> 1)
        with torch.no_grad():
            out = self.family.sample({"input": to_tensor([image])}, count, generator, sampler)[0]
        return [sheets.to_uint8(x) for x in out]


def _images(given: Any) -> tuple[list[np.ndarray], bool]:
    """uint8 `H W 3` images, and whether they were given as arrays."""
    if isinstance(given, np.ndarray) and given.ndim == 4:
        if given.dtype != np.uint8 or given.shape[3] != 3 or 0 in given.shape:
            raise ValueError(f"an array of images is uint8 N H W 3, got {given.dtype} {given.shape}")
        return list(given), True
    if hasattr(given, "columns"):
        if "image" not in given.columns:
            raise ValueError(f"the images are wanted in a column 'image', got {', '.join(map(str, given.columns))}")
        given = given["image"].tolist()
    files = list(given) if isinstance(given, list | tuple | np.ndarray) else [given]
    if not files:
        raise ValueError("no image was given")
    return [decode.pixels(_bytes(file, i)) for i, file in enumerate(files)], False


def _bytes(file: Any, place: int) -> bytes:
    if isinstance(file, bytes):
        return file
    if not isinstance(file, str):
        raise ValueError(f"image {place} is a {type(file).__name__}: wanted base64 text, file bytes, or a uint8 array")
    try:
        return base64.b64decode(file, validate=True)
    except binascii.Error as error:
        raise ValueError(f"image {place} is not base64 ({error})") from error


class Model(Sampler, PythonModel):  # type: ignore[misc]
    """What `mlflow.pyfunc.load_model` gives back."""
