"""What this machine can do at most: multiply-adds from registers, and streams through memory.

A stream reads an array, copies one half of its footprint into the other, or updates it in place;
bytes read and bytes written both count. Every figure is the best of many short rounds, measured
when it is first asked for and kept for the life of the process.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

MIB = 1 << 20
FOOTPRINTS = (32 << 10, 256 << 10, MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB)
Kind = Literal["read", "copy", "update"]
KINDS: tuple[Kind, ...] = ("read", "copy", "update")


class Ceilings:
    """The ceilings of one instruction set level and number of threads.

    Args:
        isa: the level; default: the one in use.
        threads: default: all.
        footprints: in bytes, ascending; what lies between is interpolated.
        seconds: for each figure.
    """

    def __init__(
        self,
        isa: str | None = None,
        threads: int | None = None,
        footprints: Sequence[int] = FOOTPRINTS,
        seconds: float = 0.1,
    ) -> None:
        from handmill import _core

        self.isa = isa or _core.isa()
        self.threads = threads or _core.num_threads()
        self.footprints = tuple(footprints)
        self._options: dict[str, Any] = {
            "isa": self.isa, "threads": self.threads, "seconds": seconds
        }  # fmt: skip
        self._streams: dict[tuple[Kind, int], float] = {}

    @functools.cached_property
    def peak(self) -> float:
        """Multiply-adds from registers, in FLOP/s."""
        from handmill import _core

        return _core.measure_peak(**self._options)

    def stream(self, kind: Kind, footprint: int) -> float:
        """Bytes a second of a stream over one of the footprints."""
        from handmill import _core

        key = kind, footprint
        if key not in self._streams:
            self._streams[key] = _core.measure_stream(kind, footprint, **self._options)
        return self._streams[key]

    def bandwidth(self, kind: Kind, footprint: float) -> float:
        """Bytes a second of a stream over that many bytes."""
        points = self.footprints
        i = bisect.bisect_left(points, footprint)
        if i == 0 or i == len(points):
            return self.stream(kind, points[min(i, len(points) - 1)])
        before, after = self.stream(kind, points[i - 1]), self.stream(kind, points[i])
        share = math.log(footprint / points[i - 1]) / math.log(points[i] / points[i - 1])
        return float(before * (after / before) ** share)

    def memory_time(
        self, read: float, written: float, in_place: float, footprint: float | None = None
    ) -> float:
        """Seconds that the traffic of a launch takes at least.

        Args:
            read: bytes that the launch reads.
            written: bytes that it writes.
            in_place: bytes of both that lie in the same place.
            footprint: of the memory that they are a part of; default: of the launch.
        """
        footprint = footprint or read + written - in_place
        copied = min(read, written) - in_place
        alone = abs(read - written)
        parts: tuple[tuple[float, Kind], ...] = (
            (2 * in_place, "update"),
            (2 * copied, "copy"),
            (alone, "read" if read >= written else "copy"),
        )
        return sum(moved / self.bandwidth(kind, footprint) for moved, kind in parts if moved > 0)

    def least_time(self, flops: float, read: float, written: float, in_place: float) -> float:
        """Seconds that no kernel can beat: arithmetic or memory, whichever takes longer."""
        return max(flops / self.peak, self.memory_time(read, written, in_place))

    def measure_all(self) -> None:
        """Measures what was not asked for yet."""
        for kind in KINDS:
            for footprint in self.footprints:
                self.stream(kind, footprint)

    def to_dict(self) -> dict[str, Any]:
        """The figures measured so far, as plain data."""
        return {
            "isa": self.isa,
            "threads": self.threads,
            "peak_gflops": self.peak / 1e9,
            "gb_per_second": {
                kind: {
                    str(n): self._streams[kind, n] / 1e9
                    for n in self.footprints
                    if (kind, n) in self._streams
                }
                for kind in KINDS
            },
        }


@functools.cache
def ceilings_of(isa: str, threads: int, seconds: float = 0.02) -> Ceilings:
    """The ceilings of a level and number of threads, measured once in a process.

    Footprints end at 64 MiB: further down lies main memory.
    """
    return Ceilings(isa, threads, FOOTPRINTS[:-1], seconds)
