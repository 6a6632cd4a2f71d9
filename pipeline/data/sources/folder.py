"""What users have, as samples: folders of pairs, side-by-side images, plain folders, folders of classes.

The source lists its samples without opening any file, and reads one file of one sample at a time, so that each worker
reads what it writes. Splits are the folders train/, val/ and test/ below the root; without them all is train.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from pipeline.artifacts import storage
from pipeline.data import decode, palettes
from pipeline.data.palettes import Palette
from pipeline.data.samples import SPLITS, Entry, Field, Reader, Source, of_one_file

BUILT_IN = False


@dataclass(frozen=True)
class Options:
    """How a folder is read."""

    layout: Literal["auto", "pairs", "sides", "images", "classes"] = "auto"
    """`pairs`: input/ or labels/ beside target/ (and instances/, where there are instance maps), matched by path
    without extension; `sides`: both in one picture; `images`: targets alone; `classes`: targets, the folder that each
    lies in is its class; `auto`: sides where a side is given, pairs where there is a target/, else images."""
    input_side: Literal["", "left", "right"] = ""
    """Which half of side-by-side images is the input."""
    val_share: float = 0.0
    """Share of the samples moved to split val, by a hash of their names; for sources without splits of their own."""
    palette: dict[str, Any] | None = None
    """Inputs are label maps painted in these colours."""

    connected_areas: bool = False
    """Without instance maps: each connected area of one class of the label maps is one instance."""

    ADDED: ClassVar[tuple[str, ...]] = ("palette", "connected_areas")
    """Options that are part of the identity only where they are given."""


def open_source(place: str, options: Options) -> Source:
    return Folder(place, options)


def read_only(place: str, options: Options) -> Reader:
    return partial(_read, place)


def _stem(path: str) -> str:
    """Path without extension, in one Unicode form (macOS writes é as two code points, Linux as one)."""
    return unicodedata.normalize("NFC", path.rsplit(".", 1)[0])


def _label(path: str) -> str | None:
    return path.rsplit("/", 1)[0] if "/" in path else None


def _printable(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()


class Folder:
    """Images in folders, local or s3://. A sample's style label is the folder it lies in, if any."""

    def __init__(self, root: str, options: Options) -> None:
        """Raises ValueError: no such folder, no image in it, or a layout that it does not have."""
        self.root, self.input_side, self.val_share = root, options.input_side, options.val_share
        self.palette = Palette(**options.palette) if options.palette else None
        self.components = options.connected_areas
        listing = storage.listing(root)
        self._images = {p: n for p, n in listing.items() if p.lower().endswith(decode.EXTENSIONS)}
        self.other_files = len(listing) - len(self._images)
        if not self._images:
            there = "no image in it" if listing or storage.exists(root) else "there is no such folder"
            raise ValueError(f"--source {root}: {there} (wanted files ending in {' '.join(decode.EXTENSIONS)})")
        self.layout = self._resolve(options.layout)
        self.classes: tuple[str, ...] = ()
        if self.layout == "classes":
            labels = {_label(path) for paths in self._by_split().values() for path in paths}
            if None in labels:
                raise ValueError(f"--layout classes: images of {root} lie in no folder that would be their class")
            self.classes = tuple(sorted(_printable(label) for label in labels if label))

    def _resolve(self, layout: str) -> str:
        parts = {path.split("/", 1)[0] for paths in self._by_split().values() for path in paths if "/" in path}
        if layout == "auto":
            layout = "sides" if self.input_side else "pairs" if "target" in parts else "images"
        if layout == "sides" and self.input_side not in ("left", "right"):
            raise ValueError("--layout sides: say with --input-side left or right where the input is")
        if layout != "sides" and self.input_side:
            raise ValueError(f"--input-side {self.input_side} is for side-by-side images, not for --layout {layout}")
        if layout == "images" and self.palette:
            raise ValueError("--palette: is for inputs, and plain images have none")
        if layout == "pairs":
            known = parts & {"input", "labels", "target"}
            if "target" not in known or len(known) != 2 or parts - known - {"instances"}:
                raise ValueError(
                    f"--source {self.root}: pairs need exactly the folders target/ and input/ (or labels/), found "
                    f"{', '.join(sorted(parts)) or 'none'}"
                )
        return layout

    def _by_split(self) -> dict[str, list[str]]:
        """Split -> paths below the split's folder."""
        images = self._images
        tops = {path.split("/", 1)[0] for path in images if "/" in path}
        splits = [s for s in SPLITS if s in tops]
        if not splits:
            return {"train": list(images)}
        stray = [p for p in images if p.split("/", 1)[0] not in splits or "/" not in p]
        if stray:
            raise ValueError(
                f"--source {self.root}: {len(stray)} images (such as {_printable(stray[0])}) lie beside the folders "
                f"{', '.join(splits)} and would belong to no split: move them, or give one of the folders as the source"
            )
        if self.val_share:
            raise ValueError(f"--val-share {self.val_share}: the source has its own splits ({', '.join(splits)})")
        return {s: [p[len(s) + 1 :] for p in images if p.startswith(s + "/")] for s in splits}

    @property
    def fields(self) -> dict[str, Field]:
        found = self._fields
        if not self.components:
            return found
        if "input" not in found or found["input"].kind != "labels":
            raise ValueError("--connected-areas: the inputs are no label maps (folder labels/, or --palette)")
        if "instances" in found:
            raise ValueError(f"--connected-areas: {self.root} has instance maps of its own")
        return {**found, "instances": replace(found["input"], kind="components")}

    @property
    def _fields(self) -> dict[str, Field]:
        labels = self.palette is not None or any("labels" in p.split("/")[:2] for p in self._images)
        kind: Literal["image", "labels"] = "labels" if labels and self.layout != "images" else "image"
        if self.layout == "sides":
            kind = "labels" if self.palette else "image"
            side: Literal["left", "right"] = "right" if self.input_side == "right" else "left"
            other: Literal["left", "right"] = "left" if side == "right" else "right"
            return {"input": Field("pair", side, kind, self.palette), "target": Field("pair", other)}
        if self.layout == "images":
            return {"target": Field("target")}
        if self.layout == "classes":
            return {"target": Field("target"), "class": Field("class", kind="class", names=self.classes)}
        found = {"input": Field("input", "", kind, self.palette), "target": Field("target")}
        if self._instances:
            found["instances"] = Field("instances", kind="instances")
        return found

    @property
    def _instances(self) -> bool:
        return self.layout == "pairs" and any("instances" in p.split("/")[:2] for p in self._images)

    def samples(self) -> dict[str, list[Entry]]:
        found: dict[str, list[Entry]] = {}
        own_splits = any(p.split("/", 1)[0] in SPLITS for p in self._images if "/" in p)
        for split, paths in self._by_split().items():
            prefix = split + "/" if own_splits else ""
            found[split] = self._pairs(paths, prefix) if self.layout == "pairs" else self._single(paths, prefix)
        if self.val_share:
            found = _share_out(found["train"], self.val_share)
        return found

    def _entry(self, paths: dict[str, str], prefix: str, label: str | None, problem: str = "") -> Entry:
        full = {member: prefix + path for member, path in paths.items()}
        source = full.get("target") or next(iter(full.values()))
        if any(_printable(path) != path for path in full.values()):
            problem = problem or "its name is not valid UTF-8"
        size = sum(self._images[path] for path in full.values())
        return Entry(_printable(source), full, label and _printable(label), problem, size)

    def _single(self, paths: list[str], prefix: str) -> list[Entry]:
        member = "pair" if self.layout == "sides" else "target"
        entries = [self._entry({member: path}, prefix, _label(path)) for path in paths]
        if self.layout != "classes":
            return entries
        numbers = {name: str(i) for i, name in enumerate(self.classes)}
        return [replace(e, files={**e.files, "class": numbers[e.label]}) for e in entries if e.label is not None]

    def _pairs(self, paths: list[str], prefix: str) -> list[Entry]:
        sides: dict[str, dict[str, list[str]]] = {}
        for path in paths:
            folder, _, rest = path.partition("/")
            if not rest:
                raise ValueError(f"--source {self.root}: {_printable(prefix + path)} lies beside input/ and target/")
            member = folder if folder in ("target", "instances") else "input"
            sides.setdefault(_stem(rest), {}).setdefault(member, []).append(path)
        entries = []
        for stem in sorted(sides):
            both = sides[stem]
            members = ("input", "target", *(["instances"] if self._instances else []))
            missing = [m for m in members if m not in both]
            twice = [p for m in sorted(both) for p in both[m] if len(both[m]) > 1]
            problem = f"no {missing[0]} of this name" if missing else ""
            problem = f"the same name twice: {_printable(', '.join(twice))}" if twice else problem
            files = {member: both[member][0] for member in sorted(both)}
            entries.append(self._entry(files, prefix, _label(_printable(stem)), problem))
        return entries

    @property
    def reader(self) -> Reader:
        return partial(_read, self.root)


