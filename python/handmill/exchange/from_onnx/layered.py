"""An ONNX program as a functional model of ordinary layers, with graphs for what lies between."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np

from handmill.exchange.from_onnx.execution import (
    KEEPS_ORDER,
    OF_OPERANDS,
    Call,
    run,
)
from handmill.exchange.from_onnx.layer import OnnxGraph
from handmill.exchange.from_onnx.layer_rules import HOLDS_WEIGHTS, LAYER_RULES, Held
from handmill.exchange.from_onnx.program import Port, Program, Step
from handmill.ir.op import Array

_SHARES = {"Conv", "ConvTranspose", "Gather", "Gemm", "MatMul"}


class NoLayersError(Exception):
    """What is raised of a program that is better computed by one layer; its text says why."""


def layered(program: Program, inputs: list[Any], what: str) -> list[Any]:
    """Computes a program by layers.

    Args:
        program: the program, without what no output needs.
        inputs: a tensor of a functional model for each of its inputs.
        what: names the file in errors.

    Returns:
        A tensor for each output.

    Raises:
        NoLayersError: if that makes no sense.
        ValueError: if an operator cannot be computed.
    """
    return _Walk(program, what).outputs(inputs)


class _Walk:
    """Goes through the steps once; those that no layer computes wait until others need them."""

    def __init__(self, program: Program, what: str) -> None:
        self.program = program
        self.what = what
        self.numbers: dict[str, Array] = dict(program.numbers)
        self.held: dict[str, Held] = {}
        self.waiting: list[int] = []
        self.written: dict[str, int] = {}
        self.free: set[int] = set()
        self.sizes: set[str] = set()
        self.names: Counter[str] = Counter(port.name for port in program.inputs)
        self.uses = Counter(n for step in program.steps for n in step.inputs if n)
        self.uses.update(program.outputs)

    def outputs(self, inputs: list[Any]) -> list[Any]:
        steps = self.program.steps
        if not any(step.op in HOLDS_WEIGHTS for step in steps):
            raise NoLayersError("it has no operator that is a layer with weights")
        for port, tensor in zip(self.program.inputs, inputs, strict=True):
            self.held[port.name] = Held(tensor)
        done: set[int] = set()
        for i, step in enumerate(steps):
            self.written.update((name, i) for name in step.outputs if name)
            if i not in done:
                done |= self._take(i, step)
        self._flush()
        found = []
        for name in self.program.outputs:
            value = self.held.get(name)
            if value is None or any(value.tensor is tensor for tensor in inputs):
                raise NoLayersError(f"its output {name!r} is an input or a number")
            found.append(value.first())
        return found

    def _take(self, i: int, step: Step) -> set[int]:
        given = [name for name in step.inputs if name]
        self._refuse_tied(given)
        if all(name in self.numbers for name in given) and self._fold(step):
            self.free.add(i)
            return {i}
        known = all(name in self.numbers or name in self.sizes for name in given)
        if known or step.op in ("Shape", "Size"):
            self.sizes.update(step.outputs)
            self.free.add(i)
            return {i}
        made = self._layer(i, step)
        if made is None:
            self.waiting.append(i)
            return {i}
        return made

    def _refuse_tied(self, given: list[str]) -> None:
        for name in given:
            array = self.numbers.get(name)
            if array is None or array.ndim < 2 or array.dtype != np.float32:
                continue
            if self.uses[name] > 1 and any(
                s.op in _SHARES for s in self.program.steps if name in s.inputs
            ):
                raise NoLayersError(f"its weights {name!r} are used in {self.uses[name]} places")

    def _fold(self, step: Step) -> bool:
        """Computes what depends on the file alone; what is too large stays a part of graphs."""
        wanted = [name for name in step.outputs if name]
        needed = {n: self.numbers[n] for n in step.inputs if n}
        try:
            alone = Program([step], [], wanted, needed, self.program.opset)
            found = run(alone, needed, self.what)
        except ValueError:
            return False
        self.numbers.update(zip(wanted, map(np.asarray, found), strict=True))
        return True

    # --- layers ----------------------------------------------------------------------------------

    def _layer(self, i: int, step: Step) -> set[int] | None:
        """Makes a layer of a step; returns the steps that it stands for, None if there is none."""
        rule = LAYER_RULES.get(step.op)
        places = HOLDS_WEIGHTS.get(step.op)
        if rule is None or not step.inputs:
            return None
        others = [n for k, n in enumerate(step.inputs) if n and k not in (places or ())]
        waits = any(self.written.get(n, -1) in self.waiting for n in others)
        if places is None and waits:
            return None
        if places is not None and any(
            n and n not in self.numbers for k, n in enumerate(step.inputs) if k in places
        ):
            return None
        if waits:
            self._flush()
        operands = [self._operand(name) for name in step.inputs]
        tensors = [x for x in operands if isinstance(x, Held)]
        if not isinstance(operands[0], Held) or any(x.tensor.dtype != "float32" for x in tensors):
            return None
        stands = {i}
        result = step.outputs[0]
        if step.op == "MatMul" and (found := self._added(result, operands[1])) is not None:
            j, bias = found
            stands.add(j)
            operands.append(bias)
            result = self.program.steps[j].outputs[0]
        call = Call(step, self.program.opset, False)
        try:
            value = rule(call, self._name(step), *operands)
            call.room([n for n in value.shape if n is not None])
        except OF_OPERANDS:
            return None
        if set(step.attrs) - call.asked:
            return None
        self.held[result] = value
        return stands

    def _operand(self, name: str) -> Any:
        if not name:
            return None
        return self.numbers[name] if name in self.numbers else self.held.get(name, name)

    def _added(self, name: str, weights: Any) -> tuple[int, Array] | None:
        """The step that adds numbers of the file to a product that nothing else reads."""
        if self.uses[name] != 1 or name in self.program.outputs:
            return None
        for j, step in enumerate(self.program.steps):
            if name not in step.inputs:
                continue
            other = step.inputs[1 - step.inputs.index(name)] if len(step.inputs) == 2 else ""
            bias = self.numbers.get(other)
            if step.op != "Add" or step.attrs or bias is None or bias.dtype != np.float32:
                return None
            fits = bias.shape == (weights.shape[-1],) if weights.ndim == 2 else False
            return (j, bias) if fits else None
        return None

    def _name(self, step: Step) -> str:
        """The name of a node as that of a layer, each there once."""
        name = re.sub(r"\W+", "_", step.name or step.op.lower()).strip("_") or "layer"
        self.names[name] += 1
        return name if self.names[name] == 1 else self._unused(name)

    def _unused(self, name: str) -> str:
        while self.names[found := f"{name}_{self.names[name] - 1}"]:
            self.names[name] += 1
        self.names[found] += 1
        return found

    # --- graphs ----------------------------------------------------------------------------------

    def _flush(self) -> None:
        """Makes one layer of all that waits."""
        if not self.waiting:
            return
        places = self._with_free(self.waiting)
        steps = [self.program.steps[i] for i in places]
        own = {name for step in steps for name in step.outputs}
        read = Counter(n for i in self.waiting for n in self.program.steps[i].inputs if n)
        needed = dict.fromkeys(n for step in steps for n in step.inputs if n and n not in own)
        given = [n for n in needed if n in self.held]
        wanted = [
            name
            for i in self.waiting
            for name in self.program.steps[i].outputs
            if name and self.uses[name] > read[name]
        ]
        ports, turns, turned = [], [], {}
        for name in given:
            value = self.held[name]
            inside = f"{name}:last" if value.turned else name
            ports.append(Port(inside, value.tensor.dtype, list(value.tensor.shape)))
            if value.turned:
                turned[name] = value.ndim
                turns.append(_turn(inside, name, value.ndim, back=False))
        for step in steps:
            ranks = [turned[n] for n in step.inputs if n in turned]
            if step.op in KEEPS_ORDER and step.op != "Transpose" and ranks:
                turned.update((name, ranks[0]) for name in step.outputs[:1])
        backs = [_turn(n, f"{n}:last", turned[n], back=True) for n in wanted if n in turned]
        program = Program(
            [*turns, *steps, *backs],
            ports,
            [f"{name}:last" if name in turned else name for name in wanted],
            {n: self.program.numbers[n] for n in needed if n in self.program.numbers},
            self.program.opset,
        )
        if not given:
            raise NoLayersError("a part of it has no inputs")
        name = self._name(Step("graph", [], [], "", {}))
        found = OnnxGraph(program, self.what, name=name)([self.held[n].tensor for n in given])
        for name, tensor in zip(wanted, found, strict=True):
            self.held[name] = Held(tensor, name in turned)
        self.waiting = []

    def _with_free(self, places: list[int]) -> list[int]:
        """With the steps that compute numbers and sizes for them."""
        found, open_ = set(places), list(places)
        while open_:
            for name in self.program.steps[open_.pop()].inputs:
                before = self.written.get(name)
                if before in self.free and before not in found:
                    found.add(before)
                    open_.append(before)
        return sorted(found)


def _turn(source: str, result: str, rank: int, back: bool) -> Step:
    """A step that says that channels are last, or asks for them so: both cost nothing."""
    perm = [0, *range(2, rank), 1] if back else [0, rank - 1, *range(1, rank - 1)]
    return Step("Transpose", [source], [result], f"order of {source}", {"perm": perm})
