"""Images with several sentences each: Flickr8k's and Flickr30K's lists.

    python -m jobs.shard --source captions:FOLDER/captions.txt --option images images splits 800,100,100 \
        --output /data/flickr8k

The list has a line for each sentence: `NAME,SENTENCE` below a head line `image,caption`, or `NAME#0<tab>SENTENCE`.
Fields: image, caption (all its sentences). Images without a sentence are counted. A named image that is not there, and
a line of another form, are rows with their reasons.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cached_property, partial
from typing import ClassVar

from pipeline.artifacts import storage
from pipeline.data import decode, kinds
from pipeline.data.samples import SPLITS, Entry, Field, Reader, Source

BUILT_IN = False


@dataclass(frozen=True)
class Options:
    """Where the images are, and how the list is split."""

    images: str = "images"
    """Folder of the images, beside the list."""
    splits: str = ""
    """Images of train, val and test, in the list's order: 800,100,100; none: all are train."""

    ADDED: ClassVar[tuple[str, ...]] = ()


def open_source(place: str, options: Options) -> Source:
    return Captions(place, options)


def read_only(place: str, options: Options) -> Reader:
    return partial(_read, storage.join(place.rpartition("/")[0], options.images))


class Captions:
    """One list and its folder of images."""

    def __init__(self, path: str, options: Options) -> None:
        """Raises ValueError: no such file, no sentences, or splits that are not three numbers that fit."""
        if not storage.exists(path):
            raise ValueError(f"--source {path}: there is no such file")
        try:
            self.sentences, self.others = _sentences(storage.read(path).decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise ValueError(f"--source {path}: is not UTF-8 text ({error.reason} at byte {error.start})") from error
        if not self.sentences:
            raise ValueError(f"--source {path}: no line NAME,SENTENCE or NAME#0<tab>SENTENCE in it")
        self.folder = storage.join(path.rpartition("/")[0], options.images)
        self.counts = _counts(options.splits, len(self.sentences))

    @cached_property
    def images(self) -> dict[str, int]:
        """Name below the folder -> bytes."""
        return {n: size for n, size in storage.listing(self.folder).items() if n.lower().endswith(decode.EXTENSIONS)}

    @property
    def left_out(self) -> list[str]:
        """Images without a sentence."""
        return [name for name in self.images if name not in self.sentences]

    @property
    def fields(self) -> dict[str, Field]:
        return {"image": Field("image"), "caption": Field("caption", kind="tokens")}

    def samples(self) -> dict[str, list[Entry]]:
        names, found, first = list(self.sentences), dict[str, list[Entry]](), 0
        for split, count in zip(SPLITS, self.counts, strict=True):
            if count:
                found[split] = [self._entry(name) for name in names[first : first + count]]
            first += count
        problem = "neither NAME,SENTENCE nor NAME#0<tab>SENTENCE"
        next(iter(found.values())).extend(Entry(f"line {number}", {}, problem=problem) for number in self.others)
        return found

    def _entry(self, name: str) -> Entry:
        text = kinds.named("tokens").write(self.sentences[name]).decode()
        problem = "" if name in self.images else "no such image"
        return Entry(name, {"image": name, "caption": text}, None, problem, self.images.get(name, 0))

    @property
    def reader(self) -> Reader:
        return partial(_read, self.folder)


def _read(folder: str, path: str, member: str) -> bytes:
    return storage.read(storage.join(folder, path)) if member == "image" else path.encode()


def _sentences(text: str) -> tuple[dict[str, list[str]], list[int]]:
    """Image -> its sentences, in the list's order; numbers of the lines of another form."""
    found, others = dict[str, list[str]](), list[int]()
    lines = text.replace("\r\n", "\n").split("\n")  # splitlines() would also cut at U+2028 within a sentence
    tabs = any("\t" in line for line in lines[:1])
    for number, line in enumerate(lines, 1):
        name, separator, sentence = line.partition("\t") if tabs else _cells(line)
        if number == 1 and [name.strip().lower(), sentence.strip().lower()] == ["image", "caption"]:
            continue
        if separator:
            name = (name.rpartition("#")[0] or name) if tabs else name
            found.setdefault(name.strip(), []).append(sentence.strip())
        elif line.strip():
            others.append(number)
    return found, others


def _cells(line: str) -> tuple[str, str, str]:
    """A line of CSV as `str.partition` gives it. A comma within a sentence that is not quoted belongs to it, and a
    quotation mark that is not closed is one of its signs: no sentence goes beyond its line."""
    try:
        cells = next(csv.reader([line], strict=True), [])
    except csv.Error:
        return line.partition(",")
    return (cells[0], ",", ",".join(cells[1:])) if len(cells) > 1 else (line, "", "")


def _counts(text: str, images: int) -> tuple[int, int, int]:
    if not text:
        return images, 0, 0
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise ValueError(f"--option splits {text}: wanted three numbers of images, such as 800,100,100")
    train, val, test = map(int, parts)
    if not train:
        raise ValueError(f"--option splits {text}: train needs at least one image")
    if train + val + test > images:
        raise ValueError(f"--option splits {text}: the list has {images} images")
    return train, val, test
