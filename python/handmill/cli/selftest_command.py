"""``handmill selftest``: every operator's samples, at every level of this CPU, against NumPy."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from handmill import config
from handmill.ir.op import REGISTRY, Op, Sample

# Bounds are those of the kernels, 2 units; NumPy's own float32 exp holds 2.52 and its log 3.83.
NUMPY_LIMIT = 2.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One sample of one operator at one level.

    Attributes:
        op: the operator's name.
        sample: the sample's name.
        isa: the instruction set level.
        error: the largest error in units of the operator's bound.
    """

    op: str
    sample: str
    isa: str
    error: float

    @property
    def ok(self) -> bool:
        """Whether the error is allowed."""
        return self.error <= (NUMPY_LIMIT if self.isa == "numpy" else 1.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the option to see every result."""
    parser.add_argument("-v", "--verbose", action="store_true", help="print every result")


def run(options: argparse.Namespace) -> int:
    """Prints a line a level; status 1 if a result is outside its bound."""
    start = time.perf_counter()
    failed = 0
    for isa in levels():
        outcomes = list(check_level(isa))
        worst = max(outcomes, key=lambda o: o.error)
        bad = [o for o in outcomes if not o.ok]
        failed += len(bad)
        print(
            f"{isa:13}{len({o.op for o in outcomes})} operators, {len(outcomes)} samples, "
            f"{len(bad)} outside their bound; worst {worst.error:.2f} of its bound "
            f"({worst.op}, {worst.sample})"
        )
        for outcome in outcomes if options.verbose else bad:
            print(f"  {outcome.op} {outcome.sample}: {outcome.error:.3g} of its bound")
    print(f"{'FAILED' if failed else 'ok'} in {time.perf_counter() - start:.1f} s")
    return 1 if failed else 0


def levels() -> tuple[str, ...]:
    """The levels of this CPU; ``"numpy"`` alone where NumPy runs everything."""
    return config.available_isas() if config.backend() == "native" else ("numpy",)


def check_level(isa: str) -> Iterator[Outcome]:
    """Runs every sample with the kernels of one level."""
    before = config.isa()
    if isa != "numpy":
        config.set_isa(isa)
    try:
        for op in list_ops():
            for sample in op.samples():
                if not sample.bench:
                    yield Outcome(op.name, sample.name, isa, error_of(op, sample))
    finally:
        if isa != "numpy":
            config.set_isa(before)


def list_ops() -> list[Op]:
    """Every registered operator, by name."""
    import handmill.ops  # noqa: F401  (registers them)

    return [REGISTRY[name] for name in sorted(REGISTRY)]


def error_of(op: Op, sample: Sample) -> float:
    """The largest error of a sample in units of the operator's bound."""
    from handmill.inspection.comparison import worst_error
    from handmill.ir.trace import apply

    inputs = sample.make(np.random.default_rng(0))
    got = apply(op, *inputs, **sample.attrs)
    return worst_error(op, inputs, dict(sample.attrs), got)
