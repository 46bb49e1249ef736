"""What the cells of handmill have in common: weights for gates, masks of dropout drawn once a call.

A cell is cut in two: ``project`` says what inputs add to the gates, which needs no state and is
done for all steps at once, and ``step`` what one step does with it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

from handmill import activations, constraints, initializers, ops, random, regularizers
from handmill.errors import ShapeError
from handmill.layers.arguments import positive_integer
from handmill.layers.core.integer_tables import IntegerTablesLayer
from handmill.layers.layer import Layer
from handmill.random import SeedGenerator


class DropoutMasks(NamedTuple):
    """Factors 0 or 1 / (1 - rate), the same in each step.

    Attributes:
        inputs: one for all gates, or one a gate, (batch, inputs); None without dropout.
        state: the same for the state, (batch, units).
    """

    inputs: list[Any] | None
    state: list[Any] | None


class _Drawn(threading.local):
    def __init__(self) -> None:
        self.masks: dict[int, DropoutMasks] = {}


_DRAWN = _Drawn()
"""What cells, by identity, use in all steps of the sequence that is gone along."""


@contextmanager
def masks_of_call(cells: dict[int, DropoutMasks]) -> Iterator[None]:
    """Lets cells use these masks inside the ``with`` block, instead of drawing at each step."""
    before = _DRAWN.masks
    _DRAWN.masks = {**before, **cells}
    try:
        yield
    finally:
        _DRAWN.masks = before


def masks_drawn(cell: Any) -> DropoutMasks | None:
    """The masks that a cell uses in all steps of the sequence that is gone along."""
    return _DRAWN.masks.get(id(cell))


class RecurrentCell(Layer):
    """Base: one step of a recurrent layer, with weights ``kernel``, ``recurrent_kernel``, ``bias``.

    Args:
        size: the number of units or filters.
        activation: of the output or candidate; a name or function.
        use_bias: whether there is a bias.
        settings: ``kernel_initializer``, ``recurrent_regularizer`` and so on, by name.
        dropout: the share of inputs that are set to zero.
        recurrent_dropout: the share of the state's entries that are set to zero.
        seed: of the draws.
        **kwargs: ``name`` and the like.
    """

    _gates: ClassVar[int] = 1
    _full_dropout: ClassVar[bool] = False
    """Whether a rate of 1 leaves everything out; Keras's gated cells then leave out nothing."""

    def __init__(
        self,
        activation: Any,
        use_bias: bool,
        settings: dict[str, Any],
        dropout: float,
        recurrent_dropout: float,
        seed: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        for name, value in settings.items():
            kind = name.rsplit("_", 1)[1]
            setattr(self, name, _GET[kind](value))
        self.dropout = min(1.0, max(0.0, dropout))
        self.recurrent_dropout = min(1.0, max(0.0, recurrent_dropout))
        self.seed = seed
        self.seed_generator = SeedGenerator(seed)
        self.kernel: Any = None
        self.recurrent_kernel: Any = None
        self.bias: Any = None

    # Weights.

    def _add(self, name: str, shape: tuple[int, ...], initializer: Any = None) -> Any:
        kind = "recurrent" if name == "recurrent_kernel" else name
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=initializer or getattr(self, f"{kind}_initializer"),
            regularizer=getattr(self, f"{kind}_regularizer"),
            constraint=getattr(self, f"{kind}_constraint"),
        )

    # Dropout.

    def _mask_count(self) -> int:
        return 1

    def _mask_sizes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The shapes of an input and of the state, without the batch size."""
        return (self.kernel.shape[0],), (self.recurrent_kernel.shape[0],)

    def draw_masks(self, batch: Any, training: Any) -> DropoutMasks:
        """Draws the masks of a call.

        Args:
            batch: the number of rows.
            training: whether there is dropout at all.
        """

        def draw(rate: float, size: tuple[int, ...]) -> list[Any] | None:
            if not training or rate == 0 or (rate == 1 and not self._full_dropout):
                return None
            ones = ops.ones((batch, *size), dtype=self.compute_dtype)
            return [
                random.dropout(ones, rate, seed=self.seed_generator)
                for _ in range(self._mask_count())
            ]

        inputs, state = self._mask_sizes()
        return DropoutMasks(draw(self.dropout, inputs), draw(self.recurrent_dropout, state))

    def _masks(self, inputs: Any, training: Any) -> DropoutMasks:
        drawn = masks_drawn(self)
        return self.draw_masks(ops.shape(inputs)[0], training) if drawn is None else drawn

    # One step.

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        """Computes the output of one step, and the states after it."""
        masks = self._masks(inputs, training)
        given = list(states) if isinstance(states, list | tuple) else [states]
        output, after = self.step(self.project(inputs, masks), given, masks)
        return output, after if isinstance(states, list | tuple) else after[0]

    def project(self, inputs: Any, masks: DropoutMasks) -> Any:
        """What inputs add to the gates.

        Args:
            inputs: (batch, inputs), or (batch, time, inputs).
            masks: the masks of the call.
        """
        raise NotImplementedError

    def step(self, z: Any, states: list[Any], masks: DropoutMasks) -> tuple[Any, list[Any]]:
        """One step.

        Args:
            z: what :meth:`project` gives for the inputs of this step.
            states: the states before it.
            masks: the masks of the call.

        Returns:
            The output, and the states after the step.
        """
        raise NotImplementedError

    fused: str | None = None
    """The kind of the operator that does all steps at once; None: there is none for this cell."""

    def fused_operands(self) -> list[Any]:
        """Its operands behind the states."""
        return []

    def _config(self, *names: str) -> dict[str, Any]:
        """The arguments of these names, as plain data."""
        return {name: _as_data(name, getattr(self, name)) for name in names}


class UnitsCell(RecurrentCell, IntegerTablesLayer):
    """Base of cells whose states are vectors of ``units`` numbers.

    :meth:`quantize` makes integers of 8 bits of both kernels: inputs and states are measured row by
    row, gates are computed in float32.

    Args:
        units: the number of units.
        *args: as of :class:`RecurrentCell`.
        **kwargs: the same.
    """

    def __init__(self, units: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.units = positive_integer("units", units)
        self.state_size: Any = self.units
        self.output_size = self.units

    def build(self, input_shape: Any) -> None:
        """Makes kernel, recurrent kernel and bias."""
        if input_shape[-1] is None:
            raise ShapeError(
                f"{self.describe()} cannot be built for inputs of shape {tuple(input_shape)}: the "
                "last dimension, the number of features of a step, must be known. Give `Input` "
                "shape=(steps, features), or (None, features) for sequences of any length"
            )
        width = self._gates * self.units
        for name, rows in (("kernel", input_shape[-1]), ("recurrent_kernel", self.units)):
            if self.quantization_mode is None:
                setattr(self, name, self._add(name, (rows, width)))
            else:
                self._add_integers(name, (rows, width))
        if self.use_bias:
            self.bias = self._make_bias(width)

    _tables = ("kernel", "recurrent_kernel")

    def _make_bias(self, width: int) -> Any:
        return self._add("bias", (width,))

    def _projected(self, inputs: Any, masks: list[Any] | None) -> Any:
        return self._masked_product(inputs, masks, "kernel")

    def _masked_product(
        self, x: Any, masks: list[Any] | None, name: str, begin: int = 0, end: int | None = None
    ) -> Any:
        """``x @ table`` for the gates from ``begin`` on, with masks of dropout: one, or one each.

        Args:
            x: (batch, n), or (batch, time, n).
            masks: factors for x, for all gates or each one.
            name: the table.
            begin: the first gate.
            end: the gate behind the last one; default: all.
        """
        end = self._gates if end is None else end
        whole = (begin, end) == (0, self._gates)
        if masks is None or len(masks) == 1:
            x = x if masks is None else ops.multiply(x, _along(masks[0], x))
            part = None if whole else (begin * self.units, end * self.units)
            return self._times_table(x, name, part)
        return ops.concatenate(
            [
                self._masked_product(x, [masks[gate]], name, gate, gate + 1)
                for gate in range(begin, end)
            ],
            axis=-1,
        )

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        """Zeros, one array (batch_size, units) a state."""
        sizes = self.state_size if isinstance(self.state_size, list) else [self.state_size]
        return [ops.zeros((batch_size, size), dtype=self.compute_dtype) for size in sizes]

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            **self._config(
                "units",
                "activation",
                "use_bias",
                *SETTINGS,
                "dropout",
                "recurrent_dropout",
                "seed",
            ),
        }


class GatedCell(UnitsCell):
    """Base of cells with gates: LSTM and GRU.

    Args:
        units: the number of units.
        activation: of candidates.
        recurrent_activation: of gates.
        use_bias: whether there is a bias.
        settings: see :class:`RecurrentCell`.
        dropout: see :class:`RecurrentCell`.
        recurrent_dropout: see :class:`RecurrentCell`.
        seed: see :class:`RecurrentCell`.
        implementation: 1 draws a mask for each gate, 2 (or 0, in old files) one for all of them;
            dropout of the state always has one for each.
        **kwargs: ``name`` and the like.
    """

    def __init__(
        self,
        units: int,
        activation: Any,
        recurrent_activation: Any,
        use_bias: bool,
        settings: dict[str, Any],
        dropout: float,
        recurrent_dropout: float,
        seed: Any,
        implementation: int = 2,
        **kwargs: Any,
    ) -> None:
        if implementation not in (0, 1, 2):
            raise ValueError(
                f"`implementation` must be 0, 1 or 2. Received: implementation={implementation!r}"
            )
        super().__init__(
            units, activation, use_bias, settings, dropout, recurrent_dropout, seed, **kwargs
        )
        self.recurrent_activation = activations.get(recurrent_activation)
        self.implementation = 1 if self.recurrent_dropout else (implementation or 2)

    def _mask_count(self) -> int:
        return self._gates if self.implementation == 1 else 1

    def _is_standard(self) -> bool:
        sigmoid = activations.get("sigmoid")
        return self.activation is activations.get("tanh") and self.recurrent_activation is sigmoid

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        config = {**super().get_config(), **self._config("recurrent_activation")}
        if self.implementation == 1 and not self.recurrent_dropout:
            config["implementation"] = 1
        return config


_GET: dict[str, Any] = {
    "initializer": initializers.get,
    "regularizer": regularizers.get,
    "constraint": constraints.get,
}
_SERIALIZE: dict[str, Any] = {
    "initializer": initializers.serialize,
    "regularizer": regularizers.serialize,
    "constraint": constraints.serialize,
    "activation": activations.serialize,
}
SETTINGS = tuple(f"{weight}_{what}" for weight in ("kernel", "recurrent", "bias") for what in _GET)


def _as_data(name: str, value: Any) -> Any:
    serialize = _SERIALIZE.get(name.rsplit("_", 1)[-1])
    return value if serialize is None else serialize(value)


def _along(mask: Any, inputs: Any) -> Any:
    """A mask (batch, n) for inputs (batch, n) or (batch, time, n)."""
    return ops.expand_dims(mask, 1) if len(ops.shape(inputs)) > len(ops.shape(mask)) else mask
