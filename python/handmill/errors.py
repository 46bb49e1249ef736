"""The exceptions and warnings of handmill, and the one helper that words shape errors."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping


class ShapeError(ValueError):
    """Shapes or dtypes that do not fit an operator or a layer."""


class GraphError(RuntimeError):
    """A graph that breaks the rules of :mod:`handmill.ir.verify`."""


class NotDifferentiableError(TypeError):
    """A gradient was asked of an operator that has none."""


class RowError(ValueError):
    """Raised by guards: a row of the batch that cannot be learned from.

    Attributes:
        problem: what is wrong with it.
        row: its index, in the batch or (in the message that users see) in the data.
    """

    def __init__(self, problem: str, row: int) -> None:
        super().__init__(f"{problem} (first at row {row})")
        self.problem = problem
        self.row = row


class TrainingWarning(UserWarning):
    """Numbers seen in training that usually mean a mistake (dead units, loss above guessing)."""


class KerasDifferenceWarning(UserWarning):
    """handmill does on purpose something else than Keras; docs/differences.md lists each case."""


def warn_caller(text: str, category: type[Warning]) -> None:
    """Warns at the line outside handmill from which the current call came."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == "handmill":
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)


def shape_error(
    op: str, problem: str, operands: Mapping[str, object] | None = None, hint: str = ""
) -> ShapeError:
    """Builds the error of an operator whose operands do not fit.

    Args:
        op: the operator's name.
        problem: what was expected and what was received, in one sentence.
        operands: name -> spec of each operand.
        hint: how to mend it.
    """
    lines = [f"{op}: {problem}"]
    lines += [f"  {name}: {spec}" for name, spec in (operands or {}).items()]
    if hint:
        lines.append(f"  hint: {hint}")
    return ShapeError("\n".join(lines))
