"""The one operator that passes make up: a chain of elementwise operators run as one.

A tile program goes over its operands in pieces that fit the first-level cache and applies
every operator of the chain to a piece before it takes the next: fusion without a compiler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from handmill.ir.op import Array, Exact, Op
from handmill.ir.shapes import Spec


@dataclass(frozen=True, slots=True)
class TileStep:
    """One elementwise operator inside a tile program.

    Attributes:
        op: the operator.
        operands: below the number of inputs: that input; else the result of an earlier step.
        attrs: the operator's attributes as items.
    """

    op: Op
    operands: tuple[int, ...]
    attrs: tuple[tuple[str, Any], ...]


def _run(
    arguments: Sequence[Any], steps: tuple[TileStep, ...], results: tuple[int, ...], rule: str
) -> tuple[Any, ...]:
    values = list(arguments)
    for step in steps:
        operands = (values[i] for i in step.operands)
        values.append(getattr(step.op, rule)(*operands, **dict(step.attrs)))
    return tuple(values[len(arguments) + i] for i in results)


def _infer(*specs: Spec, steps: tuple[TileStep, ...], results: tuple[int, ...]) -> Any:
    found = _run(specs, steps, results, "infer")
    return found if len(found) > 1 else found[0]


def _reference(*arrays: Array, steps: tuple[TileStep, ...], results: tuple[int, ...]) -> Any:
    found = _run(arrays, steps, results, "reference")
    return found if len(found) > 1 else found[0]


TILE = Op(
    "tile",
    infer=_infer,
    reference=_reference,
    samples=lambda: (),
    bound=Exact(),  # each step has its own bound; compare() sums them
    kernel="tile",
)


def tile_code(
    n_inputs: int,
    steps: tuple[TileStep, ...],
    results: tuple[int, ...],
    opcodes: dict[str, int],
) -> dict[str, Any]:
    """Returns the instructions of a tile program as the attributes of its lowering rule.

    Registers are the inputs, then the outputs, then temporaries, which are reused as soon as
    their last reader has run.
    """
    register: dict[int, int] = {i: i for i in range(n_inputs)}
    for position, result in enumerate(results):
        register[n_inputs + result] = n_inputs + position
    last: dict[int, int] = {}
    for at, step in enumerate(steps):
        last.update(dict.fromkeys(step.operands, at))
    first_temp = n_inputs + len(results)
    free: list[int] = []
    n_temps = 0
    instrs: list[int] = []
    imms: list[float] = []
    for at, step in enumerate(steps):
        operands = [register[i] for i in step.operands]
        value = n_inputs + at
        for i in set(step.operands):
            if register[i] >= first_temp and last[i] == at:
                free.append(register[i])
        if value not in register:
            if free:
                register[value] = free.pop()
            else:
                register[value] = first_temp + n_temps
                n_temps += 1
        operands += [0] * (3 - len(operands))
        instrs += [opcodes[str(step.op.tile)], register[value], *operands]
        imm = step.op.tile_imm(dict(step.attrs)) if step.op.tile_imm else ()
        imms += [*imm, *(0.0,) * (2 - len(imm))]
    return {"instrs": tuple(instrs), "imms": tuple(imms), "n_temps": n_temps}
