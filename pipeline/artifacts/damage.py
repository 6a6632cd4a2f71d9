"""What can be damaged in an artifact, a checkpoint and a recipe, and how it is found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.artifacts import artifact, storage
from pipeline.artifacts.artifact import digest, part_name


@dataclass
class Findings:
    """What was looked at, and what is wrong: one line a problem, each naming its file."""

    problems: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    """One line for each thing verified."""
    known: dict[str, str] = field(default_factory=dict)
    """Fingerprint or content hash -> the folder that has it."""
    made_of: list[tuple[str, str, str]] = field(default_factory=list)
    """(folder, name of the input, its hash): an artifact's way back."""

    def wrong(self, path: str, what: str) -> None:
        self.problems.append(f"{path}: {what}")


def guard(found: Findings, folder: str, look: Callable[..., None], *arguments: Any) -> None:
    """A damaged JSON can break any look-up: that is a finding, and the rest is still looked at."""
    try:
        look(*arguments)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        found.wrong(folder, f"cannot be followed further ({type(error).__name__}: {error})")


def strict_json(found: Findings, path: str) -> Any:
    """The value in a JSON file, which must have the very bytes that `storage.publish_json` writes."""
    data = storage.read(path)
    try:
        value = json.loads(data)
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if data != storage.json_bytes(value):
        found.wrong(path, "was changed after it was written (its form is not the one that the jobs write)")
    return value


def same_file(found: Findings, path: str, sha256: str) -> bool:
    if not storage.exists(path):
        found.wrong(path, "is missing")
    elif storage.sha256_file(path) != sha256:
        found.wrong(path, "does not have the sha256 that its done-marker names")
    else:
        return True
    return False


def artifact_damage(found: Findings, folder: str) -> None:
    card_path, request_path = storage.join(folder, "card.json"), storage.join(folder, "request.json")
    card, request = strict_json(found, card_path), strict_json(found, request_path)
    before = len(found.problems)
    if digest({k: v for k, v in card.items() if k != "card"}) != card["card"]:
        found.wrong(card_path, "was changed after it was written")
    if digest(request) != card["request"] or any(card[name] != request[name] for name in request):
        found.wrong(request_path, "is not the request that card.json was made for")
    hashes, rows = [], 0
    for marker_path, marker in _markers(found, folder, card["parts"]):
        same_file(found, marker_path.removesuffix(".json") + ".parquet", marker["sha256"])
        part = marker_path.removesuffix(".json") + ".parquet"
        if storage.exists(part) and storage.size(part) != marker["bytes"]:
            found.wrong(marker_path, "names another size than its part has")
        hashes.append(marker["sha256"])
        rows += marker["rows"]
    if digest(hashes) != card["content"] or rows != card["rows"]:
        found.wrong(folder, "the parts' done-markers are not those that card.json was made of")
    if len(found.problems) == before:
        found.seen.append(f"{card['kind']} {folder}: {rows} rows, content {card['content'][:16]}")
        found.known[card["content"]] = folder
    found.made_of += [(folder, name, value) for name, value in card["inputs"].items() if isinstance(value, str)]


def _markers(found: Findings, folder: str, parts: int) -> Iterator[tuple[str, dict[str, Any]]]:
    there = sorted(artifact.done_parts(folder))
    if len(there) != parts:
        found.wrong(folder, f"has {len(there)} parts with a done-marker, card.json names {parts}")
    for number in there:
        path = storage.join(folder, part_name(number) + ".json")
        yield path, strict_json(found, path)


def checkpoint_damage(found: Findings, path: str) -> None:
    marker = strict_json(found, path.removesuffix(".pt") + ".json")
    if "sha256" in marker and same_file(found, path, marker["sha256"]):
        found.seen.append(f"checkpoint {path}")


def recipe_damage(found: Findings, path: str) -> None:
    value, weights = strict_json(found, path), path.rpartition("/")[0] + "/weights.json"
    if path.endswith("/recipe.json") and storage.exists(weights):
        made = storage.read_json(weights)
        for part in ("family", "recipe", "inputs"):
            if value[part] != made[part]:
                found.wrong(path, f"its {part} is not the one that weights.json names")
