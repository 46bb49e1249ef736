"""Optimizers called on arrays, outside of a training step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handmill.errors import warn_caller
from handmill.runtime.structure import Walk
from handmill.runtime.variable import Variable
from handmill.runtime.watch import is_ours


def with_gradients(grads: Sequence[Any], variables: Sequence[Variable]) -> list[tuple[Any, Any]]:
    """Returns pairs of gradients and variables, and warns of variables without one.

    Raises:
        ValueError: if there is none at all.
    """
    pairs = [(g, v) for g, v in zip(grads, variables, strict=True) if g is not None]
    if not pairs:
        raise ValueError(
            f"No gradients provided for any variable: of {len(grads)} gradients each is None. "
            "The loss must depend on the variables through operators that have gradients, "
            "which argmax, round, comparisons, stop_gradient and casts to integers have not"
        )
    if len(pairs) < len(grads):
        missing = [v.path for g, v in zip(grads, variables, strict=True) if g is None]
        warn_caller(
            f"Gradients do not exist for variables {missing} when minimizing the loss. If "
            "using `model.compile()`, did you forget to provide a `loss` argument?",
        )
    return pairs


def is_separable(optimizer: Any) -> bool:
    """Whether an update of some variables needs nothing of the others.

    Not with a norm of all gradients, nor with running means, which move together; nor in an
    optimizer of a user's own, which may do anything.
    """
    from handmill.optimizers.base import Optimizer

    kind = type(optimizer)
    return (
        is_ours(kind)
        and kind._apply_to_values is Optimizer._apply_to_values
        and not optimizer.global_clipnorm
        and not optimizer.use_ema
    )


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
