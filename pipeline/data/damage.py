"""Walk what the jobs wrote, byte by byte, back to the source: every damaged file is named.

Three kinds of things are known by a file of theirs: a data set (dataset.json), an artifact (card.json), a checkpoint
(NAME.pt beside NAME.json; with recipe.json and best.json). All JSON is written in one form, so that a changed blank
shows as well. Not covered: metrics.jsonl, timings.jsonl and pictures, which are records and never read back,
search.json, whose figures are on the card beside it, and MLflow's own store of copies (mlartifacts/).
"""

from __future__ import annotations

import hashlib
from typing import Any

from pipeline.artifacts import storage
from pipeline.artifacts.artifact import digest
from pipeline.artifacts.damage import (
    Findings,
    artifact_damage,
    checkpoint_damage,
    guard,
    recipe_damage,
    same_file,
    strict_json,
)
from pipeline.artifacts.progress import follow
from pipeline.data import samples, shards, sources


def walk(root: str, source: str = "") -> Findings:
    """Verify everything below `root`; with `source` also data sets against the bytes they were made from.

    Raises:
        ValueError: nothing that can be verified, or `source` without a data set.
    """
    found = Findings()
    files = {path: size for path, size in storage.listing(root).items() if "mlartifacts" not in path.split("/")}
    for path in follow(files, "verify", unit="files"):
        folder, _, name = storage.join(root, path).rpartition("/")
        if name == "dataset.json":
            guard(found, folder, _data_set, found, folder, source)
        elif name == "card.json":
            guard(found, folder, artifact_damage, found, folder)
        elif name == "request.json" and not {"dataset.json", "card.json"} & set(storage.names(folder)):
            found.wrong(folder, "was not finished: neither dataset.json nor card.json; run its job again")
        elif name in ("recipe.json", "best.json"):
            guard(found, folder, recipe_damage, found, storage.join(root, path))
        elif name.endswith(".pt") and path[:-3] + ".json" in files:
            guard(found, folder, checkpoint_damage, found, storage.join(root, path))
    if not found.seen and not found.problems:
        raise ValueError(f"{root}: no data set, artifact or checkpoint in it or below it")
    if source and not any(line.startswith("data set") for line in found.seen) and not found.problems:
        raise ValueError(f"--source {source}: no data set below {root} to compare with it")
    for folder, name, hashed in found.made_of:
        if hashed in found.known:
            found.seen.append(f"{folder}: its {name} is {found.known[hashed]}")
    return found


def _data_set(found: Findings, root: str, source: str) -> None:
    described = strict_json(found, storage.join(root, "dataset.json"))
    request = strict_json(found, storage.join(root, "request.json"))
    before, counts = len(found.problems), {}
    if digest(request) != described["request"]:
        found.wrong(storage.join(root, "request.json"), "is not the request that dataset.json was made for")
    read = sources.read_only(request["options"]["source"], source) if source else None
    members = sorted({f.member for f in samples.fields_of(described["fields"]).values()})
    for split, facts in described["splits"].items():
        counts[split] = facts["shards"]
        for shard in range(facts["shards"]):
            marker = shards.shard_path(root, split, shard, "json")
            guard(found, marker, _shard, found, root, split, shard, members, read)
    if len(found.problems) == before and shards.summary(root, request, counts) != described:
        found.wrong(storage.join(root, "dataset.json"), "disagrees with the shards' done-markers or with request.json")
    if len(found.problems) == before:
        good = sum(facts["samples"] for facts in described["splits"].values())
        compared = ", compared with the source's bytes" if source else ""
        found.seen.append(f"data set {root}: {good} samples, fingerprint {described['fingerprint'][:16]}{compared}")
        found.known[described["fingerprint"]] = root


def _shard(found: Findings, root: str, split: str, shard: int, members: list[str], read: samples.Reader | None) -> None:
    tar, index, marker_path = (shards.shard_path(root, split, shard, e) for e in ("tar", "parquet", "json"))
    marker = strict_json(found, marker_path)
    whole = same_file(found, tar, marker["tar_sha256"])
    if not same_file(found, index, marker["index_sha256"]):
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


def _compare(found: Findings, row: dict[str, Any], member: str, read: samples.Reader) -> None:
    path = row[f"{member}_source"]
    try:
        same = hashlib.sha256(read(path, member)).hexdigest() == row[f"{member}_source_sha256"]
    except OSError as error:
        found.wrong(path, f"cannot be read from the source ({error})")
        return
    if not same:
        found.wrong(path, f"the source's bytes are not those that sample {row['key']} was made from")
