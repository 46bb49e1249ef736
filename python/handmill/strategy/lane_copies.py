"""Lanes without a model: what models of one configuration under other seeds would have held.

Two models of a configuration, built under two seeds, show what of their first states depends on the
seed: weights that an initializer drew, and the seeds of generators. Where drawing them again gives
exactly what both had, the same is drawn for the seeds that follow, and no model is built for them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from handmill import random
from handmill.initializers import RandomInitializer
from handmill.ir.op import Array
from handmill.strategy.lane_programs import Description, LaneProgram

_DRAWN = ("float32", "float64")


class First(NamedTuple):
    """A lane as it was before its first step.

    Attributes:
        description: of its programs.
        seed: its seed.
        drawn: how many seeds were drawn for it.
        shuffle: the seed of its orders of rows.
        contents: of its states.
        initializers: what drew a content, by the place of the state.
    """

    description: Description
    seed: int
    drawn: int
    shuffle: int | None
    contents: list[Array]
    initializers: dict[int, Any]

    @classmethod
    def of(cls, description: Description, seed: int, drawn: int, draws: Sequence[Any]) -> First:
        """Notes what a lane holds now.

        Args:
            description: of its programs.
            seed: its seed.
            drawn: how many seeds were drawn for it.
            draws: variables and the initializers that drew their contents.
        """
        made_by = {id(variable.state): initializer for variable, initializer in draws}
        states = description.states
        shuffle = description.model._shuffle if description.is_shuffled else None
        return cls(
            description,
            seed,
            drawn,
            None if shuffle is None else shuffle[0],
            [state.copy() for state in states],
            {i: made_by[id(state)] for i, state in enumerate(states) if id(state) in made_by},
        )

    def call_of(self, seed: Any) -> int:
        """At which call a seed was drawn; -1 if it was not."""
        for call in range(self.drawn):
            if random.host_seed(self.seed, call) == seed:
                return call
        return -1


class Copies:
    """Makes lanes of a configuration for other seeds.

    Args:
        description: of the programs.
        contents: of the states, where no seed matters.
        drawn: the initializers by place, and at which call the seed of each is drawn.
        generators: the places of states of generators, and the calls of their seeds.
        shuffle: the call of the seed of the orders of rows.
    """

    def __init__(
        self,
        description: Description,
        contents: dict[int, Array],
        drawn: dict[int, tuple[Any, int]],
        generators: dict[int, int],
        shuffle: int | None,
    ) -> None:
        self._description = description
        self._contents = {i: c for i, c in contents.items() if c.any()}
        self._drawn = drawn
        self._generators = generators
        self._shuffle = shuffle

    @classmethod
    def learn(cls, a: First, b: First) -> Copies | None:
        """What two lanes of a configuration have in common; None if that does not tell the rest."""
        of_a, of_b = a.description, b.description
        if not _are_alike(of_a, of_b) or a.drawn != b.drawn or a.seed == b.seed:
            return None
        contents: dict[int, Array] = {}
        drawn: dict[int, tuple[Any, int]] = {}
        generators: dict[int, int] = {}
        for place, (one, other) in enumerate(zip(a.contents, b.contents, strict=True)):
            if one.tobytes() == other.tobytes():
                contents[place] = one
                continue
            made_by = a.initializers.get(place)
            if isinstance(made_by, RandomInitializer) and one.dtype.name in _DRAWN:
                call = a.call_of(made_by.seed)  # also of a copy, whose seed is given it
                if call < 0 or not all(
                    _draw(made_by, first.seed, call, content).tobytes() == content.tobytes()
                    for first, content in ((a, one), (b, other))
                ):
                    return None
                drawn[place] = made_by, call
                continue
            call = a.call_of(int(one[0])) if _is_of_generator(one) else -1
            if call < 0 or not _is_of_generator(other) or b.call_of(int(other[0])) != call:
                return None
            generators[place] = call
        shuffle = None
        if a.shuffle is not None and b.shuffle is not None:
            shuffle = a.call_of(a.shuffle)
            if shuffle < 0 or b.call_of(b.shuffle) != shuffle:
                return None
        return cls(of_a, contents, drawn, generators, shuffle)

    def program(self, seed: int, epochs: int) -> LaneProgram:
        """The lane of a seed.

        Args:
            seed: the seed.
            epochs: how many epochs follow.
        """
        description = self._description
        kind = type(description.states[0])
        states = kind.like(description.states)
        for place, content in self._contents.items():
            states[place].write(content)
        for place, (initializer, call) in self._drawn.items():
            states[place].write(_draw(initializer, seed, call, states[place].view()))
        for place, call in self._generators.items():
            states[place].write(np.array([random.host_seed(seed, call), 0], np.int64))
        shuffle = None if self._shuffle is None else [random.host_seed(seed, self._shuffle), 0]
        return LaneProgram(description, states, shuffle, epochs)


def _draw(initializer: Any, seed: int, call: int, like: Array) -> Array:
    """What an initializer gives whose seed is drawn at a call under a seed."""
    other = copy.copy(initializer)
    other.seed = random.host_seed(seed, call)
    return np.asarray(other(like.shape, dtype=str(like.dtype)))


def _is_of_generator(content: Array) -> bool:
    return content.dtype == np.int64 and content.shape == (2,) and content[1] == 0


def _are_alike(a: Description, b: Description) -> bool:
    """Whether programs of one are programs of the other, and nothing but states differs."""
    if a.model.optimizer.finalizes or not a.has_plain_means or not b.has_plain_means:
        return False
    passes = [(a.training, b.training)]
    if a.validation is not None and b.validation is not None:
        passes.append((a.validation, b.validation))
    return (
        len(a.states) == len(b.states)
        and (a.validation is None) == (b.validation is None)
        and [m.name for m in a.metrics] == [m.name for m in b.metrics]
        and (a.results, a.alive, a.finite, a.weights) == (b.results, b.alive, b.finite, b.weights)
        and all(
            [(id(plan), n) for plan, n in p.plans] == [(id(plan), n) for plan, n in q.plans]
            and (p.binding, p.resets) == (q.binding, q.resets)
            for p, q in passes
        )
    )
