"""A step of an optimizer as a function: values in, values out, nothing remembered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from handmill.runtime.stateless import check_counts, contents, lent_values

if TYPE_CHECKING:
    from handmill.optimizers.base import Optimizer


def stateless_apply(
    optimizer: Optimizer,
    optimizer_variables: Sequence[Any],
    grads: Sequence[Any],
    trainable_variables: Sequence[Any],
) -> tuple[list[Any], list[Any]]:
    """Returns what a step makes of values; variables stay as they are.

    Args:
        optimizer: a built optimizer.
        optimizer_variables: a value for each of ``optimizer.variables``.
        grads: one gradient, or None, for each trainable variable.
        trainable_variables: a value for each variable that the optimizer was built with.

    Raises:
        ValueError: if the optimizer is not built, or the lists do not fit.
    """
    if not optimizer.built:
        raise ValueError(
            f"To call `stateless_apply`, {type(optimizer).__name__} must be built (i.e. its "
            "variables must have been created). You can build it via "
            "`optimizer.build(trainable_variables)`."
        )
    own, trained = optimizer.variables, list(optimizer._trainable_variables)
    check_counts(
        type(optimizer).__name__,
        optimizer_variables=(optimizer_variables, own),
        trainable_variables=(trainable_variables, trained),
    )
    variables = [*trained, *own]
    with lent_values(variables, [*trainable_variables, *optimizer_variables]):
        optimizer.apply(grads, trained)
        found = contents(variables)
    return found[: len(trained)], found[len(trained) :]
