"""What this machine can do at most: multiply-adds from registers, and streams through memory.

    python bench/ceilings.py [--json F]

A stream reads an array, copies one half of its footprint into the other, or updates it in place;
bytes read and bytes written both count. Every figure is the best of many short rounds.
"""

from __future__ import annotations

import bisect
import math
from typing import Any

from common import environment, parser, warn_if_busy, write_json

MIB = 1 << 20
FOOTPRINTS = (32 << 10, 256 << 10, MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB)
KINDS = ("read", "copy", "update")


class Ceilings:
    """The ceilings of one level and number of threads, measured when made.

    Args:
        isa: the level; default: the one in use.
        threads: default: all.
        footprints: in bytes; what lies between is interpolated.
        seconds: for each figure.
    """

    def __init__(
        self,
        isa: str | None = None,
        threads: int | None = None,
        footprints: tuple[int, ...] = FOOTPRINTS,
        seconds: float = 0.1,
    ) -> None:
        from handmill import _core

        self.isa = isa or _core.isa()
        self.threads = threads or _core.num_threads()
        options: dict[str, Any] = {
            "isa": self.isa, "threads": self.threads, "seconds": seconds
        }  # fmt: skip
        self.peak: float = _core.measure_peak(**options)
        self.streams: dict[str, list[tuple[int, float]]] = {
            kind: [(n, _core.measure_stream(kind, n, **options)) for n in footprints]
            for kind in KINDS
        }

    def bandwidth(self, kind: str, footprint: float) -> float:
        """Bytes a second of a stream over that many bytes."""
        points = self.streams[kind]
        i = bisect.bisect_left(points, (footprint, 0.0))
        if i == 0 or i == len(points):
            return points[min(i, len(points) - 1)][1]
        (n0, rate0), (n1, rate1) = points[i - 1], points[i]
        share = math.log(footprint / n0) / math.log(n1 / n0)
        return rate0 * (rate1 / rate0) ** share

    def least_time(self, flops: float, moved: float, kind: str, footprint: float) -> float:
        """Seconds that no kernel can beat: arithmetic or memory, whichever takes longer."""
        return max(flops / self.peak, moved / self.bandwidth(kind, footprint))

    def as_dict(self) -> dict[str, Any]:
        return {
            "isa": self.isa,
            "threads": self.threads,
            "peak_gflops": self.peak / 1e9,
            "gb_per_second": {
                kind: {str(n): rate / 1e9 for n, rate in points}
                for kind, points in self.streams.items()
            },
        }


def stream_of(kernel: str) -> str:
    """The stream that resembles how a kernel uses memory."""
    if kernel.endswith("_update"):
        return "update"
    readers = ("matmul", "reduce_rows", "reduce_columns", "argreduce", "check_labels",
               "sparse_softmax_cross_entropy", "softmax_cross_entropy", "sparse_match",
               "dense_match", "accumulate_mean")  # fmt: skip
    return "read" if kernel in readers else "copy"


def size_name(n: int) -> str:
    return f"{n // MIB} MB" if n >= MIB else f"{n >> 10} KB"


def main() -> None:
    options = parser(__doc__).parse_args()
    from handmill import _core

    warn_if_busy()
    seconds = 0.001 if options.smoke else 0.3
    footprints = FOOTPRINTS[1:3] if options.smoke else FOOTPRINTS
    threads = sorted({1, _core.num_threads()})
    levels = list(_core.available_isas())
    found = [Ceilings(isa, t, footprints, seconds) for isa in levels for t in threads]
    print("multiply-adds, GFLOP/s")
    for c in found:
        print(f"  {c.isa:9s} {c.threads} thread(s) {c.peak / 1e9:8.1f}")
    print("GB/s       threads" + "".join(f"{size_name(n):>9s}" for n in footprints))
    for c in found:
        for kind in KINDS:
            row = "".join(f"{rate / 1e9:9.1f}" for _, rate in c.streams[kind])
            print(f"  {c.isa:9s} {c.threads} {kind:6s}{row}")
    report = {**environment(options.machine), "ceilings": [c.as_dict() for c in found]}
    write_json(options.json, report)


if __name__ == "__main__":
    main()
