"""From a run's journal (metrics.jsonl) to an MLflow server, on a thread of its own.

The journal on disk is the queue; run.json holds how far each server has got. So a server that goes away costs nothing:
training writes on, and what is missing is sent when the server returns, or when the run is opened again. After a
failure whose outcome is unknown (a time-out may have been carried out) the run's history is asked before anything is
sent again, so that no step arrives twice.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.artifacts import storage

PERIOD = 2.0
"""Seconds between two sendings: scalars in between travel as one batch."""
LONGEST_PAUSE = 15.0
"""Seconds between two attempts while the server is away, at most."""
BATCH = 1000
"""MLflow's limit of metrics in a request."""
VALUE = 6000
"""MLflow's limit of a parameter's length."""
KIND, TRAINING = "mlflow.experimentKind", "custom_model_development"
"""Experiment tag by which MLflow 3 tells experiments that train models from those of GenAI. The pages of 3.17 choose
their view by the address first, then by what the browser remembers: hence `page`."""
REFUSED = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS"}
"""Answers that another attempt would not change."""

log = logging.getLogger("variegate.tracking")

Line = dict[str, Any]


def connect(uri: str) -> Any:
    """An MLflow client that gives up in seconds rather than minutes."""
    for name, value in (("TIMEOUT", "5"), ("MAX_RETRIES", "0")):  # we try again ourselves
        os.environ.setdefault(f"MLFLOW_HTTP_REQUEST_{name}", value)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # a bench's last line is its result
    logging.getLogger("alembic").setLevel(logging.WARNING)  # a new SQLite file reports each of its tables
    import mlflow  # here and not above: seconds, and jobs without tracking do not pay them

    return mlflow.MlflowClient(uri)


def check_uri(uri: str) -> str:
    """Raises ValueError where MLflow could not mean anything by it, before any work is done."""
    kinds = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks")
    if urlsplit(uri).scheme.split("+")[0] not in kinds:
        raise ValueError(
            f"--tracking {uri}: give a server (http://host:5000) or a database (sqlite:////absolute/path/mlflow.db)"
        )
    return uri


def bare(uri: str) -> str:
    """The URI without a user's name and password: it is written to disk and to logs."""
    parts = urlsplit(uri)
    return uri.replace(parts.netloc, parts.netloc.rpartition("@")[2], 1) if "@" in parts.netloc else uri


