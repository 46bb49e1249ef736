"""The exceptions and warnings of handmill, and the one helper that words shape errors."""

from __future__ import annotations

import functools
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class ShapeError(ValueError):
    """Shapes or dtypes that do not fit an operator or a layer."""


class GraphError(RuntimeError):
    """A graph that breaks the rules of :mod:`handmill.ir.verify`."""


class NotDifferentiableError(TypeError):
    """A gradient was asked of an operator that has none."""


class TracedValueError(TypeError):
    """A number was needed that is known only when the program runs, not while it is traced."""


class RowError(ValueError):
    """Raised by guards: a row of the batch that cannot be learned from.

    Attributes:
        problem: what is wrong with it.
        row: its index, in the batch or (in the message that users see) in the data.
        step: of the loop in which it was found, the row that this step went over; else None.
    """

    step: int | None = None

    def __init__(self, problem: str, row: int) -> None:
        super().__init__(f"{problem} (first at row {row})")
        self.problem = problem
        self.row = row


class FileFormatError(ValueError):
    """A file that is damaged, or not what its name says."""


class TrainingWarning(UserWarning):
    """Numbers seen in training that usually mean a mistake (dead units, loss above guessing)."""


class FaultyRuleWarning(UserWarning):
    """A rule failed to make a layer of a file's operator that can be computed by itself.

    The model is right, but less of it is layers: it is an error of handmill, not of the file.
    """


class KerasDifferenceWarning(UserWarning):
    """handmill does on purpose something else than Keras; docs/differences.md lists each case."""


warnings_given = 0
"""How often :func:`warn_caller` was called: what is known from before would not warn again."""


_kept_warnings: ContextVar[list[tuple[str, type[Warning]]] | None] = ContextVar(
    "kept_warnings", default=None
)


@contextmanager
def keep_warnings() -> Iterator[list[tuple[str, type[Warning]]]]:
    """Keeps what :func:`warn_caller` is told on this thread, which nobody outside called.

    Who takes the thread's work tells it his caller, under whose filters it falls.
    """
    kept: list[tuple[str, type[Warning]]] = []
    token = _kept_warnings.set(kept)
    try:
        yield kept
    finally:
        _kept_warnings.reset(token)


def warn_caller(text: str, category: type[Warning] = UserWarning) -> None:
    """Warns at the line outside handmill from which the current call came."""
    global warnings_given
    kept = _kept_warnings.get()
    if kept is not None:
        kept.append((text, category))
        return
    warnings_given += 1
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] == "handmill":
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)


def needs_numbers(error: BaseException) -> bool:
    """Whether ``error`` says that a symbolic value was given to what works on numbers.

    Other libraries say it in a TypeError that names the class: ``must be Tensor, not Value``.
    """
    import re

    named = isinstance(error, TypeError) and re.search(r"(not |'|graph\.)Value\b", str(error))
    return isinstance(error, TracedValueError) or bool(named)


def not_a_program(error: BaseException, what: str) -> TracedValueError:
    """Returns the error of a step that needs numbers while it is traced.

    Args:
        error: what was raised, with its traceback.
        what: the step, for the message.
    """
    import linecache
    import traceback

    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = frame.f_code.co_filename
        of_user = frame.f_globals.get("__name__", "").partition(".")[0] not in ("handmill", "numpy")
        if of_user and "site-packages" not in name:
            text = linecache.getline(name, line, frame.f_globals).strip()
            place = f"\n  at {name.rpartition('/')[2]}:{line}, in {frame.f_code.co_name}"
            place += f": {text}" if text else ""
    own = isinstance(error, TracedValueError)
    reason = error if own else f"another library was given a symbolic value: {error}"
    return TracedValueError(
        f"{what} cannot become a program: {reason}{place}\n"
        "  hint: compute with functions of handmill.ops, which the program can repeat for every "
        "batch; or let Python run the step on arrays: compile(..., run_eagerly=True)"
    )


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


_filtering = True


def enable_traceback_filtering() -> None:
    """Leaves handmill's own frames out of tracebacks, as from the start."""
    global _filtering
    _filtering = True


def disable_traceback_filtering() -> None:
    """Leaves tracebacks whole, for work on handmill itself."""
    global _filtering
    _filtering = False


def is_traceback_filtering_enabled() -> bool:
    """Whether tracebacks come without handmill's own frames.

    Never under ``HANDMILL_DEBUG=1``.
    """
    return _filtering and os.environ.get("HANDMILL_DEBUG") != "1"


def clean_traceback(function: Callable[P, T]) -> Callable[P, T]:
    """Lets errors leave ``function`` without handmill's own frames, if that is wanted."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            raise of_caller(error)  # noqa: B904  (the same error, shortened)

    return wrapped


def of_caller(error: Exception) -> Exception:
    """Takes handmill's own frames out of the traceback of ``error``, if that is wanted.

    Where an error leaves handmill; frames of the caller's, such as a layer's ``call``, stay.
    """
    if is_traceback_filtering_enabled():
        kept = []
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] != "handmill":
                kept.append(trace)
            trace = trace.tb_next
        found = None
        for trace in reversed(kept):
            found = TracebackType(found, trace.tb_frame, trace.tb_lasti, trace.tb_lineno)
        error.__traceback__ = found
    return error
