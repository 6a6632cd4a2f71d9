"""The record of a run: complete on disk whatever the server does, and on the server once, with the first times."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from pipeline.artifacts import storage
from pipeline.tracking import journal, sending
from pipeline.tracking.journal import Tracker


class Server:
    """A tracking server in memory, which can be down, or carry out a request and lose its answer."""

    def __init__(self) -> None:
        self.down = False
        self.lose_answers = 0
        self.runs: dict[str, dict[str, Any]] = {}
        self.metrics: dict[str, list[tuple[str, int, float, int]]] = defaultdict(list)
        self.pictures: list[tuple[str, int, int]] = []
        self.calls: list[str] = []
        self.experiment: dict[str, str] = {}

    def _ask(self, name: str) -> None:
        self.calls.append(name)
        if self.down:
            raise ConnectionError("connection refused")

    def _answer(self) -> None:
        if self.lose_answers:
            self.lose_answers -= 1
            raise TimeoutError("no answer")

    def get_experiment_by_name(self, name: str) -> Any:
        self._ask("experiment")
        return SimpleNamespace(experiment_id="1", tags=self.experiment)

    def set_experiment_tag(self, experiment: str, key: str, value: str) -> None:
        self._ask("experiment tag")
        self.experiment[key] = value

    def search_runs(self, experiments: list[str], query: str) -> list[Any]:
        self._ask("search")
        mark = query.split("'")[1]
        found = [k for k, run in self.runs.items() if run["tags"]["variegate.id"] == mark]
        return [SimpleNamespace(info=SimpleNamespace(run_id=k)) for k in found]

    def create_run(self, experiment: str, start: int, tags: dict[str, str], name: str) -> Any:
        self._ask("create")
        key = f"run{len(self.runs)}"
        self.runs[key] = {"tags": tags, "name": name, "params": {}, "status": "RUNNING", "start": start}
        self._answer()
        return SimpleNamespace(info=SimpleNamespace(run_id=key))

    def get_run(self, run_id: str) -> Any:
        self._ask("get")
        return SimpleNamespace(data=SimpleNamespace(params=self.runs[run_id]["params"]))

    def log_batch(
        self, run_id: str, metrics: Any = (), params: Any = (), tags: Any = (), synchronous: bool = True
    ) -> None:
        self._ask("batch")
        assert len(metrics) <= 1000
        self.metrics[run_id] += [(m.key, m.step, m.value, m.timestamp) for m in metrics]
        self.runs[run_id]["params"].update({p.key: p.value for p in params})
        self.runs[run_id]["tags"].update({t.key: t.value for t in tags})
        self._answer()

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        self._ask("tag")
        self.runs[run_id]["tags"][key] = value

    def get_metric_history(self, run_id: str, key: str) -> list[Any]:
        self._ask("history")
        return [SimpleNamespace(key=k, step=s) for k, s, *_ in self.metrics[run_id] if k == key]

    def list_artifacts(self, run_id: str, folder: str) -> list[Any]:
        self._ask("list")
        return [SimpleNamespace(path=f"images/{k}+step+{s}+timestamp+{t}+x.webp") for k, s, t in self.pictures]

    def log_image(self, run_id: str, image: Any, key: str, step: int, timestamp: int, synchronous: bool) -> None:
        self._ask("image")
        self.pictures.append((key, step, timestamp))
        self._answer()

    def set_terminated(self, run_id: str, status: str, end: int) -> None:
        self._ask("end")
        self.runs[run_id]["status"] = status

    def update_run(self, run_id: str, status: str) -> None:
        self._ask("update")
        self.runs[run_id]["status"] = status


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(sending, "connect", lambda uri: server)
    monkeypatch.setattr(sending, "PERIOD", 0.05)
    monkeypatch.setattr(sending, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(journal, "MACHINE_PERIOD", 1000.0)
    return server


URI = "http://127.0.0.1:1"


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def _expect(folder: Path) -> list[tuple[str, int, float, int]]:
    """Every scalar as the journal has it: what the server must hold, each once."""
    return sorted((k, w["step"], v, w["time"]) for w in _lines(folder) if "values" in w for k, v in w["values"].items())


def test_json_lines_without_a_server(tmp_path: Path) -> None:
    before = time.time_ns() // 10**6
    with Tracker(str(tmp_path), None, "train", "a") as tracker:
        tracker.scalars({"loss": 0.5, "bad": float("nan")}, 8)
        tracker.picture("samples/mapper", Image.new("RGB", (4, 4), (1, 2, 3)), 8)
        assert tracker.run_id is None
    first, picture, end = _lines(tmp_path)
    assert before <= first.pop("time") <= time.time_ns() // 10**6
    assert first == {"step": 8, "values": {"loss": 0.5, "bad": "nan"}}
    assert Image.open(tmp_path / picture["path"]).getpixel((0, 0)) == (1, 2, 3)
    assert picture["path"] == "pictures/samples~mapper-8.png"
    assert end["status"] == "FINISHED"


def test_an_outage_loses_nothing_and_repeats_nothing(tmp_path: Path, server: Server, caplog: Any) -> None:
    tracker = Tracker(str(tmp_path), URI, "train", "a")
    assert tracker.run_id == "run0"
    tracker.scalars({"loss": 1.0}, 0)
    _until(lambda: len(server.metrics["run0"]) == 1)
    server.down = True
    started = time.monotonic()
    for step in range(1, 2501):  # more than two batches
        tracker.scalars({"loss": step / 2}, step)
    tracker.picture("sheet", Image.new("RGB", (2, 2)), 2500)
    assert time.monotonic() - started < 2, "training waited for the server"
    _until(lambda: server.calls.count("batch") + server.calls.count("history") > 4)
    time.sleep(0.05)
    server.down = False
    tracker.close()
    assert sorted(server.metrics["run0"]) == _expect(tmp_path)
    assert len(server.metrics["run0"]) == 2501
    when = next(w["time"] for w in _lines(tmp_path) if w.get("event") == "picture")
    assert server.pictures == [("sheet", 2500, when)]
    assert server.runs["run0"]["status"] == "FINISHED"
    assert sum("cannot be reached" in r.message for r in caplog.records) == 1, "one warning an outage"


@pytest.mark.parametrize("what", ["create", "batch", "picture"])
def test_a_lost_answer_is_not_sent_twice(tmp_path: Path, server: Server, what: str) -> None:
    server.lose_answers = int(what == "create")
    tracker = Tracker(str(tmp_path), URI, "train", "a")
    tracker.scalars({"loss": 1.0}, 1)
    tracker.picture("sheet", Image.new("RGB", (2, 2)), 1)
    _until(lambda: len(server.pictures) == 1 and len(server.metrics["run0"]) == 1)
    time.sleep(0.1)  # all is known to have arrived: the doubt of the start is over
    server.lose_answers = int(what != "create")
    if what == "picture":
        tracker.picture("sheet", Image.new("RGB", (2, 2)), 2)
        _until(lambda: server.calls.count("image") == 2)
    tracker.scalars({"loss": 1.0, "gain": 2.0}, 3)
    tracker.close()
    assert server.lose_answers == 0
    assert len(server.runs) == 1
    assert sorted(server.metrics["run0"]) == _expect(tmp_path)
    assert len(server.pictures) == 1 + (what == "picture")


def test_a_server_away_from_the_start(tmp_path: Path, server: Server, caplog: Any) -> None:
    server.down = True
    tracker = Tracker(str(tmp_path), URI, "train", "a")
    assert tracker.run_id is None
    tracker.scalars({"loss": 1.0}, 1)
    tracker.close(wait=0.2)
    assert "cannot be reached" in caplog.text
    assert "has not got all of this run" in caplog.text
    assert server.runs == {}
    server.down = False
    assert journal.send(str(tmp_path), URI, wait=5)
    assert server.runs["run0"]["status"] == "FINISHED"
    assert sorted(server.metrics["run0"]) == _expect(tmp_path)
    assert server.runs["run0"]["start"] <= server.metrics["run0"][0][3]
    assert journal.send(str(tmp_path), URI, wait=5), "again: nothing to do"
    assert len(server.metrics["run0"]) == 1


def test_resume_goes_on_with_its_run_and_repeats_no_step(tmp_path: Path, server: Server) -> None:
    with pytest.raises(RuntimeError, match="killed"), Tracker(str(tmp_path), URI, "train", "a") as tracker:
        for step in (1, 2, 3):
            tracker.scalars({"loss": float(step)}, step)
        tracker.picture("sheet", Image.new("RGB", (2, 2)), 3)
        tracker.parameters({"seed": 1, "stage": {"images": 10}})
        raise RuntimeError("killed")
    assert server.runs["run0"]["status"] == "FAILED"
    first = list(server.metrics["run0"])
    with open(tmp_path / "metrics.jsonl", "a") as f:
        f.write('{"step": 4, "val')  # a kill in the middle of a line
    with Tracker(str(tmp_path), URI, "train", "a") as tracker:
        assert tracker.run_id == "run0"
        tracker.parameters({"seed": 1, "stage": {"images": 20}})
        for step in (2, 3, 4):  # back from the checkpoint of step 1
            tracker.scalars({"loss": float(step), "new": 0.0}, step)
        tracker.picture("sheet", Image.new("RGB", (2, 2)), 3)
    assert server.runs["run0"]["status"] == "FINISHED"
    loss = [m for m in server.metrics["run0"] if m[0] == "loss"]
    assert loss[:3] == first, "the first times stay"
    assert [m[1] for m in loss] == [1, 2, 3, 4]
    assert [m[1] for m in server.metrics["run0"] if m[0] == "new"] == [2, 3, 4]
    assert len(server.pictures) == 1
    assert server.runs["run0"]["params"] == {"seed": "1", "stage.images": "10"}
    assert server.runs["run0"]["tags"]["resumed.stage.images"] == "20"


def test_a_kill_between_the_answer_and_its_note(tmp_path: Path, server: Server) -> None:
    tracker = Tracker(str(tmp_path), URI, "train", "a")
    note = json.loads((tmp_path / "run.json").read_text())
    tracker.scalars({"loss": 1.0}, 1)
    tracker.close()
    (tmp_path / "run.json").write_text(json.dumps(note))  # as if it had been killed before writing how far it was
    Tracker(str(tmp_path), URI, "train", "a").close()
    assert [m[1] for m in server.metrics["run0"]] == [1]


def test_not_resuming_begins_a_new_run(tmp_path: Path, server: Server) -> None:
    for value in (1.0, 2.0):
        with Tracker(str(tmp_path), URI, "train", "a", resume=False) as tracker:
            tracker.scalars({"loss": value}, 1)
    assert [m[2] for m in server.metrics["run0"]] == [1.0]
    assert [m[2] for m in server.metrics["run1"]] == [2.0]


@pytest.mark.parametrize("there", [{}, {"mlflow.experimentKind": "genai_development"}])
def test_an_experiment_opens_on_its_training_view(tmp_path: Path, server: Server, there: dict[str, str]) -> None:
    """MLflow 3 shows the GenAI view of an experiment without a kind. A kind that somebody chose is kept."""
    server.experiment = dict(there)
    Tracker(str(tmp_path / "r"), URI, "run", "r").close()
    assert server.experiment == (there or {"mlflow.experimentKind": "custom_model_development"})


def test_the_page_of_a_run_holds_no_password(tmp_path: Path, server: Server) -> None:
    with Tracker(str(tmp_path / "off"), None, "run", "r") as off:
        assert off.page is None
    server.down = True
    tracker = Tracker(str(tmp_path / "r"), "http://me:secret@host:5000/", "run", "r")
    assert tracker.page is None
    server.down = False
    _until(lambda: tracker.run_id is not None)
    wanted = "http://host:5000/#/experiments/1/runs/run0?workflowType=machine_learning"
    assert tracker.page == wanted
    tracker.close()
    again = Tracker(str(tmp_path / "r"), "http://me:secret@host:5000/", "run", "r")
    assert again.page == wanted
    again.close()


def test_nested_runs(tmp_path: Path, server: Server) -> None:
    parent = Tracker(str(tmp_path / "p"), URI, "run", "p", tags={"weights": "random"})
    Tracker(str(tmp_path / "c"), URI, "train", "c", parent=parent.run_id).close()
    parent.close()
    assert server.runs["run1"]["tags"]["mlflow.parentRunId"] == "run0"
    assert server.runs["run0"]["tags"]["weights"] == "random"
    assert server.runs["run1"]["tags"]["mlflow.source.name"] == "train"
    server.down = True
    other = Tracker(str(tmp_path / "p2"), URI, "run", "p2")
    child = Tracker(str(tmp_path / "c2"), URI, "train", "c2", parent=other.as_parent)
    server.down = False
    child.close()
    other.close()
    runs = {run["name"]: key for key, run in server.runs.items()}
    assert server.runs[runs["c2"]]["tags"]["mlflow.parentRunId"] == runs["p2"]


def test_an_object_store_holds_the_record_too(server: Server) -> None:
    folder = "memory://tracking/run"
    try:
        for steps in ((1, 2), (2, 3)):
            with Tracker(folder, URI, "train", "a") as tracker:
                for step in steps:
                    tracker.scalars({"loss": float(step)}, step)
                tracker.picture("sheet", Image.new("RGB", (2, 2)), step)
        lines = [json.loads(line) for line in storage.read(f"{folder}/metrics.jsonl").splitlines()]
        assert [w["step"] for w in lines if "values" in w] == [1, 2, 3]
        assert [m[1] for m in server.metrics["run0"]] == [1, 2, 3]
        assert storage.names(f"{folder}/pictures") == ["sheet-2.png", "sheet-3.png"]
        assert len(server.runs) == 1
    finally:
        storage.remove(folder)


def test_names_and_addresses_are_checked_where_they_are_given(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--tracking mlruns"):
        Tracker(str(tmp_path), "mlruns", "train", "a")
    with Tracker(str(tmp_path), None, "train", "a") as tracker:
        for name in ("a//b", "../a", "loss (mean)", "a" * 251):
            with pytest.raises(ValueError, match="name"):
                tracker.scalars({name: 0.0}, 0)
        with pytest.raises(ValueError, match="picture name"):
            tracker.picture("a+b", Image.new("RGB", (1, 1)), 0)
        with pytest.raises(FileNotFoundError, match="nothing_there"):
            tracker.file(str(tmp_path / "nothing_there"))
    assert sending.bare("https://me:secret@host:5000/x") == "https://host:5000/x"


def test_a_defect_in_sending_is_raised_not_swallowed(tmp_path: Path, server: Server, monkeypatch: Any) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise TypeError("a defect")

    tracker = Tracker(str(tmp_path), URI, "train", "a")
    monkeypatch.setattr(server, "log_batch", broken)
    tracker.scalars({"loss": 1.0}, 1)
    with pytest.raises(TypeError, match="a defect"):
        tracker.close()


def test_sqlite_holds_all_that_was_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MACHINE_PERIOD", 0.3)
    monkeypatch.chdir(tmp_path)  # nothing may land in the working folder
    uri = f"sqlite:///{tmp_path}/db/mlflow.db"
    (tmp_path / "db").mkdir()
    (tmp_path / "card.json").write_text("{}")
    with Tracker(str(tmp_path / "run"), uri, "train", "facades") as tracker:
        tracker.parameters({"layers": "x" * 7000})
        tracker.description("**Made by** `jobs.train`")
        tracker.scalars({"loss": 0.25, "odd": float("nan")}, 16)
        tracker.picture("samples/mapper", Image.new("RGB", (8, 8), (255, 0, 0)), 16)
        tracker.file(str(tmp_path / "card.json"), "cards")
        tracker.dataset("facades", "ab" * 32, "s3://bucket/facades", "training")
        time.sleep(0.8)
    client = sending.connect(uri)
    run = client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    where = f"#/experiments/{run.info.experiment_id}/runs/{tracker.run_id}?workflowType=machine_learning"
    assert tracker.page == f"mlflow ui --backend-store-uri {uri}, then http://127.0.0.1:5000/{where}"
    assert client.get_experiment(run.info.experiment_id).tags["mlflow.experimentKind"] == "custom_model_development"
    assert run.data.tags["mlflow.note.content"] == "**Made by** `jobs.train`"
    assert len(run.data.params["layers"]) == 6000
    assert run.data.metrics["loss"] == 0.25
    assert run.data.metrics["odd"] != run.data.metrics["odd"]
    assert 0 < run.data.metrics["system/system_memory_usage_percentage"] <= 100
    history = client.get_metric_history(tracker.run_id, "loss")
    assert [(m.step, m.timestamp) for m in history] == [
        (16, next(w["time"] for w in _lines(tmp_path / "run") if w.get("step") == 16))
    ]
    data = run.inputs.dataset_inputs[0]
    assert data.dataset.digest == ("ab" * 32)[:36]
    assert {t.key: t.value for t in data.tags} == {"mlflow.data.context": "training", "fingerprint": "ab" * 32}
    pictures = [f.path for f in client.list_artifacts(tracker.run_id, "images")]
    assert len(pictures) == 2
    assert all(p.startswith("images/samples~mapper+step+16+") for p in pictures)
    assert [f.path for f in client.list_artifacts(tracker.run_id, "cards")] == ["cards/card.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["card.json", "db", "run"]


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[Callable[[], tuple[str, subprocess.Popen[bytes]]]]:
    """Start (again) a real server on one port; all of them are ended."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    running: list[subprocess.Popen[bytes]] = []

    def start() -> tuple[str, subprocess.Popen[bytes]]:
        command = [
            sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{tmp_path}/server.db",
            "--artifacts-destination", str(tmp_path / "store"), "--host", "127.0.0.1",
            "--port", str(port), "--workers", "1",
        ]  # fmt: skip
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with open(tmp_path / "server.log", "ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        running.append(process)
        end = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                    return f"http://127.0.0.1:{port}", process
            except (urllib.error.URLError, OSError):
                assert process.poll() is None and time.monotonic() < end, (tmp_path / "server.log").read_text()[-2000:]
                time.sleep(0.3)

    yield start
    for process in running:
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """The server with its workers: its own process group."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


@pytest.mark.slow
def test_a_real_server_killed_and_started_again(tmp_path: Path, mlflow_server: Any, caplog: Any) -> None:
    caplog.set_level(logging.WARNING, "variegate.tracking")
    uri, process = mlflow_server()
    folder = tmp_path / "run"
    tracker = Tracker(str(folder), uri, "train", "outage")
    assert tracker.run_id
    for step in range(50):
        tracker.scalars({"loss": step / 7, "rate": 1.0}, step)
    time.sleep(3)
    for step in range(50, 60):  # some of these are on their way when it dies
        tracker.scalars({"loss": step / 7, "rate": 1.0}, step)
    _kill(process)
    slowest = 0.0
    for step in range(60, 120):
        begin = time.monotonic()
        tracker.scalars({"loss": step / 7, "rate": 1.0}, step)
        slowest = max(slowest, time.monotonic() - begin)
        time.sleep(0.05)
    tracker.picture("sheet", Image.new("RGB", (16, 16), (9, 9, 9)), 119)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text("flavors: {}\n")
    tracker.model(str(tmp_path / "model"), "outage-model")
    assert slowest < 0.5, "training waited for the server"
    _until(lambda: "cannot be reached" in caplog.text, 30)
    mlflow_server()
    tracker.close(wait=60)
    client = sending.connect(uri)
    got = [
        (m.key, m.step, m.value, m.timestamp)
        for k in ("loss", "rate")
        for m in client.get_metric_history(tracker.run_id, k)
    ]
    assert sorted(got) == [e for e in _expect(folder) if not e[0].startswith("system/")]
    assert len(got) == 240
    assert client.get_run(tracker.run_id).info.status == "FINISHED"
    assert len(client.list_artifacts(tracker.run_id, "images")) == 2
    assert [v.run_id for v in client.search_model_versions("name = 'outage-model'")] == [tracker.run_id]
    assert caplog.text.count("cannot be reached") == 1 and "MLflow refused" not in caplog.text