class Sender:
    """Sends the journal in `folder` (a local one) to `uri`. `start`, then `wake` at will, then `finish`."""

    def __init__(self, folder: str, uri: str) -> None:
        self.folder, self.uri = Path(folder), check_uri(uri)
        self.about: dict[str, Any] = json.loads((self.folder / "run.json").read_text())
        server = self.about.setdefault("servers", {}).setdefault(
            bare(uri), {"run_id": None, "sent": self.about["start"]}
        )
        self.run_id: str | None = server["run_id"]
        self.experiment: str | None = server.get("experiment")
        self.sent: int = server["sent"]
        self.refused: list[str] = []
        self.failure: BaseException | None = None
        self._client: Any = None
        self._doubt = True  # whoever sent before us may have been killed between the answer and writing it down
        self._away = False
        self._tried, self._wake = threading.Event(), threading.Event()
        self._until: float | None = None  # once closing: when to stop trying
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)

    def start(self, wait: float) -> None:
        """Begin; returns after the first attempt, good or bad, or `wait` seconds."""
        self._thread.start()
        self._tried.wait(wait)
        self._raise()

    def wake(self) -> None:
        self._wake.set()

    def finish(self, wait: float) -> int:
        """Send what is left, trying for `wait` seconds while the server is away. Returns the bytes of journal left."""
        self._until = time.monotonic() + wait
        self._wake.set()
        self._thread.join(wait + 60)  # an attempt under way ends by its own time-outs
        self._raise()
        return (self.folder / "metrics.jsonl").stat().st_size - self.sent

    def _raise(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _work(self) -> None:
        pause = 1.0
        while True:
            closing = self._until
            try:
                done = self._attempt()
            except BaseException as error:  # a defect: reported by the training thread, at `finish`
                self.failure = error
                self._tried.set()
                return
            self._tried.set()
            if closing is not None and (done or time.monotonic() >= closing):
                return
            pause = PERIOD if done else min(pause * 2, LONGEST_PAUSE if closing is None else 1.0)
            self._wake.wait(pause)
            self._wake.clear()

    def _attempt(self) -> bool:
        """One pass over what is waiting; False where the server could not be reached."""
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            if self._client is None:
                self._client = connect(self.uri)
            if self.run_id is None and not self._open_run():
                return False
            while self._send_some():
                pass
        except (MlflowException, SQLAlchemyError, OSError) as error:
            self._doubt = True
            if not self._away:
                log.warning(
                    "MLflow at %s cannot be reached (%s: %s). The work goes on; every line is kept in %s and is sent "
                    "when the server returns, or when this job is run again",
                    bare(self.uri), type(error).__name__, str(error)[:300], self.folder / "metrics.jsonl",
                )  # fmt: skip
            self._away = True
            return False
        if self._away:
            log.warning("MLflow at %s is back: what it had missed was sent", bare(self.uri))
            self._away = False
        return True

    def _open_run(self) -> bool:
        """Find or create the run. False while its parent has none yet."""
        about, client = self.about, self._client
        parent = about["parent"]
        if parent and (storage.is_remote(parent) or "/" in parent):  # the folder of a tracker that had no run either
            parent = run_of(parent, self.uri)
            if parent is None:
                return False
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "variegate")
        experiment = client.get_experiment_by_name(name)
        if experiment:
            number = experiment.experiment_id
            if KIND not in experiment.tags:  # made by another program, or by an earlier version
                client.set_experiment_tag(number, KIND, TRAINING)
        else:
            number = client.create_experiment(name, _artifacts(self.uri), {KIND: TRAINING})
        self.experiment = number
        # A creation that timed out may have been carried out: look for it by our own mark.
        there = client.search_runs([number], f"tags.`variegate.id` = '{about['id']}'")
        if there:
            self.run_id = there[0].info.run_id
        else:
            tags = {
                **about["tags"],
                "variegate.id": about["id"],
                "mlflow.source.name": about["job"],
                "mlflow.source.type": "JOB",
            }
            if parent:
                tags["mlflow.parentRunId"] = parent
            self.run_id = client.create_run(number, about["started"], tags, about["name"]).info.run_id
        self._note()
        return True

    def _note(self) -> None:
        """Write down how far we are: what is before `sent` is never sent again."""
        self.about["servers"][bare(self.uri)] = {
            "run_id": self.run_id,
            "sent": self.sent,
            "experiment": self.experiment,
        }
        storage.publish_json(str(self.folder / "run.json"), self.about)

    def _send_some(self) -> bool:
        """Send the next lines and note it; False where there are none."""
        lines, end = self._next_lines()
        if end == self.sent:
            return False
        for line in lines:
            if "values" not in line:
                self._try(line, lambda line=line: _EVENTS[line["event"]](self, line))  # type: ignore[misc]
        metrics = [
            (k, v, line["time"], line["step"]) for line in lines if "values" in line for k, v in line["values"].items()
        ]
        for i in range(0, len(metrics), BATCH):
            part = metrics[i : i + BATCH]
            self._try({"event": "metrics", "count": len(part)}, lambda part=part: self._metrics(part))  # type: ignore[misc]
        self._doubt = False
        self.sent = end
        self._note()
        return True

    def _next_lines(self) -> tuple[list[Line], int]:
        """Whole lines from `sent` on: either scalars worth about one batch, or one event."""
        lines: list[Line] = []
        end, count = self.sent, 0
        with open(self.folder / "metrics.jsonl", "rb") as file:
            file.seek(end)
            for raw in file:
                if not raw.endswith(b"\n"):
                    break  # being written at this moment
                line = json.loads(raw)
                if "values" in line and "step" in line:
                    count += len(line["values"])
                    lines.append(line)
                elif "event" in line and lines:
                    break  # the order of the journal is kept: first the scalars before it
                elif "event" in line:
                    return [line], end + len(raw)
                end += len(raw)  # other lines (a job's own record of seconds and memory) are not for MLflow
                if count >= BATCH:
                    break
        return lines, end

    def _try(self, line: Line, send: Callable[[], None]) -> None:
        """Send; what the server refuses for good is reported and left in the journal only."""
        from mlflow.exceptions import MlflowException

        try:
            send()
        except MlflowException as error:
            if error.error_code not in REFUSED:
                raise
            self.refused.append(f"{line['event']}: {error}")
            log.warning("MLflow refused a %s (it stands in metrics.jsonl): %s", line["event"], str(error)[:500])

    def _metrics(self, part: list[tuple[str, float, int, int]]) -> None:
        from mlflow.entities import Metric

        if self._doubt:
            names = {name for name, *_ in part}
            there = {(m.key, m.step) for name in names for m in self._client.get_metric_history(self.run_id, name)}
            part = [p for p in part if (p[0], p[3]) not in there]
        if part:
            batch = [Metric(name, float(value), when, step) for name, value, when, step in part]
            self._client.log_batch(self.run_id, metrics=batch, synchronous=True)

    def _parameters(self, line: Line) -> None:
        """New ones as parameters; MLflow's cannot change, so one that grew on resume becomes a tag `resumed.NAME`."""
        from mlflow.entities import Param, RunTag

        there = self._client.get_run(self.run_id).data.params
        values = {k: str(v)[:VALUE] for k, v in line["parameters"].items()}
        new = [Param(k, v) for k, v in values.items() if k not in there]
        tags = [RunTag(f"resumed.{k}", v) for k, v in values.items() if k in there and there[k] != v]
        for i in range(0, len(new), 100):
            self._client.log_batch(self.run_id, params=new[i : i + 100], synchronous=True)
        if tags:
            self._client.log_batch(self.run_id, tags=tags, synchronous=True)

    def _tags(self, line: Line) -> None:
        for key, value in line["tags"].items():
            self._client.set_tag(self.run_id, key, value)

    def _picture(self, line: Line) -> None:
        from PIL import Image

        key, step, when = line["name"], line["step"], line["time"]
        if self._doubt:
            begin = f"images/{key.replace('/', '~')}+step+{step}+"
            there = [f.path for f in self._client.list_artifacts(self.run_id, "images") if f.path.startswith(begin)]
            if any(path.endswith(".webp") for path in there):  # the last of the two files of a picture
                return
        with Image.open(self.folder / line["path"]) as image:
            self._client.log_image(self.run_id, image, key=key, step=step, timestamp=when, synchronous=True)

    def _file(self, line: Line) -> None:
        path = line["path"]
        if storage.is_remote(path):
            local = self.folder / "files" / path.rsplit("/", 1)[-1]
            storage.publish(str(local), storage.read(path))
            path = str(local)
        if not Path(path).exists():
            self.refused.append(f"file: {path} is gone")
            log.warning("%s was removed before it could be sent to MLflow", path)
            return
        send = self._client.log_artifacts if Path(path).is_dir() else self._client.log_artifact
        send(self.run_id, path, line["folder"] or None)

    def _dataset(self, line: Line) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"uri": line["source"], "fingerprint": line["fingerprint"]})
        data = Dataset(line["name"], line["fingerprint"][:36], "variegate", source)  # MLflow's digest ends at 36
        tags = [InputTag("mlflow.data.context", line["context"]), InputTag("fingerprint", line["fingerprint"])]
        self._client.log_inputs(self.run_id, [DatasetInput(data, tags)])

    def _model(self, line: Line) -> None:
        name, path = line["name"], "model"
        if self._doubt and self._client.search_model_versions(f"name = '{name}' and run_id = '{self.run_id}'"):
            return
        self._client.log_artifacts(self.run_id, line["path"], path)
        if not self._client.search_registered_models(f"name = '{name}'"):
            self._client.create_registered_model(name)
        source = f"{self._client.get_run(self.run_id).info.artifact_uri}/{path}"
        self._client.create_model_version(name, source, self.run_id, await_creation_for=0)

    def _status(self, line: Line) -> None:
        if line["status"] == "RUNNING":
            self._client.update_run(self.run_id, status="RUNNING")
        else:
            self._client.set_terminated(self.run_id, line["status"], line["time"])


