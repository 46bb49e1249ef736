"""The random numbers of image layers, which follow from calls or from the rows of the data.

In ``fit``, what is drawn for a row follows from the layer's seed, its counter (which an epoch
raises by one), the number of the row in the data, the view (how many calls of the layer came before
in the step) and the place among the draws: neither batches, order and threads nor a run that was
interrupted change it. Elsewhere a draw follows from seed, counter and the place in the batch, and
raises the counter.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import ops, random
from handmill.ir.graph import current_graph
from handmill.layers.context import CONTEXT
from handmill.primitives.random import random_normal, random_uniform, row_seeds


class Draws:
    """The numbers of one transformation, one call of the generator after the other.

    Args:
        seed: a ``SeedGenerator``, whose counter goes on, or an integer: then the same numbers
            each time.
    """

    def __init__(self, seed: Any) -> None:
        self._seed = seed
        self._call = 0

    @classmethod
    def of(cls, seed: Any) -> Draws:
        """The draws of a seed; those that :meth:`split` gave go on."""
        return seed if isinstance(seed, Draws) else cls(seed)

    def next(self) -> Any:
        """A seed for the next draw, of numbers that all images share."""
        if not isinstance(self._seed, int | np.integer) or isinstance(self._seed, bool):
            return self._seed
        self._call += 1
        return np.array([int(self._seed) & (1 << 63) - 1, self._call - 1], np.int64)

    def split(self) -> Any:
        """A seed for the draws of another layer."""
        state = self.next()
        if state is self._seed:
            return state
        low, high = (int(word) for word in random.words(int(state[0]), int(state[1]), 2))
        return high << 31 ^ low

    def uniform(self, shape: Any, low: Any = 0.0, high: Any = 1.0) -> Any:
        """Numbers from ``low`` to ``high``, in float32."""
        return random.uniform(shape, float(low), float(high), "float32", self.next())

    def normal(self, shape: Any) -> Any:
        """Numbers of mean 0 and standard deviation 1, in float32."""
        return random.normal(shape, 0.0, 1.0, "float32", self.next())

    def integers(self, shape: Any, low: int, high: int) -> Any:
        """Integers (int32) from ``low`` to ``high - 1``."""
        drawn = ops.floor(ops.multiply(self.uniform(shape), float(high - low)))
        return ops.add(ops.cast(drawn, "int32"), low)

    def chance(self, batch: Any, factor: tuple[float, float]) -> Any:
        """For each image whether something happens, with a probability that is drawn too."""
        probability = self.uniform((batch,), *factor)
        return ops.less(self.uniform((batch,)), probability)


class RowDraws(Draws):
    """The numbers of one transformation of rows whose numbers in the data are known.

    What all images of a batch share follows from the first of its rows.

    Args:
        states: a seed state for each row.
    """

    def __init__(self, states: Any) -> None:
        super().__init__(None)
        self._states = states

    def _next_states(self) -> Any:
        self._call += 1
        if self._call == 1:
            return self._states
        return ops.add(self._states, np.array([0, self._call - 1], np.int64))

    def next(self) -> Any:
        """A seed for the next draw, of numbers that all images share."""
        return ops.reshape(self._next_states()[:1], (2,))

    def split(self) -> Any:
        """A seed for the draws of another layer: these, which go on."""
        return self

    def _is_by_row(self, shape: Any) -> bool:
        return len(shape) > 0 and bool(shape[0] == self._states.shape[0])

    def uniform(self, shape: Any, low: Any = 0.0, high: Any = 1.0) -> Any:
        """Numbers from ``low`` to ``high``, in float32."""
        if not self._is_by_row(shape):
            return super().uniform(shape, low, high)
        drawn = random_uniform(self._next_states(), shape)
        drawn = ops.multiply(drawn, np.float32(float(high) - float(low)))
        return ops.add(drawn, np.float32(low))

    def normal(self, shape: Any) -> Any:
        """Numbers of mean 0 and standard deviation 1, in float32."""
        if not self._is_by_row(shape):
            return super().normal(shape)
        return random_normal(self._next_states(), shape)


def draws_of(generator: random.SeedGenerator) -> Draws:
    """The numbers of the next transformation of a layer."""
    rows = CONTEXT.rows
    view = None if rows is None else rows.next_view(generator)
    if rows is None or view is None:
        return Draws(generator)
    state: Any = generator.state
    state = state.numpy() if current_graph() is None else state.value
    return RowDraws(row_seeds(rows.numbers, state, view))
