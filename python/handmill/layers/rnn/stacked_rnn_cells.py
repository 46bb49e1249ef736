"""Cells on top of each other, as one cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from handmill import ops, tree
from handmill.layers.layer import Layer
from handmill.saving.objects import deserialize_keras_object, serialize_keras_object


def check_cell(cell: Any) -> None:
    """Refuses what is no cell.

    Raises:
        ValueError: if it has no ``call``, or no ``state_size``.
    """
    if not hasattr(cell, "call"):
        raise ValueError(f"Argument `cell` should have a `call` method. Received: cell={cell}")
    if not hasattr(cell, "state_size"):
        raise ValueError(
            "The RNN cell should have a `state_size` attribute (single integer or list of "
            f"integers, one integer per RNN state). Received: cell={cell}"
        )


class StackedRNNCells(Layer):
    """Cells on top of each other: the output of one is the input of the next.

    Args:
        cells: the cells, the lowest first.
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if one has no ``call`` or no ``state_size``.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import GRUCell, RNN, StackedRNNCells
        >>> cells = StackedRNNCells([GRUCell(4), GRUCell(2)])
        >>> RNN(cells)(np.ones((3, 5, 6), "float32")).shape
        (3, 2)
    """

    def __init__(self, cells: Sequence[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for cell in cells:
            if not hasattr(cell, "call"):
                raise ValueError(
                    "All cells must have a `call` method. Received cell without a `call` method: "
                    f"{cell}"
                )
            if not hasattr(cell, "state_size"):
                raise ValueError(
                    "All cells must have a `state_size` attribute. Received cell without a "
                    f"`state_size`: {cell}"
                )
        self.cells = list(cells)

    @property
    def state_size(self) -> list[Any]:
        """What each cell says of its states."""
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self) -> Any:
        """The size of the outputs of the last cell."""
        return _output_size(self.cells[-1])

    def build(self, input_shape: Any) -> None:
        """Builds the cells, each for the outputs of the one below."""
        shape = tuple(input_shape)
        for cell in self.cells:
            if isinstance(cell, Layer) and not cell.built:
                cell.build(shape)
                cell.built = True
            shape = (shape[0], _output_size(cell))

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        """What the cells begin with, one entry a cell."""
        found = []
        for cell in self.cells:
            make = getattr(cell, "get_initial_state", None)
            if make is not None:
                found.append(make(batch_size=batch_size))
                continue
            zeros = tree.map_structure(
                lambda size: ops.zeros((batch_size, size), dtype=self.compute_dtype),
                cell.state_size,
            )
            found.append(zeros)
        return found

    def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
        """One step of all cells."""
        after = []
        for cell, own in zip(self.cells, states, strict=True):
            nested = tree.is_nested(own)
            takes_training = isinstance(cell, Layer) and cell._call_takes_training
            kwargs = {"training": training} if takes_training else {}
            step = cell if callable(cell) else cell.call
            inputs, new = step(inputs, list(own) if nested else [own], **kwargs)
            if tree.is_nested(new) and not nested:
                new = new[0]
            after.append(new)
        return inputs, after

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        cells = [serialize_keras_object(cell) for cell in self.cells]
        return {**super().get_config(), "cells": cells}

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> Any:
        """Makes the cells, and this one of them, from its config.

        Args:
            config: what :meth:`get_config` returned.
            custom_objects: name -> class of the user's.
        """
        cells = [deserialize_keras_object(cell, custom_objects) for cell in config["cells"]]
        return super().from_config({**config, "cells": cells})


def _output_size(cell: Any) -> Any:
    size = getattr(cell, "output_size", None)
    if size is None:
        size = cell.state_size
    return size[0] if isinstance(size, list | tuple) else size
