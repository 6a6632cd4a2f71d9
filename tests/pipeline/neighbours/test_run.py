"""A whole search as a function and as a command: requests that stay what they were, options that belong together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ByteSize
from tyro.conf import CascadeSubcommandArgs

from jobs import command, neighbours
from pipeline.artifacts import artifact
from pipeline.neighbours import run
from pipeline.neighbours.options import Certified, Exact, Index, Options
from pipeline.neighbours.run import Search
from tests.pipeline.neighbours.test_certified import like_grams, store

REQUESTS: list[tuple[Options, str]] = [
    (Exact(), "0bee72858b092d74fdc9c38499687c4f09d80f4291699306f8c71c7423642a41"),
    (
        Exact(near=3, far=4, far_cap=0.5, block=7, spans=2, margin=5, workers=1, memory=ByteSize(1 << 40)),
        "7f70365c195e22b4aefcaa54f4f84c0b1f1fa9eb36639c69447a341b322708d2",
    ),
    (Certified(), "6866e56ede1ef8a6c81a8be384ee9301e8ff57fa50e7e693b79870175d740949"),
    (Certified(directions=64, far_cap=0.25), "913c8573ea48ae67dc811a392d74840992f264f8044a8a6b1f682378633b5618"),
    (Index(), "85b9a0aa516428722b79806ad1795c1d90ae4b4704217b4ed54a00e924c6c038"),
    (
        Index(index="IVF8,Flat", probes=3, candidates=60, recall_sample=200, block=1024, far_cap=1.0),
        "002ab61a5cd7d8b2f9b320560ef18411544073cec69246ee90630b3e11317746",
    ),
]
"""Hashes of the requests as version 0.1.0 wrote them."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return store(tmp_path_factory.mktemp("run") / "d", like_grams(160), np.ones(160, bool))


@pytest.mark.parametrize(("options", "wanted"), REQUESTS)
def test_requests_are_those_of_existing_artifacts(
    options: Options, wanted: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = artifact.load_card(source)
    described |= {"content": "c" * 64}
    described["inputs"] = {"dataset": "d" * 64, "split": "train", "field": "target", "weights": "random:0"}
    monkeypatch.setattr(run.artifact, "load_card", lambda *_: described)
    assert artifact.digest(Search(source, str(tmp_path / "n"), options).check()) == wanted


def parsed(*words: str) -> neighbours.Config:
    found: list[neighbours.Config] = []
    line = [*words, "--descriptors", "d", "--output", "o"]
    command.main(CascadeSubcommandArgs[neighbours.Config], found.append, "", line)
    return found[0]


def test_the_method_is_a_word_with_options_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert parsed("exact", "--spans", "2").search == Exact(spans=2)
    assert parsed("certified", "--directions", "9", "--memory", "1.5k").search == Certified(
        directions=9, memory=ByteSize(1500)
    )
    assert parsed("index", "--memory", "4GiB").search == Index(memory=ByteSize(4 << 30))
    for words in (["exact", "--directions", "9"], ["certified", "--probes", "1"], ["index", "--threads", "2"], []):
        with pytest.raises(SystemExit) as ended:
            parsed(*words)
        assert ended.value.code == 2
    for wrong in ("4 GiB of it", "4,5GiB", "four", "-1GB", "1e400GiB"):
        with pytest.raises(SystemExit):
            parsed("exact", f"--memory={wrong}")
        assert "give a size such as" in capsys.readouterr().err
