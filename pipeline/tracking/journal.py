"""A run's record: JSON lines always, MLflow where a server is given.

    FOLDER/metrics.jsonl   one line a step: {"step", "time" (ms), "values"}; and one an event (picture, parameters, ...)
    FOLDER/pictures/       NAME-STEP.png
    FOLDER/run.json        what run this is, and how far each MLflow server has got (see pipeline.sending)

Nothing here waits for a server but opening (seconds, for the run's id) and closing (a bounded time).
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import posixpath
import re
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from PIL import Image

from pipeline.artifacts import storage
from pipeline.artifacts.scratch import Scratch
from pipeline.tracking import sending
from pipeline.tracking.machine import Monitor

MACHINE_PERIOD = 10.0
"""Seconds between two readings of the machine."""
PUBLISH_PERIOD = 15.0
"""Seconds between two uploads of the journal where the folder is on an object store."""
FIRST_ANSWER = 30.0
"""Longest wait for the server's first answer; then the work begins without it."""


class Tracker:
    """Records one job's run in `folder` (local or s3://), and in MLflow at `uri` unless that is None.

    `parent`: the run id of the enclosing run, or its tracker's folder where it has none yet (its server is away).
    A folder that holds a run already is continued (same MLflow run): a step that was recorded before is not recorded
    again, so going back to an earlier checkpoint leaves no step twice. `resume=False` begins a new run instead.
    """

    def __init__(
        self,
        folder: str,
        uri: str | None,
        job: str,
        name: str,
        parent: str | None = None,
        tags: Mapping[str, str] | None = None,
        resume: bool = True,
    ) -> None:
        self.folder = folder
        remote = storage.is_remote(folder)
        if uri is not None:
            sending.check_uri(uri)
        self._scratch = Scratch("run") if remote else None
        self._local = Path(self._scratch.path if self._scratch else folder)
        self._local.mkdir(parents=True, exist_ok=True)
        self._journal = self._local / "metrics.jsonl"
        if remote:
            _fetch(folder, self._local)
        continued = self._open(job, name, parent, dict(tags or {}), resume)
        self._seen: dict[str, set[int]] = {}
        self._recall()
        self._file = open(self._journal, "ab")  # noqa: SIM115
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._sender = sending.Sender(str(self._local), uri) if uri is not None else None
        if continued:
            self._write({"event": "status", "status": "RUNNING"})
            if tags:
                self._write({"event": "tags", "tags": dict(tags)})
        self._threads: list[threading.Thread] = []
        if self._sender:
            self._sender.start(FIRST_ANSWER)
            self._begin(self._watch_machine)
        if remote:
            self._begin(self._publish_often)

    @property
    def local(self) -> str:
        """The run's folder, or its local copy, which stays until `close`: for files that are to be sent."""
        return str(self._local)

    @property
    def run_id(self) -> str | None:
        """MLflow's id of this run; None without MLflow, or while its server has not been reached."""
        return self._sender.run_id if self._sender else None

    @property
    def page(self) -> str | None:
        """How to look at this run in MLflow; None without it, or while its server has not been reached."""
        sender = self._sender
        if sender is None or sender.run_id is None or sender.experiment is None:
            return None
        return sending.page(sender.uri, sender.experiment, sender.run_id)

    @property
    def as_parent(self) -> str:
        """What a nested run's `parent` should be: the run id, or the folder while there is none."""
        return self.run_id or storage.absolute(self.folder, "parent")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers at `step` (images seen). A (name, step) that was recorded before is left out.

        Raises:
            ValueError: a name that MLflow would refuse.
        """
        new = {_checked(k): v for k, v in values.items() if step not in self._seen.get(k, ())}
        if not new:
            return
        for name in new:
            self._seen.setdefault(name, set()).add(step)
        self._write({"step": step, "values": {k: _json_number(float(v)) for k, v in new.items()}})

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Record the recipe: nested mappings become dotted names. MLflow gets a value's first 6000 characters."""
        flat = dict(_flat(values))
        for name in flat:
            _checked(name)
        self._write({"event": "parameters", "parameters": flat})

    def picture(self, name: str, image: Image.Image, step: int) -> None:
        """Save `pictures/NAME-STEP.png` (a slash in the name becomes `~`) and show it in MLflow as NAME over steps."""
        if not re.fullmatch(r"[\w\-./ ]+", name, re.ASCII):
            raise ValueError(f"picture name {name!r}: letters, digits, spaces and _ - . / only")
        again = step in self._seen.get(f"picture {name}", ())
        path = f"pictures/{name.replace('/', '~')}-{step}.png"
        sink = io.BytesIO()
        image.save(sink, "PNG")
        storage.publish(str(self._local / path), sink.getvalue())
        if storage.is_remote(self.folder):
            storage.publish(storage.join(self.folder, path), sink.getvalue())
        if not again:
            self._seen.setdefault(f"picture {name}", set()).add(step)
            self._write({"event": "picture", "name": name, "step": step, "path": path})

    def file(self, path: str, folder: str = "") -> None:
        """Record a file (or a whole local folder) as an artifact under `folder`. It must stay until it is sent."""
        place = path if storage.is_remote(path) else str(Path(path).absolute())
        if not storage.exists(place):
            raise FileNotFoundError(f"{path} is to be recorded as an artifact, but is not there")
        self._write({"event": "file", "path": place, "folder": folder})

    def dataset(self, name: str, fingerprint: str, source: str, context: str = "training") -> None:
        """Record a data set as an input of the run: MLflow's digest is the fingerprint's first 36 characters, the whole
        of it stands in the source and in the tag `fingerprint`."""
        self._write(
            {"event": "dataset", "name": name, "fingerprint": fingerprint, "source": source, "context": context}
        )

    def model(self, folder: str, name: str) -> None:
        """Log the MLflow model in `folder` (see pipeline.package) and register it as a new version of `name`."""
        if not (Path(folder) / "MLmodel").is_file():
            raise ValueError(f"{folder} is no MLflow model: it has no MLmodel file (pipeline.package.save makes one)")
        self._write({"event": "model", "path": str(Path(folder).absolute()), "name": name})

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags on the run, for example which weights were used."""
        self._write({"event": "tags", "tags": dict(values)})

    def description(self, text: str) -> None:
        """What stands at the top of the run's page in MLflow, in Markdown."""
        self.tags({"mlflow.note.content": text})

    def close(self, status: str = "FINISHED", wait: float = 20.0) -> None:
        """End the run (FINISHED, FAILED or KILLED), sending what is left; a server that is away is waited for `wait`
        seconds, after which the rest stays in the folder: `send(folder, uri)` or running the job again sends it."""
        if self._closed.is_set():
            return
        self._closed.set()
        for thread in self._threads:
            thread.join()
        self._write({"event": "status", "status": status})
        try:
            if self._sender and self._sender.finish(wait) > 0:
                sending.log.warning(
                    "MLflow at %s has not got all of this run: the rest is kept in %s and is sent when the job "
                    "is run again",
                    sending.bare(self._sender.uri), self.folder,
                )  # fmt: skip
        finally:
            self._file.close()
            if self._scratch:
                self._publish()
                self._scratch.close()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        try:
            self.close("FAILED" if issubclass(kind, Exception) else "KILLED", wait=5.0)
        except Exception as second:  # must not hide the error that ended the work
            sending.log.warning("the run's record could not be closed: %s", second)

    def _open(self, job: str, name: str, parent: str | None, tags: dict[str, str], resume: bool) -> bool:
        """Make run.json, or keep the one there is; mend a last line that a kill cut short. True where a run goes on."""
        about = self._local / "run.json"
        size = _mend(self._journal)
        if resume and about.exists():
            return True
        place = parent if parent is None or "/" not in parent else storage.absolute(parent, "parent")
        run = {
            "id": uuid.uuid4().hex, "job": job, "name": name, "parent": place, "tags": tags,
            "started": _now(), "start": size, "servers": {},
        }  # fmt: skip
        storage.publish_json(str(about), run)
        return False

    def _recall(self) -> None:
        """Which steps this run has recorded, from its journal."""
        start = json.loads((self._local / "run.json").read_text())["start"]
        with open(self._journal, "rb") as file:
            file.seek(start)
            for raw in file:
                line = json.loads(raw)
                if "values" in line and "step" in line:
                    for name in line["values"]:
                        self._seen.setdefault(name, set()).add(line["step"])
                elif line.get("event") == "picture":
                    self._seen.setdefault(f"picture {line['name']}", set()).add(line["step"])

    def _write(self, line: dict[str, Any]) -> None:
        raw = (json.dumps({"time": _now(), **line}, ensure_ascii=False, allow_nan=False) + "\n").encode()
        with self._lock:
            self._file.write(raw)
            self._file.flush()

    def _begin(self, work: Any) -> None:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _watch_machine(self) -> None:
        monitor = Monitor(str(self._local))
        step = max(self._seen.get("system/disk_usage_megabytes", {-1})) + 1
        while not self._closed.wait(MACHINE_PERIOD):
            self.scalars(monitor.read(), step)
            step += 1

    def _publish_often(self) -> None:
        while not self._closed.wait(PUBLISH_PERIOD):
            with contextlib.suppress(OSError):  # an object store's hiccup: close publishes all of it, and raises
                self._publish()

    def _publish(self) -> None:
        for name in ("metrics.jsonl", "run.json"):
            storage.publish(storage.join(self.folder, name), (self._local / name).read_bytes())


