"""A cell, step by step along a sequence."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from handmill import ops, tree
from handmill.errors import ShapeError
from handmill.ir.dims import SymbolicDim, as_none, same
from handmill.ir.graph import outside_graph
from handmill.ir.shapes import FLOATS
from handmill.ir.trace import mask_of
from handmill.layers.layer import Layer
from handmill.layers.rnn.cell import DropoutMasks, RecurrentCell, masks_of_call
from handmill.layers.rnn.sequence import run_sequence
from handmill.layers.rnn.stacked_rnn_cells import StackedRNNCells, check_cell
from handmill.primitives.loss import check_labels
from handmill.runtime.variable import Variable
from handmill.saving.objects import deserialize_keras_object, serialize_keras_object


class RNN(Layer):
    """Base of recurrent layers, and the layer for cells of your own.

    A cell is called with the inputs of a step and a list of states, and returns the output and the
    states after the step. It has an attribute ``state_size``, an integer or a list of them, may
    have ``output_size``, and ``get_initial_state(batch_size)`` where states do not begin as zeros.

    Args:
        cell: a cell, or a list of cells on top of each other.
        return_sequences: whether the outputs of all steps are returned, not only the last one.
        return_state: whether the last states are returned too.
        go_backwards: whether to begin with the last step; outputs are in the order of the steps.
        stateful: whether a batch begins with the states in which the one before it ended.
        unroll: accepted as in Keras; it changes no number.
        zero_output_for_mask: whether outputs of masked steps are 0, not those of the step before.
        **kwargs: ``name`` and the like.

    Call arguments:
        sequences: (batch, time, ...).
        initial_state: a tensor, or a list of them; default: what the cell begins with.
        mask: bool, (batch, time); steps with False leave the states as they are.
        training: passed to the cell.

    Raises:
        ValueError: if the cell has no ``call`` or no ``state_size``.

    Example:
        >>> import numpy as np
        >>> from handmill import layers, ops
        >>> class Sum(layers.Layer):
        ...     state_size = 3
        ...     def call(self, inputs, states):
        ...         total = ops.add(states[0], inputs)
        ...         return total, [total]
        >>> layers.RNN(Sum())(np.ones((1, 5, 3), "float32"))
        array([[5., 5., 5.]], dtype=float32)
    """

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        if isinstance(cell, list | tuple):
            cell = StackedRNNCells(cell)
        check_cell(cell)
        size = cell.state_size
        if size is None:
            raise ValueError("state_size must be specified as property on the RNN cell.")
        if not isinstance(size, list | tuple | int):
            raise ValueError(
                "state_size must be an integer, or a list/tuple of integers (one for each state "
                f"tensor). Received: state_size={size!r} of {cell}"
            )
        super().__init__(**kwargs)
        self.cell = cell
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.go_backwards = go_backwards
        self.stateful = stateful
        self.unroll = unroll
        self.zero_output_for_mask = zero_output_for_mask
        self.supports_masking = True
        self.single_state = isinstance(size, int)
        self.state_size = [size] if isinstance(size, int) else list(size)
        self._carried: Any = None

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        """Builds the cell, and makes the states of a stateful layer."""
        shape = tuple(sequences_shape)
        if isinstance(self.cell, Layer) and not self.cell.built:
            self.cell.build((shape[0], *shape[2:]))
            self.cell.built = True
        if self.stateful and self._carried is None and shape[0] is not None:
            self._make_states(shape[0])

    # States.

    @property
    def states(self) -> Any:
        """The states of a stateful layer, variables; None before it is built."""
        return self._carried

    def _make_states(self, batch_size: int) -> None:
        def make(value: Any) -> Variable:
            return Variable(value, trainable=False, dtype=self.variable_dtype, name="rnn_state")

        with outside_graph():
            self._carried = tree.map_structure(make, self.get_initial_state(batch_size))

    def get_initial_state(self, batch_size: Any) -> list[Any]:
        """The states that the cell begins with.

        Args:
            batch_size: the number of rows.
        """
        make = getattr(self.cell, "get_initial_state", None)
        if make is None:
            dtype = getattr(self.cell, "compute_dtype", self.compute_dtype)
            return [ops.zeros((batch_size, size), dtype=dtype) for size in self.state_size]
        states = make(batch_size=batch_size)
        return list(states) if tree.is_nested(states) else [states]

    def reset_state(self) -> None:
        """Sets the states of a stateful layer to zeros."""
        for variable in tree.flatten(self._carried) if self._carried is not None else ():
            variable.assign(ops.zeros(variable.shape, dtype=variable.dtype))

    def reset_states(self) -> None:
        """Sets the states of a stateful layer to zeros: :meth:`reset_state`."""
        self.reset_state()

    def _stateful_beginning(self, batch: Any) -> Any:
        if self._carried is None:
            if isinstance(batch, SymbolicDim):
                raise ShapeError(
                    f"{self.describe()}: when using `stateful=True` in a RNN, the batch size must "
                    "be static. Found dynamic batch size: give it by `Input(batch_shape=...)`"
                )
            self._make_states(batch)
        self._check_batch(batch)
        return self._carried

    def _check_batch(self, batch: Any) -> None:
        expected = tree.flatten(self._carried)[0].shape[0]
        if not same(batch, expected):
            found = "another, open one" if isinstance(batch, SymbolicDim) else batch
            raise ShapeError(
                f"{self.describe()}: If an RNN is stateful, the batch size of the input sequences "
                "must be the same as the batch size of the initial state. \n- Expected batch size: "
                f"{expected}\n- Received batch size: {found}\n  hint: the last "
                "batch of a pass may be smaller; leave it out, or pad it with masked rows"
            )

    # Calls.

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """The mask of the sequences where outputs are sequences; states have none."""
        mask = tree.flatten(previous_mask)[0] if previous_mask is not None else None
        mask = mask if self.return_sequences else None
        return [mask, *(None for _ in self.state_size)] if self.return_state else mask

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False
    ) -> Any:
        """Computes the output."""
        shape = ops.shape(sequences)
        batch = shape[0]
        if mask is None:
            mask = mask_of(sequences)
        if isinstance(mask, list | tuple):
            mask = mask[0]
        if mask is not None:
            mask = _checked_mask(self, mask, shape)
        if initial_state is None:
            initial_state = (
                self._stateful_beginning(batch) if self.stateful else self.get_initial_state(batch)
            )
        elif self.stateful and self._carried is not None:
            self._check_batch(batch)
        states = list(initial_state) if tree.is_nested(initial_state) else [initial_state]
        if len(states) != len(self.state_size):
            raise ValueError(
                f"{self.describe()}: its cell has {len(self.state_size)} states, of the sizes "
                f"{self.state_size}: `initial_state` is a list with one for each. Received: "
                f"{len(states)}"
            )
        dtype = getattr(self.cell, "compute_dtype", self.compute_dtype)
        states = tree.map_structure(lambda x: ops.cast(x, dtype), states)
        aligned = _take_aligned()
        with masks_of_call(_draw(self.cell, batch, training)):
            found = run_sequence(
                self.cell,
                sequences,
                states,
                mask,
                training,
                backwards=self.go_backwards,
                zeros=self.zero_output_for_mask,
                every=self.return_sequences,
            )
        outputs, states = ops.cast(found[0], self.compute_dtype), found[1]
        states = tree.map_structure(lambda x: ops.cast(x, self.compute_dtype), states)
        if self.stateful:
            for variable, state in zip(
                tree.flatten(self._carried), tree.flatten(states), strict=True
            ):
                variable.assign(ops.cast(state, variable.dtype))
        if self.return_sequences and self.go_backwards and not aligned:
            outputs = ops.flip(outputs, axis=1)
        return (outputs, *states) if self.return_state else outputs

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "go_backwards": self.go_backwards,
            "stateful": self.stateful,
            "unroll": self.unroll,
            "zero_output_for_mask": self.zero_output_for_mask,
            "cell": serialize_keras_object(self.cell),
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> Any:
        """Makes a layer, and its cell, from its config.

        Args:
            config: what :meth:`get_config` returned.
            custom_objects: name -> class of the user's, for the cell.
        """
        cell = deserialize_keras_object(config["cell"], custom_objects)
        return super().from_config({**config, "cell": cell})


def _checked_mask(layer: RNN, mask: Any, shape: Sequence[Any]) -> Any:
    """A mask (batch, time), bool; where it has features, a step counts if one of them does."""
    sizes = ops.shape(mask)
    fits = len(sizes) in (2, 3) and all(map(same, sizes[:2], shape[:2]))
    if not fits:
        raise ShapeError(
            f"{layer.describe()}: a mask of shape (batch, time) was expected for sequences of "
            f"shape {as_none(tuple(shape))}, received one of shape {as_none(tuple(sizes))}"
        )
    if ops.dtype(mask) in FLOATS:
        mask = check_labels(mask, 2, "a mask is True or 1 where a step counts:")
    mask = ops.cast(mask, "bool")
    return ops.any(mask, axis=-1) if len(sizes) == 3 else mask


def _draw(cell: Any, batch: Any, training: Any) -> dict[int, DropoutMasks]:
    """The masks of dropout of a cell and of those inside of it."""
    if isinstance(cell, StackedRNNCells):
        drawn: dict[int, DropoutMasks] = {}
        for inner in cell.cells:
            drawn |= _draw(inner, batch, training)
        return drawn
    if isinstance(cell, RecurrentCell):
        return {id(cell): cell.draw_masks(batch, training)}
    return {}


class _Wish(threading.local):
    aligned = False


_WISH = _Wish()


@contextmanager
def aligned_outputs() -> Iterator[None]:
    """Lets the next recurrent layer that goes backwards leave outputs at their places in time.

    Who turns them back, as Bidirectional does, saves both turns.
    """
    before, _WISH.aligned = _WISH.aligned, True
    try:
        yield
    finally:
        _WISH.aligned = before


def _take_aligned() -> bool:
    found, _WISH.aligned = _WISH.aligned, False
    return found
