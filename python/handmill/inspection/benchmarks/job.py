"""What a library offers for a workload."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill.ir.op import Array

Run = Callable[[int], Any]
"""Runs that many steps."""

SHUFFLE_SEED = 1
"""Of the order of the rows, so that the figure that a library is checked by repeats."""


class AbsentError(Exception):
    """The library cannot do this workload; the message says why."""


@dataclass
class Job:
    """What a library offers for a workload.

    Attributes:
        ways: how it can be run; the fastest is timed.
        check: a figure to compare with other libraries: the loss, or the largest output.
        unit: only multiples of so many steps can be run.
        roofline: microseconds that a step takes at least, where the library knows.
    """

    ways: dict[str, Run]
    check: Callable[[], float]
    unit: int = 1
    roofline: Callable[[], float] | None = None

    def fastest(self, seconds: float) -> str:
        """The way with the least time of a step in some trials.

        Args:
            seconds: of a trial.
        """
        if len(self.ways) == 1:
            return next(iter(self.ways))
        best: dict[str, float] = {}
        for name, run in self.ways.items():
            run(2 * self.unit)  # compiles
            once = seconds_of(run, self.unit)
            steps = max(1, int(seconds / once / self.unit)) * self.unit
            best[name] = min(seconds_of(run, steps) for _ in range(3))
        return min(best, key=lambda name: best[name])


def seconds_of(run: Run, steps: int) -> float:
    """Seconds of a step."""
    start = time.perf_counter()
    run(steps)
    return (time.perf_counter() - start) / steps


def batches(rows: int, batch: int, rng: np.random.Generator, steps: int) -> Iterator[Array]:
    """Row numbers of that many shuffled batches."""
    done = 0
    while done < steps:
        order = rng.permutation(rows)
        for start in range(0, rows - batch + 1, batch):
            if done == steps:
                return
            yield order[start : start + batch]
            done += 1


def calls(call: Callable[[], Any]) -> Run:
    """A step is one call."""

    def run(steps: int) -> None:
        for _ in range(steps):
            call()

    return run


def largest(call: Callable[[], Any]) -> Callable[[], float]:
    """The check of a prediction."""
    return lambda: float(np.max(np.asarray(call())))