def send(folder: str, uri: str, wait: float = 60.0) -> bool:
    """Send what an ended run in a local `folder` still owes to `uri`; True when all of it has arrived."""
    if not (Path(folder) / "run.json").is_file():
        raise ValueError(f"{folder} holds no run: there is no run.json")
    sender = sending.Sender(folder, uri)
    sender.start(wait)
    return sender.finish(wait) == 0


def _fetch(folder: str, local: Path) -> None:
    for name in ("metrics.jsonl", "run.json"):
        path = storage.join(folder, name)
        if storage.exists(path):
            (local / name).write_bytes(storage.read(path))


def _mend(journal: Path) -> int:
    """Drop a last line without its end (its step is recorded again); the journal's size."""
    journal.touch()
    data = journal.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with open(journal, "r+b") as file:
            file.truncate(whole)
    return whole


def _now() -> int:
    return time.time_ns() // 1_000_000


def _json_number(value: float) -> float | str:
    """JSON has no NaN: such values stand as "nan", "inf", "-inf", which float() reads back."""
    return value if math.isfinite(value) else str(value)


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield (
                f"{before}{key}",
                value if isinstance(value, int | float | str | bool) or value is None else str(value),
            )


def _checked(name: str) -> str:
    """MLflow's rules for names, so that a wrong one fails where it is made and not on another thread."""
    tidy = posixpath.normpath(name) == name and not name.startswith(("/", ".."))
    if not tidy or len(name) > 250 or not re.fullmatch(r"[\w\-./: ]+", name, re.ASCII):
        raise ValueError(f"name {name!r}: at most 250 letters, digits, spaces and _ - . : / (no empty part)")
    return name
