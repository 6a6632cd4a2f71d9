"""What a packaged run takes and gives: pictures or values in, samples or answers out.

Input:
- for a family that reads one picture: a DataFrame with a column `image` (PNG or JPEG files in base64, as the REST
  server gets them), a list of such strings or of file bytes, or a uint8 array `N H W 3`;
- for other families: a DataFrame with a column for each field that the family reads (a class, a question, a picture as
  above), or a list of such dictionaries;
- for a family without an input: the number of rows.

Output: for an array, an array `N count S S 3`, S being the recipe's size. Otherwise, for each row a list of PNG files
in base64. A run that answers questions gives a list of answers for each row, the best first.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

import numpy as np
import torch

from models.abilities import Answers, DrawsSamples, require
from models.common.seeds import seeded
from models.family import Batch
from pipeline.data import decode, kinds
from pipeline.data.tensors import to_uint8
from pipeline.runs import sampler

MOST = 64
"""Samples of one row in one call."""


class Server:
    """Draws samples or answers; `package.Model` is the same as MLflow wants it."""

    run: sampler.Trained

    def load_context(self, context: Any) -> None:
        self.run = sampler.open_run(context.artifacts["run"])

    # Without type hints: MLflow would take them for a schema, and warns of those it cannot use.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """See the module. The samples of a row depend on the seed and its content, not on its place in the list.

        Raises:
            ValueError: not what the family reads, or a count outside 1..64.
        """
        options = {"count": 1, "seed": 0, "sampler": "", **(params or {})}
        count = int(options["count"])
        if not 1 <= count <= MOST:
            raise ValueError(f"count {count}: 1 to {MOST} samples a row")
        rows, as_arrays = self._rows(model_input)
        family = self.run.family
        if isinstance(family, Answers):
            return [self._answers(family, given, count) for given, _ in rows]
        drawing = require(family, DrawsSamples, "the served model")
        seed, way = int(options["seed"]), str(options["sampler"])
        drawn = [self._draw(drawing, given, content, count, seed, way) for given, content in rows]
        if as_arrays:
            return np.stack([np.stack(row) for row in drawn])
        return [[base64.b64encode(decode.to_png(x)).decode() for x in row] for row in drawn]

    def _draw(
        self, family: DrawsSamples, given: Batch, content: bytes, count: int, seed: int, way: str
    ) -> list[np.ndarray]:
        generator = seeded(seed, way, hashlib.sha256(content).hexdigest())
        with torch.no_grad():
            return [to_uint8(x) for x in family.sample(given, count, generator, way)[0]]

    @staticmethod
    def _answers(family: Answers, given: Batch, count: int) -> list[str]:
        with torch.no_grad():
            order = family.answer(given)[0].float().argsort(descending=True, stable=True)
        return [family.answers[int(place)] for place in order[:count]]

    def _rows(self, given: Any) -> tuple[list[tuple[Batch, bytes]], bool]:
        """Batches of one with the bytes that tell them apart, and whether they were given as an array of pictures."""
        reads, specs = self.run.family.reads, self.run.specs
        if not reads:
            rows = int(given) if isinstance(given, int) else len(given) if given is not None else 1
            return [({"index": torch.tensor([i])}, str(i).encode()) for i in range(max(1, rows))], False
        if len(reads) == 1 and kinds.named(specs[reads[0]].kind).pixels:
            images, as_arrays = pictures(given)
            made = [sampler.of_image(self.run, image, field=reads[0]) for image in images]
            return [(row.given, row.shown[0].tobytes()) for row in made], as_arrays
        records = given.to_dict("records") if hasattr(given, "to_dict") else list(given)
        return [self._record(record) for record in records], False

    def _record(self, record: dict[str, Any]) -> tuple[Batch, bytes]:
        batch: Batch = {"index": torch.zeros(1, dtype=torch.int64)}
        content = b""
        for name in self.run.family.reads:
            if name not in record:
                raise ValueError(f"{self.run.name} reads {', '.join(self.run.family.reads)}: {name} is missing")
            spec = self.run.specs[name]
            kind, facts = kinds.named(spec.kind), dict(self.run.facts.fields.get(name, {}))
            if kind.pixels:
                [image], _ = pictures([record[name]])
                row = sampler.of_image(self.run, image, field=name)
                batch |= row.given
                content += row.shown[0].tobytes()
            else:
                value = record[name] if isinstance(record[name], np.ndarray) else kind.parse(str(record[name]), facts)
                batch |= kind.batch(name, [value], spec, facts, [0.0])
                content += f"/{record[name]}".encode()
        return batch, content


def pictures(given: Any) -> tuple[list[np.ndarray], bool]:
    """uint8 `H W 3` images, and whether they were given as an array.

    Raises:
        ValueError: not images.
    """
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
