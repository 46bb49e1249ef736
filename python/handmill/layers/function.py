"""Computations between symbolic tensors, as something to call."""

from __future__ import annotations

from typing import Any

from handmill import tree
from handmill.ir.dims import BATCH, as_none, same
from handmill.ir.trace import dtype_of
from handmill.layers.layer import Layer
from handmill.layers.symbolic import KerasTensor, LayerGraph
from handmill.primitives.operands import shape_of


class Function(Layer):
    """The computation that leads from symbolic inputs to symbolic outputs.

    A :class:`handmill.Model` is that too, and can also be trained and saved.

    Args:
        inputs: symbolic tensors, or nested ones. What they are computed from is left out.
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
            if not tree.flatten(given):
                raise ValueError(f"`{what}` argument cannot be empty. Received: {what}={given}")
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
        expected = tree.map_structure(lambda t: t.shape, self._function.inputs_struct)
        if len(flat) != len(wanted):
            raise ValueError(
                f"Function {self.name!r} was called with an invalid input structure: it expects "
                f"{len(wanted)} inputs ({', '.join(t.name for t in wanted)}) of shapes "
                f"{expected}, but received {len(flat)}."
            )
        values = []
        for value, tensor in zip(flat, wanted, strict=True):
            shape = shape_of(value)
            if len(shape) != len(tensor.shape) or not all(
                want is None or have == BATCH or same(have, want)
                for have, want in zip(shape, tensor.shape, strict=True)
            ):
                raise ValueError(
                    f"Function {self.name!r} was passed incompatible inputs. For "
                    f"{tensor.name!r}, expected shape {tensor.shape}, but received an input of "
                    f"shape {as_none(shape)}."
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
