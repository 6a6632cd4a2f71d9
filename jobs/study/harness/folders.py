"""Where a study keeps its runs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.artifacts import storage


@contextmanager
def kept_in(folder: str) -> Iterator[str]:
    """`folder` as an absolute path; where none is named, a temporary folder that is removed at the end."""
    if folder:
        yield storage.absolute(folder, "--folder")
        return
    with tempfile.TemporaryDirectory() as made:
        yield made
