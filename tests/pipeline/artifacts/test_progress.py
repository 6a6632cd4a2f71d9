"""What a long piece of work says of itself, by a clock that the test moves."""

from __future__ import annotations

import io
import time

import pytest

from pipeline.artifacts import progress
from pipeline.artifacts.progress import Progress, follow


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_after_five_seconds_and_then_every_ten() -> None:
    clock, out = Clock(), io.StringIO()
    told = []
    with Progress("describe", 40, "parts", out, clock, beat=0) as shown:
        for second in range(1, 31):
            clock.now = 100 + second
            if second % 2 == 0:
                shown.advance()
            before = len(out.getvalue())
            shown.tick()
            told += [(second, line) for line in out.getvalue()[before:].splitlines()]
    assert told == [
        (5, "describe: 2 of 40 parts, 0.4 parts/s, 1:35 left"),
        (15, "describe: 7 of 40 parts, 0.47 parts/s, 1:11 left"),
        (25, "describe: 12 of 40 parts, 0.48 parts/s, 0:58 left"),
    ]


def test_short_work_says_nothing_and_work_that_does_not_advance_is_shown() -> None:
    clock, out = Clock(), io.StringIO()
    with Progress("shard", 2, "shards", out, clock, beat=0) as shown:
        clock.now += 4.9
        shown.tick()
        assert out.getvalue() == ""
        clock.now += 3600
        shown.tick()
    assert out.getvalue() == "shard: 0 of 2 shards, 1:00:05 so far\n"


def test_where_work_goes_on_what_was_done_before_is_no_speed() -> None:
    clock, out = Clock(), io.StringIO()
    with Progress("train", unit="images", stream=out, clock=clock, beat=0) as shown:
        clock.now += 20  # until the first word of it
        shown.set(900, 1000, "encoder")
        clock.now += 10
        shown.set(920, 1000, "encoder")
        assert shown.text() == "920 of 1000 images, 2 images/s, 0:40 left"
        shown.set(940, 1000, "encoder", rate=30)
        assert shown.text() == "940 of 1000 images, 30 images/s, 0:02 left"
        shown.set(0, 500, "generator")
        clock.now += 5
        shown.set(50, 500, "generator")
        shown.tick()
    assert out.getvalue() == "generator: 50 of 500 images, 10 images/s, 0:45 left\n"


def test_a_bar_on_a_terminal_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    clock, out = Clock(), Terminal()
    with Progress("describe", 4, "parts", out, clock, beat=0) as shown:
        clock.now += 6
        shown.advance(3)
        shown.tick()
        assert "describe" in out.getvalue() and "3 of 4 parts" in out.getvalue() and "0:02 left" in out.getvalue()
        drawn = len(out.getvalue())
    assert "\x1b[2K" in out.getvalue()[drawn:]  # the line is erased


def test_one_at_a_time_and_none_without_a_name() -> None:
    clock, out = Clock(), io.StringIO()
    for outer, inner in (("outer", "inner"), ("", "inner"), ("", "")):
        one, two = (Progress(what, 2, stream=out, clock=clock, beat=0) for what in (outer, inner))
        with one, two:
            clock.now += 6
            one.tick()
            two.tick()
    assert out.getvalue().splitlines() == ["outer: 0 of 2, 0:06 so far", "inner: 0 of 2, 0:06 so far"]


def test_short_parts_of_a_long_job_are_shown_in_its_place() -> None:
    clock, out = Clock(), io.StringIO()
    with Progress("evaluate", stream=out, clock=clock, beat=0, outer=True) as job:
        for second in range(1, 31):  # parts of three seconds each, too short to be shown by themselves
            if second % 3 == 1:
                part = Progress(f"part {second // 3}", 3, "inputs", out, clock, beat=0)
                part.__enter__()
            clock.now = 100 + second
            part.advance()
            part.tick()  # is not shown by itself
            with Progress("deeper", 9, stream=out, clock=clock, beat=0):
                job.tick()
            if second % 3 == 0:
                part.__exit__(None, None, None)
        clock.now += 10
        job.tick()
    assert out.getvalue().splitlines() == [
        "part 1: 2 of 3 inputs, 1 inputs/s, 0:01 left",
        "part 4: 3 of 3 inputs, 1 inputs/s, 0:00 left",
        "part 8: 1 of 3 inputs, 1 inputs/s, 0:02 left",
        "evaluate: 0:40 so far",
    ]
    assert Progress._shown is None


def test_follow_shows_by_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "FIRST", 0.0)
    monkeypatch.setattr(progress, "BEAT", 0.01)

    def slowly() -> list[int]:
        found = []
        for item in follow([5, 6, 7], "count", unit="numbers"):
            found.append(item)
            time.sleep(0.1)
        return found

    assert slowly() == [5, 6, 7]
    [line] = capsys.readouterr().err.splitlines()  # the next one would come after ten seconds
    assert line.startswith("count: 0 of 3 numbers, ")
    assert Progress._shown is None
