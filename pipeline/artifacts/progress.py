"""What a long piece of work does, how far it is, and the time left: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from types import TracebackType
from typing import Any, TextIO, TypeVar

FIRST = 5.0
"""Seconds of work before anything is shown."""
EVERY = 10.0
"""Seconds between two lines where the output is no terminal."""
BEAT = 0.5
"""Seconds between two looks at the clock."""

T = TypeVar("T")


class Progress:
    """Shows the progress of a `with` block on stderr. Work that ends within `FIRST` seconds shows nothing.

        with Progress("describe", len(parts), "parts") as progress:
            for part in parts:
                ...
                progress.advance()

    A thread watches the clock, so that work that never advances is shown too. Only one is shown at a time: one that
    begins within another stays silent. Within an `outer` one it is shown in its place: a job of many short parts has
    one clock, and shows which part it is at. `what` empty: nothing is shown.
    """

    _shown: Progress | None = None

    def __init__(
        self,
        what: str,
        total: float | None = None,
        unit: str = "",
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        beat: float | None = None,
        outer: bool = False,
    ) -> None:
        """stream: stderr. clock, beat (BEAT): for tests (beat 0: no thread, call `tick`)."""
        self.what, self.total, self.unit, self.done = what, total, unit, 0.0
        self.rate: float | None = None
        """Units a second, where it is known better than from the whole time so far."""
        self._stream, self._clock, self._beat = stream or sys.stderr, clock, BEAT if beat is None else beat
        self._began = self._since = clock()
        self._outer = outer
        self._within: Progress | None = None
        self._first, self._set = 0.0, False
        self._told: float | None = None
        self._bar: Any = None
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def advance(self, count: float = 1) -> None:
        self.done += count

    def set(self, done: float, total: float | None = None, what: str = "", rate: float | None = None) -> None:
        """Where the work is. Another `what` begins a new count; what was done before the first call is not counted as
        speed."""
        if not self._set or (what and what != self.what):
            self._since, self._first, self._set = self._clock(), done, True
        self.what, self.total = what or self.what, self.total if total is None else total
        self.done, self.rate = done, rate

    def text(self) -> str:
        """ "12 of 40 parts, 1.5 parts/s, 0:19 left"."""
        now = self._clock()
        made, spent = self.done - self._first, now - self._since
        rate = self.rate if self.rate is not None else made / spent if spent > 0 else 0.0
        unit = f" {self.unit}" if self.unit else ""
        if self._outer and not self._set:
            return f"{_duration(now - self._began)} so far"
        parts = [f"{self.done:.0f}{unit}" if self.total is None else f"{self.done:.0f} of {self.total:.0f}{unit}"]
        if rate <= 0:
            return ", ".join([*parts, f"{_duration(now - self._began)} so far"])
        parts.append(f"{rate:.0f}{unit}/s" if rate >= 10 else f"{rate:.2g}{unit}/s")
        if self.total is not None:
            parts.append(f"{_duration((self.total - self.done) / rate)} left")
        return ", ".join(parts)

    def tick(self) -> None:
        """Show where the work is, if it is time to."""
        now = self._clock()
        if now - self._began < FIRST or Progress._shown is not self:
            return
        told = self._within or self
        if self._stream.isatty():
            self._draw(told)
        elif self._told is None or now - self._told >= EVERY:
            self._told = now
            print(f"{told.what}: {told.text()}", file=self._stream, flush=True)

    def _draw(self, told: Progress) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}")
            self._bar = Bar(*columns, console=Console(file=self._stream), transient=True, auto_refresh=False)
            self._bar.add_task(self.what, told="")
            self._bar.start()
        state = {"description": told.what, "completed": told.done, "total": told.total, "told": told.text()}
        self._bar.update(self._bar.task_ids[0], refresh=True, **state)

    def __enter__(self) -> Progress:
        if self.what and Progress._shown is None:
            Progress._shown = self
            if self._beat:
                self._thread = threading.Thread(target=self._watch, daemon=True, name="progress")
                self._thread.start()
        elif self.what and (host := Progress._shown) and host._outer and host._within is None:
            host._within = self
        return self

    def _watch(self) -> None:
        while not self._end.wait(self._beat):
            self.tick()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        if self._thread:
            self._thread.join()
        if self._bar is not None:
            self._bar.stop()
        if Progress._shown is self:
            Progress._shown = None
        elif Progress._shown and Progress._shown._within is self:
            Progress._shown._within = None


def follow(items: Iterable[T], what: str, total: float | None = None, unit: str = "") -> Iterator[T]:
    """The items, with the progress of whoever takes them. total: their number, where it has no `len`."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Progress(what, total, unit) as progress:
        for item in items:
            yield item
            progress.advance()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
