"""The layer that computes what an ONNX file says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from handmill import ops
from handmill.exchange.from_onnx.execution import run
from handmill.exchange.from_onnx.program import BODIES, Port, Program, Step, around, bodies_of
from handmill.ir.op import Array
from handmill.layers.layer import Layer
from handmill.saving.objects import register_keras_serializable

_FIXED = {
    "Clip": (1, 2), "DequantizeLinear": (1, 2), "OneHot": (1, 2), "Pad": (1, 2, 3),
    "QuantizeLinear": (1, 2), "Range": (0, 1, 2), "Resize": (1, 2, 3), "Upsample": (1,),
}  # fmt: skip
"""Operands whose numbers must be known while a model is traced, of operators that have floats."""
_FACTORS = {
    "Div", "Equal", "Expand", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min",
    "Mul", "Pow", "Where",
}  # fmt: skip
"""Operators whose operands of one entry are constants: exporters write scales of attention so."""
_KEPT = {"BatchNormalization": (3, 4)}
"""Operands that are weights but are not learned by gradients."""


def all_steps(program: Program) -> Iterator[Step]:
    """The steps of a program and those of the bodies in it."""
    for step in program.steps:
        yield step
        for body in bodies_of(step):
            yield from all_steps(body)


def split_numbers(program: Program) -> tuple[dict[str, bool], dict[str, Array]]:
    """Returns which numbers of a file are weights (name -> whether trainable), and the others."""
    fixed, kept, learned = set(program.outputs), set(), set()
    for step in all_steps(program):
        if bodies := bodies_of(step):  # what loops start from and choices ask for
            fixed.update(step.inputs[: len(step.inputs) - len(around(bodies))])
        for place, name in enumerate(step.inputs):
            if place in _FIXED.get(step.op, ()):
                fixed.add(name)
            if place in _KEPT.get(step.op, ()):
                kept.add(name)
            if step.op not in _FACTORS and step.op not in BODIES:
                learned.add(name)
    weights = {
        name: name not in kept
        for name, array in program.numbers.items()
        if array.dtype == np.float32
        and array.ndim
        and (array.size > 1 or (array.size and name in learned))
        and name not in fixed
    }
    return weights, {n: a for n, a in program.numbers.items() if n not in weights}


_SIZED = {"Expand", "Pad", "Reshape", "Resize", "Slice", "Split", "Tile", "Upsample"}
"""Operators that may hold sizes as attributes or as floats."""


@register_keras_serializable("handmill")
class OnnxGraph(Layer):
    """Computes the operators of an ONNX file; its weights are those of the file.

    Made by :func:`handmill.exchange.load_onnx`.

    Args:
        program: what the file says, or its description as :meth:`get_config` gives it.
        file: names the file in errors.
        name: the name.
        why: why this is all of the file, in words; "": it is a part of it.
        **kwargs: those of every layer.
    """

    def __init__(
        self,
        program: Any,
        file: str = "the file",
        name: str | None = None,
        why: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        if not isinstance(program, Program):
            program = _from_config(program)
        self._file, self._why = file, why
        weights, constants = split_numbers(program)
        self._program = Program(
            program.steps, program.inputs, program.outputs, constants, program.opset
        )
        self._given = {n: program.numbers[n] for n in weights}
        self._learned = weights
        self._variables: dict[str, Any] = {}

    def build(self, *input_shape: Any) -> None:
        """Makes the weights."""
        for name, trainable in self._learned.items():
            array = self._given[name]
            self._variables[name] = self.add_weight(
                shape=array.shape,
                initializer="zeros",
                trainable=trainable,
                name=re.sub(r"[^\w.]+", "_", name) or "weight",
            )
            self._variables[name].assign(array)

    def call(self, inputs: Any) -> Any:
        """Computes the outputs, a list."""
        given = inputs if isinstance(inputs, list | tuple) else [inputs]
        operands: dict[str, Any] = dict(self._program.numbers)
        operands.update({n: ops.convert_to_tensor(v) for n, v in self._variables.items()})
        operands.update({port.name: x for port, x in zip(self._program.inputs, given, strict=True)})
        found = run(self._program, operands, self._file)
        return [ops.convert_to_tensor(x) for x in found]

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data; weights are saved as weights."""
        own = {"program": self._description(), "file": self._file, "why": self._why}
        return {**super().get_config(), **own}

    @property
    def holds_sizes(self) -> bool:
        """Whether sizes of its operands may be among its numbers, so that these must stay."""
        places: dict[str, bool] = {}  # numbers that do no more than choose one entry
        for step in all_steps(self._program):
            for i, name in enumerate(step.inputs):
                chooses = step.op == "Gather" and i == 1
                places[name] = chooses and places.get(name, True)
        return (
            bool(self._given)
            or any(
                a.size > 1 or not (a.dtype.kind == "f" or places.get(n))
                for n, a in self._program.numbers.items()
            )
            or any(step.op in _SIZED for step in all_steps(self._program))
        )

    def _check_quantizable(self, config: Any, type_check: bool) -> Any:
        reason = f"it is the whole file, since {self._why}" if self._why else "a part of a file"
        raise NotImplementedError(
            f"operators of ONNX that are computed as they are ({reason}). Files that hold integers "
            "are read: quantize this part where it was made"
        )

    def _description(self) -> dict[str, Any]:
        program = self._program
        weights = [{"name": n, "shape": list(a.shape)} for n, a in self._given.items()]
        constants = {n: _array_config(a) for n, a in program.numbers.items()}
        return {**_config(program), "constants": constants, "weights": weights}


def _config(program: Program) -> dict[str, Any]:
    return {
        "steps": [[s.op, s.inputs, s.outputs, s.name, _plain(s.attrs)] for s in program.steps],
        "inputs": [[p.name, p.dtype, p.shape] for p in program.inputs],
        "outputs": list(program.outputs),
        "opset": program.opset,
    }


def _array_config(array: Array) -> dict[str, Any]:
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "values": array.reshape(-1).tolist(),
    }


def _plain(attrs: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for key, value in attrs.items():
        if isinstance(value, np.ndarray):
            value = {"array": _array_config(value)}
        elif isinstance(value, Program):
            value = {"body": _config(value)}
        found[key] = value
    return found


def _attribute(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return _from_config(value["body"]) if "body" in value else _array(value["array"])


def _array(config: Mapping[str, Any]) -> Array:
    return np.asarray(np.reshape(np.asarray(config["values"], config["dtype"]), config["shape"]))


def _from_config(config: Mapping[str, Any]) -> Program:
    steps = []
    for op, inputs, outputs, name, attrs in config["steps"]:
        read = {key: _attribute(value) for key, value in attrs.items()}
        steps.append(Step(op, list(inputs), list(outputs), name, read))
    numbers = {name: _array(each) for name, each in config.get("constants", {}).items()}
    for each in config.get("weights", ()):  # a body has neither
        numbers[each["name"]] = np.zeros(each["shape"], np.float32)
    inputs = [Port(name, dtype, shape) for name, dtype, shape in config["inputs"]]
    return Program(steps, inputs, list(config["outputs"]), numbers, config["opset"])
