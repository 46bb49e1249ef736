"""Where handmill writes for people: the standard output, or the log of the process."""

from __future__ import annotations

import io
import logging
import sys
from typing import TextIO

_LOG = logging.getLogger("handmill")
_interactive = True


def enable_interactive_logging() -> None:
    """Lets messages and progress lines go to the standard output, as they do from the start."""
    global _interactive
    _interactive = True


def disable_interactive_logging() -> None:
    """Lets messages and progress lines go to the logger ``"handmill"``, as ``INFO``.

    Progress lines are then not written over: one is logged when its pass has ended.

    Example:
        >>> import handmill, logging
        >>> logging.getLogger("handmill").setLevel(logging.INFO)
        >>> handmill.config.disable_interactive_logging()
        >>> handmill.config.is_interactive_logging_enabled()
        False
        >>> handmill.config.enable_interactive_logging()
    """
    global _interactive
    _interactive = False


def is_interactive_logging_enabled() -> bool:
    """Whether messages go to the standard output."""
    return _interactive


class _LogStream(io.TextIOBase):
    """A text stream whose lines become records of the log."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self._begun = ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            if line := line.strip("\r "):
                _LOG.info("%s", line)
        return len(text)

    def writable(self) -> bool:
        return True


def stream() -> TextIO:
    """The stream that people read; one that forgets where the process has none.

    A process without a standard output (pythonw, some services) has None there.
    """
    if not _interactive:
        return _LogStream()  # type: ignore[return-value]
    return io.StringIO() if sys.stdout is None else sys.stdout


def say(text: str) -> None:
    """Writes a message and ends the line."""
    out = stream()
    try:
        out.write(f"{text}\n")
    except UnicodeEncodeError:
        encoding = out.encoding or "ascii"
        out.write(f"{text}\n".encode(encoding, "replace").decode(encoding))
    out.flush()
