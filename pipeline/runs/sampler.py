"""Samples from a finished run: for one named image, and as the model that MLflow serves."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

import numpy as np
import torch

from models.family import Family
from pipeline.data import decode, tensors
from pipeline.data.tensors import fit, to_tensor
from pipeline.runs import checkpoint

MOST = 64
"""Samples of one image in one call."""


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
        return [tensors.to_uint8(x) for x in out]


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


Named = tuple[str, np.ndarray]


def seeded(seed: int, *words: str) -> torch.Generator:
    """A CPU generator that depends on the seed and the words alone."""
    hashed = hashlib.sha256("\x1f".join([str(seed), *words]).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(hashed[:8], "little") >> 1)


def sample(family: Family, image: np.ndarray, name: str, count: int, sampler: str, seed: int) -> list[np.ndarray]:
    """`count` outputs (uint8 `H W 3`) for one input (uint8 `H W 3`, or label ids `H W`)."""
    drawn = family.sample({"input": to_tensor([image])}, count, seeded(seed, sampler, name), sampler)[0]
    return [tensors.to_uint8(x) for x in drawn]


def flatten(codes: torch.Tensor) -> np.ndarray:
    """`N D` codes -> `N 2`: their two principal components, signs fixed by the largest entry."""
    centred = codes.double() - codes.double().mean(0)
    _, _, v = torch.linalg.svd(centred, full_matrices=False)
    axes = v[:2]
    signs = torch.sign(axes.gather(1, axes.abs().argmax(1, keepdim=True)))
    points: np.ndarray = (centred @ (axes * signs).T).numpy()
    return points
