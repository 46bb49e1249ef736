"""Optimizers called on arrays, outside of a training step."""

from __future__ import annotations

from typing import Any

from handmill.runtime.structure import Walk
from handmill.runtime.variable import Variable


class Applied:
    """An optimizer applied to arrays: what its program depends on."""

    ignores_trainable = True

    def __init__(self, optimizer: Any, variables: list[Variable]) -> None:
        self.things = optimizer, tuple(variables)

    def parts(self) -> tuple[Any, ...]:
        """The optimizer, and the variables."""
        return (*self.things, self)

    def describe_structure(self, walk: Walk) -> None:
        """Others may have gradients for other variables: they do not share the program."""
        walk.is_shared = False

    def memo(self, before: Any) -> None:
        """Nothing: it is built before."""

    def prepare(self, memo: None, before: Any) -> tuple[()]:
        """There is nothing to make."""
        return ()
