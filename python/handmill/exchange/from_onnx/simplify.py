"""What can be left out of an ONNX program before layers are made of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill.exchange.from_onnx.execution import run
from handmill.exchange.from_onnx.program import (
    Program,
    Step,
    around,
    bodies_of,
    without_unread,
)
from handmill.exchange.messages import DTYPES

MOST_OPENED = 1_000
"""Operators that are looked at to find out what conditions are."""

_KEEP_DTYPE = {
    "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "ConvTranspose", "Div",
    "Dropout", "Elu", "Erf", "Exp", "Expand", "Flatten", "GRU", "Gather", "Gelu", "Gemm",
    "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity",
    "InstanceNormalization", "LSTM", "LayerNormalization", "LeakyRelu", "Log", "MatMul", "MaxPool",
    "Mul", "Neg", "PRelu", "Pad", "Pow", "RNN", "Reciprocal", "ReduceMax", "ReduceMean",
    "ReduceSum", "Relu", "Reshape", "Resize", "Selu", "Sigmoid", "Slice", "Softmax", "Softplus",
    "Softsign", "Split", "Sqrt", "Squeeze", "Sub", "Tanh", "Tile", "Transpose", "Unsqueeze",
}  # fmt: skip
"""Operators whose results have the dtype of their first operand."""


def simplified(program: Program, what: str) -> Program:
    """Returns a program that computes the same, with less that stands between layers.

    Args:
        program: the program.
        what: names the file in errors.
    """
    return without_casts(opened(program, what))


def without_casts(program: Program) -> Program:
    """Returns a program without the Casts of what is float32 to float32, which exporters write."""
    if not any(step.op == "Cast" for step in program.steps):
        return program
    floats = {port.name for port in program.inputs if port.dtype == "float32"}
    floats |= {name for name, array in program.numbers.items() if array.dtype == np.float32}
    kept = set(program.outputs)
    for step in program.steps:
        kept.update(around(bodies_of(step)))  # bodies know them by these names
    same: dict[str, str] = {}
    steps = []
    for step in program.steps:
        step = Step(step.op, [same.get(n, n) for n in step.inputs], step.outputs, step.name,
                    step.attrs)  # fmt: skip
        first = step.inputs[0] if step.inputs else ""
        is_float = DTYPES.get(step.attrs.get("to", 0)) == "float32" if step.op == "Cast" else (
            step.op in _KEEP_DTYPE and first in floats
        )  # fmt: skip
        if step.op == "Cast" and is_float and first in floats and len(step.outputs) == 1:
            if step.outputs[0] not in kept:
                same[step.outputs[0]] = first
                continue
            step = Step("Identity", [first], step.outputs, step.name, {})
        if is_float:
            floats.update(name for name in step.outputs if name)
        steps.append(step)
    return Program(steps, program.inputs, program.outputs, program.numbers, program.opset)


def opened(program: Program, what: str) -> Program:
    """Returns a program with the branch that is taken in the place of each choice that is known.

    So the operators of that branch can be layers. Choices that depend on sizes stay; what they come
    to is known when the program is traced.

    Args:
        program: the program.
        what: names the file in errors.
    """
    if not any(step.op == "If" for step in program.steps):
        return program
    steps: list[Step] = []
    written: dict[str, int] = {}
    left = MOST_OPENED

    def condition(name: str) -> Any:
        """What is computed of the file's numbers alone; None for all else."""
        nonlocal left
        needed: set[int] = set()
        open_, numbers = [name], {}
        left -= 1
        while open_:
            each = open_.pop()
            if left < 0 or (each not in program.numbers and each not in written):
                return None
            if each in program.numbers:
                numbers[each] = program.numbers[each]
            elif written[each] not in needed:
                needed.add(written[each])
                open_ += [n for n in steps[written[each]].inputs if n]
                left -= 1
        chosen = [steps[i] for i in sorted(needed)]
        try:
            return np.asarray(
                run(Program(chosen, [], [name], numbers, program.opset), numbers, what)[0]
            )
        except ValueError:
            return None

    def take(step: Step) -> None:
        counts = {len(body.outputs) for body in bodies_of(step)}
        fits = len(counts) == 1 and counts.pop() >= len(step.outputs)
        found = condition(step.inputs[0]) if step.op == "If" and fits else None
        if found is None or found.shape not in ((), (1,)) or found.dtype != bool:
            written.update(dict.fromkeys((n for n in step.outputs if n), len(steps)))
            steps.append(step)
            return
        branch = step.attrs["then_branch" if found.item() else "else_branch"]
        for inner in branch.steps:
            take(inner)
        for source, name in zip(branch.outputs, step.outputs, strict=False):
            take(Step("Identity", [source], [name], f"{step.name}/{name}", {}))

    for step in program.steps:
        take(step)
    return without_unread(
        Program(steps, program.inputs, program.outputs, program.numbers, program.opset)
    )
