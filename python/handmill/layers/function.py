"""Computations between symbolic tensors, as something to call."""

from __future__ import annotations

from typing import Any

from handmill import tree
from handmill.ir.trace import dtype_of
from handmill.layers.layer import Layer
from handmill.layers.symbolic import KerasTensor, LayerGraph


class Function(Layer):
    """The computation that leads from symbolic inputs to symbolic outputs.

    A :class:`handmill.Model` is that too, and can also be trained and saved.

    Args:
        inputs: tensors made by ``Input``, or nested ones.
        outputs: tensors computed from them.
        name: the name.

    Raises:
        ValueError: if an output cannot be computed from the inputs.

    Example:
        >>> import numpy as np, handmill
        >>> x, y = handmill.Input((2,)), handmill.Input((2,))
        >>> total = handmill.Function([x, y], x + 2 * y)
        >>> total([np.ones((1, 2), "float32"), np.ones((1, 2), "float32")])
        array([[3., 3.]], dtype=float32)
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None) -> None:
        super().__init__(name=name, autocast=False)
        for what, given in (("inputs", inputs), ("outputs", outputs)):
            for tensor in tree.flatten(given):
                if not isinstance(tensor, KerasTensor):
                    raise ValueError(
                        f"All `{what}` values must be KerasTensors. Received: {what}={given} "
                        f"including invalid value {tensor!r} of type {type(tensor)}"
                    )
        self._function = LayerGraph(inputs, outputs)
        self.built = True

    @property
    def operations(self) -> list[Any]:
        """The layers and operators in between, in order."""
        return list(self._function.operations)

    @property
    def inputs(self) -> list[KerasTensor]:
        """The inputs, as a flat list."""
        return self._function.inputs

    @property
    def outputs(self) -> list[KerasTensor]:
        """The outputs, as a flat list."""
        return self._function.outputs

    def _parts(self) -> list[Any]:
        return [*super()._parts(), *self._function.operations]

    def call(self, inputs: Any) -> Any:
        """Computes the outputs."""
        from handmill import ops

        wanted = self._function.inputs
        flat = tree.flatten(inputs)
        if len(flat) != len(wanted):
            raise ValueError(
                f"Function {self.name!r} expects {len(wanted)} inputs "
                f"({', '.join(t.name for t in wanted)}), but received {len(flat)}."
            )
        values = []
        for value, tensor in zip(flat, wanted, strict=True):
            if len(value.shape) != len(tensor.shape):
                raise ValueError(
                    f"Function {self.name!r} expects an input of shape {tensor.shape} for "
                    f"{tensor.name!r}, but received one of {len(value.shape)} dimensions."
                )
            fits = dtype_of(value) == tensor.dtype
            values.append(value if fits else ops.cast(value, tensor.dtype))
        return self._function.run(values, lambda layer, *args, **kwargs: layer(*args, **kwargs))

    def get_config(self) -> dict[str, Any]:
        """Refused: only models can be saved.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "a Function has no config; make a handmill.Model of its inputs and outputs to save it"
        )
