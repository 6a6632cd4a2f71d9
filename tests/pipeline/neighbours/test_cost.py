"""What a search is said to take: counted operations, sizes, blocks that keep the memory; nothing is written for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ByteSize
from tyro.conf import CascadeSubcommandArgs

from jobs import command, neighbours
from pipeline.artifacts import artifact
from pipeline.neighbours import certified, cost
from pipeline.neighbours.options import METHODS, Certified, Exact, Index, Options, plan_within
from pipeline.neighbours.run import Search
from pipeline.neighbours.units import Units
from pipeline.style.vectors import Vectors
from tests.pipeline.neighbours.test_certified import like_grams, store

RATES = cost.Rates(products=2.0, scores=4.0, pairs=8.0, scan=16.0, rows=32.0, start=5.0)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return store(tmp_path_factory.mktemp("plan") / "d", like_grams(160), np.ones(160, bool))


def planned(source: str, folder: Path, options: Options) -> Any:
    return plan_within(options, Vectors(source), str(folder), artifact.load_card(source))


def test_sizes() -> None:
    assert cost.text(1536) == "1.5 KiB" and cost.text(3 << 30) == "3.0 GiB"


def test_operations_and_seconds_of_the_exact_search_are_counted(source: str, tmp_path: Path) -> None:
    vectors, made = Vectors(source), planned(source, tmp_path / "n", Exact(block=50, workers=1))
    found = cost.estimate(made, vectors, 1, 1, rates=RATES)
    n, d, blocks, lists = 160, 300, 4, 18
    assert found.operations == 2 * n * n * d + 2 * n * n + 3 * 1.2 * n * lists * d
    rows = 2 * n * (blocks + 1)
    seconds = 2 * n * n * d / 2 + 2 * n * n / 4 + 1.2 * n * lists * d / 8 + rows / 32
    assert found.seconds == pytest.approx(seconds + 5)
    written = 2 * 12 * n * lists + 24 * n * made.spans * (lists + 32)
    assert found.written == written and found.read == rows * 4 * d + written
    two = cost.estimate(made, vectors, 2, 1, rates=RATES, cores=2)
    assert two.seconds - 5 == pytest.approx(seconds / 2)
    three = cost.estimate(made, vectors, 3, 1, rates=RATES, cores=3)  # one of them has two of the four blocks
    assert three.seconds - 5 > seconds / 3 * 1.1
    assert cost.estimate(made, vectors, 3, 1, rates=RATES, cores=1).seconds - 5 == pytest.approx(seconds)


def test_units_go_to_who_is_free_and_stages_wait() -> None:
    rates = cost.Rates(products=1.0, scores=1.0, pairs=1.0, scan=1.0, rows=1.0, start=0.0)
    four, long = Units(4, {"products": 4.0, "rows": 8.0}), Units(1, {"products": 4.0})  # of 3 s each; of 4 s
    taken = [cost._taken([long, four], rates, workers, 1) for workers in (1, 2, 3, 9)]
    assert taken == [16.0, 9.0, 6.0, 4.0]
    assert cost._taken([four], rates, 2, 2) == 3.0


def test_blocks_shrink_until_memory_is_kept(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DRIVER", "RAY", "WORKER"):
        monkeypatch.setattr(cost, name, 0)
    monkeypatch.setattr("pipeline.style.vectors.GROUP_BYTES", 1000)
    monkeypatch.setattr(certified, "ROWS", 8)
    monkeypatch.setattr(certified, "QUERIES", 8)
    vectors = Vectors(source)
    for whole in (Exact(workers=1), Certified(workers=1, directions=8)):

        def plan(options: Options) -> Any:
            return planned(source, tmp_path / "n", options)

        free = cost.peak_bytes(plan(whole), vectors, 1)
        limit = free - 4000
        kept = plan(replace(whole, memory=ByteSize(limit)))
        assert kept.block < plan(whole).block and cost.peak_bytes(kept, vectors, 1) <= limit
        with pytest.raises(ValueError, match=r"--memory 1.0 KiB: .* are needed with blocks of 1 rows"):
            plan(replace(whole, memory=ByteSize(1024)))
        with pytest.raises(ValueError, match=r"blocks of 100 rows .* smaller blocks"):
            plan(replace(whole, memory=ByteSize(1024), block=100))


def test_a_dry_run_says_it_and_writes_nothing(
    source: str, tmp_path: Path, no_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for method in METHODS:
        line = [method, "--descriptors", source, "--output", str(tmp_path / "n"), "--dry-run", "--memory", "64GiB"]
        command.main(CascadeSubcommandArgs[neighbours.Config], neighbours.run, "", line)
        said = capsys.readouterr().out
        assert said.startswith(f"plan: {method} search of 160 images in") and "of 64.0 GiB" in said
    assert not (tmp_path / "n").exists()


def test_memory_does_not_change_a_byte(source: str, tmp_path: Path, no_ray: None) -> None:
    Search(source, str(tmp_path / "a"), Exact(workers=1)).run()
    Search(source, str(tmp_path / "b"), Exact(workers=1, memory=ByteSize(32 << 30), block=33)).run()
    names = [p.name for p in sorted((tmp_path / "a").iterdir()) if p.suffix == ".parquet" or p.name == "card.json"]
    assert len(names) == 5
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_rates_are_measured_where_the_search_is_long(source: str, tmp_path: Path) -> None:
    vectors, made = Vectors(source), planned(source, tmp_path / "n", Index(block=1024, workers=1))
    rates = cost.measure(made, vectors, at_once=2)
    assert 1e8 < rates.products < 1e13 and 1e6 < rates.scores < 1e11 and 1e6 < rates.pairs < 1e11
    assert 1e6 < rates.scan < 1e12 and 1e2 < rates.rows < 1e9