def _read(root: str, path: str, member: str) -> bytes:
    if member == "class":
        return path.encode()  # the listing knows it
    return storage.read(storage.join(root, path))


def _share_out(entries: list[Entry], share: float) -> dict[str, list[Entry]]:
    """Move about `share` of the entries to val: by a hash of the name, so a grown source keeps its split."""
    if not 0 < share < 1:
        raise ValueError(f"--val-share {share}: give a number between 0 and 1")

    def held_out(entry: Entry) -> bool:
        return int.from_bytes(hashlib.sha256(entry.source.encode()).digest()[:8]) < share * 2**64

    found = {"train": [e for e in entries if not held_out(e)], "val": [e for e in entries if held_out(e)]}
    empty = [split for split, kept in found.items() if not kept]
    if empty:
        raise ValueError(f"--val-share {share}: of {len(entries)} samples none are left for {empty[0]}")
    return found


def images(
    folder: str,
    kind: str = "image",
    palette: str = "",
    max_pixels: int = decode.MAX_PIXELS,
    bad: list[tuple[str, str]] | None = None,
) -> Iterator[tuple[str, np.ndarray]]:
    """Every image of a plain folder: path below it and uint8 H W 3, or ids H W of kind "labels", painted ones by their
    `palette`; no data set needed (inputs of sampling). Those that cannot be read are left out, and named in `bad`:
    (path below the folder, reason).

    Raises:
        ValueError: nothing there; without `bad`, an image that cannot be read.
    """
    source, painted = Folder(folder, Options("images")), palettes.named(palette) if palette else None
    for entries in source.samples().values():
        for entry in entries:
            path = entry.files["target"]
            try:
                image = decode.pixels(source.reader(path, "target"), "image" if painted else kind, max_pixels)
                if painted:
                    image = painted.ids(image, path.lower().endswith(decode.LOSSLESS))[0]
            except (ValueError, OSError) as error:
                if isinstance(error, OSError) and not of_one_file(error):
                    raise
                if bad is None:
                    raise ValueError(f"{storage.join(folder, entry.source)}: {error}") from error
                bad.append((entry.source, str(error)))
                continue
            yield entry.source, image
