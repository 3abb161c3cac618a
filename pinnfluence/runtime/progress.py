"""Progress bars: with rate and time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0


def progress_bar(description: str, total: int | None, initial: int = 0, unit: str = "it") -> tqdm:
    """A bar on stderr; off a terminal it prints a line every half minute. None: no known total."""
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit=unit,
        dynamic_ncols=terminal,
        mininterval=0.2 if terminal else SECONDS_BETWEEN_LINES,
        file=None if terminal else _Lines(),
    )


class Count:
    """Counts the finished units of a stage: ``count(n)`` finishes n of them.

    Args:
        total: how many there will be, as far as is known.
        advance: receives the number of finished ones. resize: receives another total.
    """

    def __init__(
        self, total: int, advance: Callable[[int], object], resize: Callable[[int], object]
    ) -> None:
        self.done, self.total = 0, total
        self._advance, self._resize = advance, resize

    def __call__(self, n: int) -> None:
        self.done += n
        self._advance(n)

    def expect(self, n: int) -> None:
        """At least n units are still to come: the total grows where it has no room for them."""
        if self.done + n > self.total:
            self.total = self.done + n
            self._resize(self.total)


class Stages:
    """Seconds that each stage of a long computation took, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Count]:
        """Time a stage of ``total`` units; gives what counts the finished ones."""
        began = time.perf_counter()
        with self._counter(name, total) as advance:
            count = Count(total, advance, self._resize)
            yield count
            if count.done < total:  # it took fewer than expected
                self._resize(count.done)
        self.seconds[name] = time.perf_counter() - began

    def kept(self, name: str) -> None:
        """A stage was finished before, and what it found is taken."""

    @contextmanager
    def _counter(self, name: str, total: int) -> Iterator[Callable[[int], object]]:
        yield lambda n: None

    def _resize(self, total: int) -> None:
        """The stage that runs has more units than it was thought to have."""


class ProgressStages(Stages):
    """Stages with a progress bar each; a line for those that were finished before."""

    _bar: tqdm

    def kept(self, name: str) -> None:
        print(f"{name}: as saved", file=sys.stderr)

    @contextmanager
    def _counter(self, name: str, total: int) -> Iterator[Callable[[int], object]]:
        with progress_bar(name, total) as self._bar:
            yield self._bar.update

    def _resize(self, total: int) -> None:
        self._bar.total = total
        self._bar.refresh()


class _Lines:
    """Writes each state of a bar on a line of its own."""

    def write(self, text: str) -> None:
        text = text.strip("\r\n ")
        if text:
            sys.stderr.write(text + "\n")

    def flush(self) -> None:
        sys.stderr.flush()