_EVENTS: dict[str, Callable[[Sender, Line], None]] = {
    "parameters": Sender._parameters,
    "tags": Sender._tags,
    "picture": Sender._picture,
    "file": Sender._file,
    "dataset": Sender._dataset,
    "model": Sender._model,
    "status": Sender._status,
}


def page(uri: str, experiment: str, run_id: str) -> str:
    """How to look at a run: the address of its page in the training view, behind the command that serves a database."""
    path = f"#/experiments/{experiment}/runs/{run_id}?workflowType=machine_learning"
    if urlsplit(uri).scheme in ("http", "https"):
        return f"{bare(uri).rstrip('/')}/{path}"
    return f"mlflow ui --backend-store-uri {bare(uri)}, then http://127.0.0.1:5000/{path}"


def run_of(folder: str, uri: str) -> str | None:
    """The run id at `uri` of the tracker in `folder`, if it has one."""
    path = storage.join(folder, "run.json")
    if not storage.exists(path):
        return None
    run_id: str | None = storage.read_json(path).get("servers", {}).get(bare(uri), {}).get("run_id")
    return run_id


def _artifacts(uri: str) -> str | None:
    """Where a new experiment keeps its files: beside an SQLite file, not in whatever folder the job was started in."""
    if not uri.startswith("sqlite:"):
        return None  # the server decides
    database = Path(uri.split("///", 1)[-1]).absolute()
    return (database.parent / "mlartifacts").as_uri()
