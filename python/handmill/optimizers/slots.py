"""Slots of optimizers made at once: most of what the first step of a model makes."""

from __future__ import annotations

from collections.abc import Sequence

from handmill.runtime.variable import Variable


def has_methods_of(kind: type, base: type) -> bool:
    """Whether a class of optimizers overrides nothing that makes a slot."""
    makers = ("add_variable", "add_variable_from_reference", "_track")
    return all(getattr(kind, name) is getattr(base, name) for name in makers)


def add_zeros(
    slots: Sequence[list[Variable]],
    variables: Sequence[Variable],
    names: Sequence[str],
    owner: str,
) -> list[Variable]:
    """Makes what ``add_variable_from_reference`` makes, for each variable and name.

    Args:
        slots: a list for each name; slots are appended.
        variables: the variables that have slots.
        names: those of the slots of a variable.
        owner: the name of the optimizer.

    Returns:
        All new slots, in the order in which they were made.
    """
    like = [variable for variable in variables for _ in names]
    named = []
    for variable in variables:
        reference = variable.path.replace("/", "_")
        for name in names:
            full = f"{reference}_{name or 'var'}"
            named.append((full, f"{owner}/{full}"))
    made: list[Variable] = Variable.zeros_like(like, named)
    for i, of_one_name in enumerate(slots):
        of_one_name += made[i :: len(names)]
    return made
