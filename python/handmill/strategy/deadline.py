"""An end to training that comes by the clock, where training can be left: between steps.

What trains many models asks :func:`look` between them and between epochs, and gives C++ the
:func:`seconds_left`. Nothing is ended in the middle of what it does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextvars import ContextVar

_END: ContextVar[float] = ContextVar("end", default=math.inf)


class _TimeIsUp(BaseException):
    """No Exception, so that nothing takes it for an error."""


def within(seconds: float | None, work: Callable[[], None]) -> bool:
    """Calls a function that looks at the clock, and ends it when its time is up.

    Errors of the function are the caller's. An earlier end that stands outside counts too.

    Args:
        seconds: how long it may take; None for ever.
        work: the function.

    Returns:
        Whether it was ended early.

    Example:
        >>> import time
        >>> from handmill.strategy.deadline import look, within
        >>> within(0.05, lambda: time.sleep(0.001)), within(None, lambda: None)
        (False, False)
        >>> def never_ends():
        ...     while True:
        ...         look()
        >>> within(0.05, never_ends)
        True
    """
    if seconds is None:
        work()
        return False
    if seconds <= 0:
        return True
    end = time.monotonic() + seconds
    if end >= _END.get():
        work()
        return False
    token = _END.set(end)
    try:
        work()
    except _TimeIsUp:
        return True
    finally:
        _END.reset(token)
    return False


def seconds_left() -> float | None:
    """Until the end; None where there is none."""
    end = _END.get()
    return None if end == math.inf else max(0.0, end - time.monotonic())


def is_up() -> bool:
    """Whether the time is up."""
    return time.monotonic() >= _END.get()


def look() -> None:
    """Leaves the function that :func:`within` called, if its time is up."""
    if is_up():
        raise _TimeIsUp
