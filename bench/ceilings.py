"""What this machine can do at most: multiply-adds from registers, and streams through memory.

    python bench/ceilings.py [--json F]

A stream reads an array, copies one half of its footprint into the other, or updates it in place;
bytes read and bytes written both count. Every figure is the best of many short rounds.
"""

from __future__ import annotations

from common import environment, parser, warn_if_busy, write_json

from handmill.inspection.ceilings import FOOTPRINTS, KINDS, MIB, Ceilings


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
    for c in found:
        c.measure_all()
    print("multiply-adds, GFLOP/s")
    for c in found:
        print(f"  {c.isa:9s} {c.threads} thread(s) {c.peak / 1e9:8.1f}")
    print("GB/s       threads" + "".join(f"{size_name(n):>9s}" for n in footprints))
    for c in found:
        for kind in KINDS:
            row = "".join(f"{c.stream(kind, n) / 1e9:9.1f}" for n in footprints)
            print(f"  {c.isa:9s} {c.threads} {kind:6s}{row}")
    report = {**environment(options.machine), "ceilings": [c.to_dict() for c in found]}
    write_json(options.json, report)


if __name__ == "__main__":
    main()
