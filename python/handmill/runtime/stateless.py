"""Code that reads and writes variables, as functions: values in, values out, nothing remembered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from handmill.ir import trace
from handmill.ir.graph import current_graph
from handmill.runtime.recording import plain
from handmill.runtime.variable import Variable


@contextmanager
def lent_values(variables: Sequence[Variable], values: Sequence[Any]) -> Iterator[None]:
    """Lets variables hold ``values`` in the ``with`` block; then they are as they were.

    A GradientTape that watches a value sees it where the variable is read.
    """
    kept = contents(variables)
    recording = trace.recorder() if current_graph() is None else None
    try:
        for variable, value in zip(variables, values, strict=True):
            variable.assign(plain(value))
            if recording is not None:
                recording.lend(variable, value)
        yield
    finally:
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)


def contents(variables: Sequence[Variable]) -> list[Any]:
    """What variables hold: copies, or symbolic values while a program is traced."""
    return [v.numpy() if current_graph() is None else v.value for v in variables]


def check_counts(owner: str, **given: tuple[Sequence[Any], Sequence[Variable]]) -> None:
    """Compares lists of values with the variables that they are for.

    Args:
        owner: whose variables they are, for the error.
        **given: name of the argument -> values and variables.

    Raises:
        ValueError: naming the argument whose length differs.
    """
    for name, (values, variables) in given.items():
        if len(values) != len(variables):
            raise ValueError(
                f"Argument `{name}` must be a list of tensors corresponding 1:1 to the variables "
                f"that {owner} has. Received list with length {len(values)}, but expected "
                f"{len(variables)} variables."
            )
