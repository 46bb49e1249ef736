"""An ONNX program as a functional model of ordinary layers, with graphs for what lies between."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np

from handmill.exchange.from_onnx.execution import KEEPS_ORDER, Call, Unreadable, run
from handmill.exchange.from_onnx.layer import OnnxGraph
from handmill.exchange.from_onnx.layer_rules import HOLDS_WEIGHTS, LAYER_RULES, Held
from handmill.exchange.from_onnx.program import Port, Program, Step
from handmill.exchange.from_onnx.recurrent_layers import RECURRENT, Around, recurrent
from handmill.ir.op import Array

_SHARES = {"Conv", "ConvTranspose", "Gather", "Gemm", "MatMul"}


_KEEP_ZEROS = ("ConstantOfShape", "Expand", "Identity", "Reshape", "Slice", "Split", "Transpose")
"""Operators that make nothing but zeros, of other shapes, of zeros."""


class NoLayersError(Exception):
    """What is raised of a program that is better computed by one layer; its text says why."""


def layered(program: Program, inputs: list[Any], what: str) -> tuple[list[Any], list[str]]:
    """Computes a program by layers.

    Args:
        program: the program, without what no output needs.
        inputs: a tensor of a functional model for each of its inputs.
        what: names the file in errors.

    Returns:
        A tensor for each output; and the rules that failed, though a graph can compute their
        operators: these are errors of the rules.

    Raises:
        NoLayersError: if that makes no sense.
        ValueError: if an operator cannot be computed.
    """
    walk = Walk(program, what)
    if not any(step.op in HOLDS_WEIGHTS for step in walk.program.steps):
        raise NoLayersError("it has no operator that is a layer with weights")
    return walk.outputs(inputs), [f"{name}: {error!r}" for name, error in walk.faults]


class Walk:
    """Goes through the steps once; those that no layer computes wait until others need them.

    Attributes:
        faults: nodes whose rules failed otherwise than by saying that there is no layer.
        unread: nodes that no layer computes, and why.
    """

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
        self.faults: list[tuple[str, Exception]] = []
        self.unread: dict[str, str] = {}
        self.readers: dict[str, list[int]] = {}
        for i, step in enumerate(program.steps):
            for n in dict.fromkeys(n for n in step.inputs if n):
                self.readers.setdefault(n, []).append(i)
        self.uses = Counter(n for step in program.steps for n in step.inputs if n)
        self.uses.update(program.outputs)

    def outputs(self, inputs: list[Any]) -> list[Any]:
        """A tensor for each output, of one for each input."""
        steps = self.program.steps
        for port, tensor in zip(self.program.inputs, inputs, strict=True):
            self.held[port.name] = Held(tensor)
        for step in steps:
            if step.op == "Constant":  # rules look at what comes behind
                self._fold(step)
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
            if value.steps:
                raise NoLayersError(f"the batch is not the first axis of its output {name!r}")
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
            steps = self.program.steps
            if self.uses[name] > 1 and any(steps[j].op in _SHARES for j in self.readers[name]):
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
        places = HOLDS_WEIGHTS.get(step.op)
        if step.op not in (*LAYER_RULES, *RECURRENT) or not step.inputs:
            return None
        others = [n for k, n in enumerate(step.inputs) if n and k not in (places or ())]
        waits = any(self.written.get(n, -1) in self.waiting for n in others)
        readers = [j for name in step.outputs for j in self.readers.get(name, ())]
        begins = step.op == "Transpose" and any(
            self.program.steps[j].op in RECURRENT for j in readers
        )
        if places is None and waits and not begins:
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
            if step.op in RECURRENT:
                around = Around(self.program, self.readers, self.numbers)
                more, made = recurrent(call, self._name(step), operands, self._is_zero, around)
                stands |= more
            else:
                made = {result: LAYER_RULES[step.op](call, self._name(step), *operands)}
            for value in made.values():
                call.room([n for n in value.shape if n is not None])
        except Unreadable as error:
            self.unread[step.name] = str(error)
            return None
        except Exception as error:  # told if a graph computes the operator, which is then right
            self.faults.append((f"{step.op} in {step.name!r}", error))
            return None
        if set(step.attrs) - call.asked:
            return None
        self.held.update(made)
        return stands

    def _is_zero(self, x: Any) -> bool:
        """Whether an operand is left out or known to be zeros, of whatever size."""
        for _ in range(8):
            if x is None or isinstance(x, np.ndarray):
                return x is None or not x.any()
            step = self.program.steps[self.written[x]] if x in self.written else None
            if step is None or step.op not in _KEEP_ZEROS:
                return False
            if step.op == "ConstantOfShape":
                return not np.any(step.attrs.get("value", 0))
            x = self._operand(step.inputs[0])
        return False

    def _operand(self, name: str) -> Any:
        if not name:
            return None
        return self.numbers[name] if name in self.numbers else self.held.get(name, name)

    def _added(self, name: str, weights: Any) -> tuple[int, Array] | None:
        """The step that adds numbers of the file to a product that nothing else reads."""
        if self.uses[name] != 1 or name in self.program.outputs:
            return None
        for j in self.readers[name]:
            step = self.program.steps[j]
            other = step.inputs[1 - step.inputs.index(name)] if len(step.inputs) == 2 else ""
            bias = self.numbers.get(other)
            if step.op != "Add" or step.attrs or bias is None or bias.dtype != np.float32:
                return None
            units = weights.shape[-1] if weights.ndim == 2 else None
            fits = bias.shape in ((units,), (1, units))  # as torch and as skl2onnx write it
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
            if value.steps:
                inside = f"{name}:rows"
                perm = [1, 0, *range(2, value.ndim)]
                turns.append(Step("Transpose", [inside], [name], f"rows of {name}", {"perm": perm}))
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
