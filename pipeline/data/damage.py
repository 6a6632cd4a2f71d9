"""Walk what the jobs wrote, byte by byte, back to the source: every damaged file is named.

Three kinds of things are known by a file of theirs: a data set (dataset.json), an artifact (card.json), a checkpoint
(NAME.pt beside NAME.json; with recipe.json and best.json). All JSON is written in one form, so that a changed blank
shows as well. Not covered: metrics.jsonl, timings.jsonl and pictures, which are records and never read back,
search.json, whose figures are on the card beside it, and MLflow's own store of copies (mlartifacts/).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.artifacts import artifact, storage
from pipeline.artifacts.artifact import digest, part_name
from pipeline.data import shards
from pipeline.data.sources import folder


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


def walk(root: str, source: str = "") -> Findings:
    """Verify everything below `root`; with `source` also data sets against the bytes they were made from.

    Raises:
        ValueError: nothing that can be verified, or `source` without a data set.
    """
    found = Findings()
    files = {path: size for path, size in storage.listing(root).items() if "mlartifacts" not in path.split("/")}
    for path in files:
        folder, _, name = storage.join(root, path).rpartition("/")
        if name == "dataset.json":
            _guard(found, folder, _data_set, found, folder, source)
        elif name == "card.json":
            _guard(found, folder, _artifact, found, folder)
        elif name == "request.json" and not {"dataset.json", "card.json"} & set(storage.names(folder)):
            found.wrong(folder, "was not finished: neither dataset.json nor card.json; run its job again")
        elif name in ("recipe.json", "best.json"):
            _guard(found, folder, _recipe, found, storage.join(root, path))
        elif name.endswith(".pt") and path[:-3] + ".json" in files:
            _guard(found, folder, _checkpoint, found, storage.join(root, path))
    if not found.seen and not found.problems:
        raise ValueError(f"{root}: no data set, artifact or checkpoint in it or below it")
    if source and not any(line.startswith("data set") for line in found.seen) and not found.problems:
        raise ValueError(f"--source {source}: no data set below {root} to compare with it")
    for folder, name, hashed in found.made_of:
        if hashed in found.known:
            found.seen.append(f"{folder}: its {name} is {found.known[hashed]}")
    return found


def _guard(found: Findings, folder: str, look: Callable[..., None], *arguments: Any) -> None:
    """A damaged JSON can break any look-up: that is a finding, and the rest is still looked at."""
    try:
        look(*arguments)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        found.wrong(folder, f"cannot be followed further ({type(error).__name__}: {error})")


def _json(found: Findings, path: str) -> Any:
    """The value in a JSON file, which must have the very bytes that `storage.publish_json` writes."""
    data = storage.read(path)
    try:
        value = json.loads(data)
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if data != storage.json_bytes(value):
        found.wrong(path, "was changed after it was written (its form is not the one that the jobs write)")
    return value


def _file(found: Findings, path: str, sha256: str) -> bool:
    if not storage.exists(path):
        found.wrong(path, "is missing")
    elif storage.sha256_file(path) != sha256:
        found.wrong(path, "does not have the sha256 that its done-marker names")
    else:
        return True
    return False


def _data_set(found: Findings, root: str, source: str) -> None:
    described = _json(found, storage.join(root, "dataset.json"))
    request = _json(found, storage.join(root, "request.json"))
    before, counts = len(found.problems), {}
    if digest(request) != described["request"]:
        found.wrong(storage.join(root, "request.json"), "is not the request that dataset.json was made for")
    read = folder.reader(request["options"]["source"], source) if source else None
    members = sorted({f.member for f in shards.fields_of(described["fields"]).values()})
    for split, facts in described["splits"].items():
        counts[split] = facts["shards"]
        for shard in range(facts["shards"]):
            marker = shards.shard_path(root, split, shard, "json")
            _guard(found, marker, _shard, found, root, split, shard, members, read)
    if len(found.problems) == before and shards.summary(root, request, counts) != described:
        found.wrong(storage.join(root, "dataset.json"), "disagrees with the shards' done-markers or with request.json")
    if len(found.problems) == before:
        good = sum(facts["samples"] for facts in described["splits"].values())
        compared = ", compared with the source's bytes" if source else ""
        found.seen.append(f"data set {root}: {good} samples, fingerprint {described['fingerprint'][:16]}{compared}")
        found.known[described["fingerprint"]] = root


def _shard(found: Findings, root: str, split: str, shard: int, members: list[str], read: folder.Reader | None) -> None:
    tar, index, marker_path = (shards.shard_path(root, split, shard, e) for e in ("tar", "parquet", "json"))
    marker = _json(found, marker_path)
    whole = _file(found, tar, marker["tar_sha256"])
    if not _file(found, index, marker["index_sha256"]):
        return
    rows = shards.read_index(root, split, shard).to_pylist()
    good = [row for row in rows if row["status"] == "ok"]
    if len(good) != marker["samples"] or len(rows) - len(good) != marker["bad"]:
        found.wrong(marker_path, "counts other samples than the index has")
    if whole and storage.size(tar) != marker["bytes"]:
        found.wrong(marker_path, "names another size than the tar has")
    for row in good:
        for member in members:
            if not whole:
                _locate(found, tar, row, member)
            if read is not None:
                _compare(found, row, member, read)


def _locate(found: Findings, tar: str, row: dict[str, Any], member: str) -> None:
    """Say which sample of a damaged tar is hit (headers and padding belong to none)."""
    data = storage.read_range(tar, row[f"{member}_offset"], row[f"{member}_size"]) if storage.exists(tar) else b""
    if hashlib.sha256(data).hexdigest() != row[f"{member}_sha256"]:
        found.wrong(tar, f"sample {row['key']} ({row['source']}), {member}: damaged")


def _compare(found: Findings, row: dict[str, Any], member: str, read: folder.Reader) -> None:
    path = row[f"{member}_source"]
    try:
        same = hashlib.sha256(read(path, member)).hexdigest() == row[f"{member}_source_sha256"]
    except OSError as error:
        found.wrong(path, f"cannot be read from the source ({error})")
        return
    if not same:
        found.wrong(path, f"the source's bytes are not those that sample {row['key']} was made from")


def _artifact(found: Findings, folder: str) -> None:
    card_path, request_path = storage.join(folder, "card.json"), storage.join(folder, "request.json")
    card, request = _json(found, card_path), _json(found, request_path)
    before = len(found.problems)
    if digest({k: v for k, v in card.items() if k != "card"}) != card["card"]:
        found.wrong(card_path, "was changed after it was written")
    if digest(request) != card["request"] or any(card[name] != request[name] for name in request):
        found.wrong(request_path, "is not the request that card.json was made for")
    hashes, rows = [], 0
    for marker_path, marker in _markers(found, folder, card["parts"]):
        _file(found, marker_path.removesuffix(".json") + ".parquet", marker["sha256"])
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
        yield path, _json(found, path)


def _checkpoint(found: Findings, path: str) -> None:
    marker = _json(found, path.removesuffix(".pt") + ".json")
    if "sha256" in marker and _file(found, path, marker["sha256"]):
        found.seen.append(f"checkpoint {path}")


def _recipe(found: Findings, path: str) -> None:
    value, weights = _json(found, path), path.rpartition("/")[0] + "/weights.json"
    if path.endswith("/recipe.json") and storage.exists(weights):
        made = storage.read_json(weights)
        for part in ("family", "recipe", "inputs"):
            if value[part] != made[part]:
                found.wrong(path, f"its {part} is not the one that weights.json names")
