"""Where the time of a step goes: each launch of its plan, beside what the machine could do at most.

The roofline of a launch is max(FLOP / peak, bytes / bandwidth at its footprint), with peak and
bandwidth measured in the same process (:mod:`handmill.inspection.ceilings`) for all threads. It is
a lower bound: functions such as exp count as one operation, and whoever finds operands in cache
because the launch before left them there can even beat it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from handmill.inspection.ceilings import Ceilings, ceilings_of
from handmill.ir.op import Array
from handmill.runtime.feed import Feed
from handmill.runtime.function import TracedFunction

GATHER = "gather_rows"


@dataclass(frozen=True, slots=True)
class LaunchProfile:
    """One launch of a plan.

    Attributes:
        kernel: the kernel's name; ``"host"`` for an operator that NumPy runs.
        scope: the layer that asked for it, ``""`` for none.
        isa: the instruction set level, ``"host"`` for host nodes.
        blocks: the parts that threads share.
        flops: operations.
        bytes_read: compulsory bytes read.
        bytes_written: compulsory bytes written.
        seconds: the least time of the launch alone, over all repeats.
        roofline_seconds: the time that no kernel can beat.
        host: whether the reference runs in Python instead of a kernel.
        barrier: whether the threads wait for each other before the launch.
        cached: whether it runs only when weights have changed; not part of the sums.
    """

    kernel: str
    scope: str
    isa: str
    blocks: int
    flops: float
    bytes_read: float
    bytes_written: float
    seconds: float
    roofline_seconds: float
    host: bool = False
    barrier: bool = False
    cached: bool = False

    @property
    def percent_of_roofline(self) -> float:
        """100 where the launch takes the least time possible."""
        return _percent(self.roofline_seconds, self.seconds)


@dataclass(frozen=True)
class Profile:
    """What :meth:`Model.profile` found. Printing it prints the table.

    Attributes:
        kind: ``"training"`` or ``"inference"``.
        batch_size: rows of a batch.
        launches: a row for each launch and host node of the plan, in order.
        seconds: of a whole step, as ``fit`` (or a call of the model) runs it.
        isa: the instruction set level.
        threads: the threads that were there for the step.
        ceilings: the measured peak and bandwidths, as plain data.
    """

    kind: str
    batch_size: int
    launches: tuple[LaunchProfile, ...]
    seconds: float
    isa: str
    threads: int
    ceilings: dict[str, Any]

    def _sum(self, name: str) -> float:
        return float(sum(getattr(s, name) for s in self.launches if not s.cached))

    @property
    def flops(self) -> float:
        """Operations of a step."""
        return self._sum("flops")

    @property
    def bytes(self) -> float:
        """Bytes that the launches read and write."""
        return self._sum("bytes_read") + self._sum("bytes_written")

    @property
    def sum_of_seconds(self) -> float:
        """The launches run alone, one after the other, with a start and an end each."""
        return self._sum("seconds")

    @property
    def roofline_seconds(self) -> float:
        """The sum of the launches' rooflines."""
        return self._sum("roofline_seconds")

    @property
    def percent_of_roofline(self) -> float:
        """The roofline against the time of the whole step."""
        return _percent(self.roofline_seconds, self.seconds)

    @property
    def host_nodes(self) -> int:
        """Operators that run in Python for want of a kernel."""
        return sum(s.host for s in self.launches)

    @property
    def barriers(self) -> int:
        """Places where threads wait for each other."""
        return sum(s.barrier for s in self.launches)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data: numbers, strings, lists and dicts."""
        return {
            "kind": self.kind,
            "batch_size": self.batch_size,
            "isa": self.isa,
            "threads": self.threads,
            "seconds": self.seconds,
            "sum_of_seconds": self.sum_of_seconds,
            "roofline_seconds": self.roofline_seconds,
            "percent_of_roofline": self.percent_of_roofline,
            "flops": self.flops,
            "bytes": self.bytes,
            "host_nodes": self.host_nodes,
            "barriers": self.barriers,
            "ceilings": self.ceilings,
            "launches": [
                {**asdict(s), "percent_of_roofline": s.percent_of_roofline} for s in self.launches
            ],
        }

    def to_json(self) -> str:
        """The same as JSON."""
        return json.dumps(self.to_dict(), indent=1)

    def __str__(self) -> str:
        return _table(self)

    __repr__ = __str__


def profile_program(
    function: TracedFunction, arrays: Sequence[Array], batch_size: int, training: bool
) -> Profile:
    """Profiles the plan of a program; see :meth:`Model.profile`.

    Args:
        function: the program.
        arrays: data for its inputs, ``batch_size`` rows or more each.
        batch_size: rows of a batch.
        training: whether batches are gathered from ``arrays``, as ``fit`` does.
    """
    from handmill import _core

    rows = min(len(a) for a in arrays)
    if not 0 < batch_size <= rows:
        raise ValueError(
            f"profile() needs one whole batch at least: got {rows} rows for batch_size="
            f"{batch_size}. Pass more rows or a smaller batch_size."
        )
    arrays = [np.ascontiguousarray(a) for a in arrays]
    batch = [np.ascontiguousarray(a[:batch_size]) for a in arrays]
    plan = function.plan(*batch)
    signature = function.fitted(batch).signature
    ceilings = ceilings_of(_core.isa(), _core.num_threads())
    with _Untouched(signature.written):
        if training:
            run = _fed(function, arrays, batch_size)
        else:
            function(*batch)  # an index that a guard refuses is named here
            run = _called(plan, batch)
        seconds = _seconds(run)
        times = plan.profile(*batch, repeats=int(np.clip(0.3 / seconds, 5, 500)))
        gather = [_gather(arrays, batch_size, ceilings)] if training else []
    rows_of_plan = [
        _row({**launch, "scope": signature.scope(launch["scope"])}, took, ceilings)
        for launch, took in zip(plan.summary(), times, strict=True)
    ]
    return Profile(
        "training" if training else "inference",
        batch_size,
        (*gather, *rows_of_plan),
        seconds,
        plan.isa,
        ceilings.threads,
        ceilings.to_dict(),
    )


class _Untouched:
    """Gives variables back what they held."""

    def __init__(self, variables: Iterable[Any]) -> None:
        self._kept = [(v.state, v.state.copy()) for v in variables]

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        for state, content in self._kept:
            state.write(content)


def _row(launch: dict[str, Any], seconds: float, ceilings: Ceilings) -> LaunchProfile:
    traffic = launch["bytes_read"], launch["bytes_written"], launch["bytes_in_place"]
    return LaunchProfile(
        launch["kernel"],
        launch["scope"],
        launch["isa"],
        launch["blocks"],
        launch["flops"],
        launch["bytes_read"],
        launch["bytes_written"],
        seconds,
        ceilings.least_time(launch["flops"], *traffic),
        launch["host"],
        launch["barrier"],
        launch["cached"],
    )


def _fed(function: TracedFunction, arrays: Sequence[Array], batch_size: int) -> Callable[[], int]:
    """A run over the data as an epoch of ``fit`` makes it; returns the number of steps."""
    rows = min(len(a) for a in arrays)
    feed = Feed(arrays, np.random.default_rng(0).permutation(rows))

    def run() -> int:
        feed.position = 0
        return function.run_fed(feed, batch_size, max(1, rows // batch_size), 0.05)

    return run


def _called(plan: Any, batch: Sequence[Array]) -> Callable[[], int]:
    def run() -> int:
        plan(*batch)
        return 1

    return run


def _gather(arrays: Sequence[Array], batch_size: int, ceilings: Ceilings) -> LaunchProfile:
    """The gathering of a batch: a program that does nothing else."""
    nothing = TracedFunction(lambda *values: (), "gather")
    seconds = _seconds(_fed(nothing, arrays, batch_size), 0.05)
    moved = float(sum(a.nbytes // len(a) * batch_size for a in arrays))
    read = moved + 8.0 * batch_size * len(arrays)
    data_set = float(sum(a.nbytes for a in arrays))
    return LaunchProfile(
        GATHER,
        "",
        ceilings.isa,
        1,
        0.0,
        read,
        moved,
        seconds,
        ceilings.memory_time(read, moved, 0.0, moved + data_set),
    )


def _seconds(run: Callable[[], int], budget: float = 0.3) -> float:
    """The least seconds of a step over many runs that take about ``budget`` in all."""
    run()
    best, end, rounds = float("inf"), time.perf_counter() + budget, 0
    while rounds < 3 or time.perf_counter() < end:
        steps, start = 0, time.perf_counter()
        while True:
            steps += run()
            passed = time.perf_counter() - start
            if passed > budget / 20:
                break
        best = min(best, passed / steps)
        rounds += 1
    return best


def _percent(roofline: float, seconds: float) -> float:
    return 100 * roofline / seconds if seconds > 0 else 0.0


COLUMNS = ("launch", "kernel", "isa", "blocks", "MFLOP", "KB", "us", "roofline", "%", "")


def _table(found: Profile) -> str:
    lines = [
        f"{found.kind} step, batch of {found.batch_size}, {found.isa}, {found.threads} thread(s); "
        f"peak {found.ceilings['peak_gflops']:.0f} GFLOP/s"
    ]
    cells = [COLUMNS]
    for i, s in enumerate(found.launches):
        marks = [name for name in ("host", "barrier", "cached") if getattr(s, name)]
        cells.append(
            (
                str(i), s.kernel, s.isa, str(s.blocks), f"{s.flops / 1e6:.3f}",
                f"{(s.bytes_read + s.bytes_written) / 1e3:.1f}", f"{s.seconds * 1e6:.2f}",
                f"{s.roofline_seconds * 1e6:.2f}", f"{s.percent_of_roofline:.0f}",
                " ".join([*(m.upper() if m == "host" else m for m in marks), s.scope]),
            )
        )  # fmt: skip
    cells.append(
        (
            "", "all launches, each alone", "", "", f"{found.flops / 1e6:.3f}",
            f"{found.bytes / 1e3:.1f}", f"{found.sum_of_seconds * 1e6:.2f}",
            f"{found.roofline_seconds * 1e6:.2f}",
            f"{_percent(found.roofline_seconds, found.sum_of_seconds):.0f}", "",
        )
    )  # fmt: skip
    widths = [max(len(row[i]) for row in cells) for i in range(len(COLUMNS) - 1)]
    left = (1, 2)
    for row in cells:
        text = "  ".join(
            f"{cell:<{w}}" if i in left else f"{cell:>{w}}"
            for i, (cell, w) in enumerate(zip(row, widths, strict=False))
        )
        lines.append(f"{text}  {row[-1]}".rstrip())
    host = f", {found.host_nodes} HOST NODES (NumPy)" if found.host_nodes else ", no host nodes"
    lines.append(
        f"whole step: {found.seconds * 1e6:.2f} us, {found.flops / found.seconds / 1e9:.1f} "
        f"GFLOP/s; roofline {found.roofline_seconds * 1e6:.2f} us: "
        f"{found.percent_of_roofline:.0f} % of it reached; {found.barriers} barriers{host}"
    )
    return "\n".join(lines)
