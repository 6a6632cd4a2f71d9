"""What a sample is before it is written (Entry, Source, Reader) and where its fields are afterwards (Field)."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from pipeline.data.palettes import Palette


@dataclass(frozen=True)
class Field:
    """Where a field's pixels are: a member of the sample, whole or one half of it."""

    member: str
    half: Literal["", "left", "right"] = ""
    kind: str = "image"
    """See pipeline.data.kinds."""
    palette: Palette | None = None
    """For label maps that are painted: the colours that its ids are read from."""
    names: tuple[str, ...] = ()
    """Of classes: what they are called, by number."""


def field_json(field: Field) -> dict[str, Any]:
    """A field as dataset.json and the hashes hold it: without what has its default, so that a later version's new
    attributes do not change the identity of what is there."""
    plain = asdict(Field(field.member))
    return {name: value for name, value in asdict(field).items() if name == "member" or value != plain[name]}


def fields_of(value: dict[str, Any]) -> dict[str, Field]:
    """The fields as dataset.json holds them."""
    found = {}
    for name, described in value.items():
        palette = described.get("palette")
        names = tuple(described.get("names", ()))
        found[name] = Field(**{**described, "names": names, "palette": Palette(**palette) if palette else None})
    return found


SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Entry:
    """One sample to be: its source name, member -> path below the source's root (or what the source's reader makes the
    member's bytes of), its style label if known."""

    source: str
    files: dict[str, str]
    label: str | None = None
    problem: str = ""
    """Why it cannot be read, where the listing shows it already: a side missing, a name used twice."""
    bytes: int = 0
    """Size of its files together: part of what tells a changed source."""


Reader = Callable[[str, str], bytes]
"""(path, member) -> the bytes of one file of an entry; small, pickled to the workers. Raises OSError."""


class Source(Protocol):
    """Anything that samples come from."""

    @property
    def fields(self) -> dict[str, Field]: ...

    @property
    def left_out(self) -> Sequence[str]:
        """Files that belong to no sample, such as those that are no images by their names; listed, not read."""

    def samples(self) -> dict[str, list[Entry]]:
        """Split -> entries in a fixed order. Raises ValueError where there is nothing, or no clear layout."""

    @property
    def reader(self) -> Reader:
        """What workers get."""


def of_one_file(error: OSError) -> bool:
    """Whether a file cannot be read for a reason of its own (gone, no permission, a link to itself): its sample is bad.
    A disk's or a store's trouble ends the job instead."""
    own = errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG
    return isinstance(error, FileNotFoundError | PermissionError) or error.errno in own
