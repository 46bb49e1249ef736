"""The progress line."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import numpy as np

from handmill import console

BAR_WIDTH = 20


def in_notebook() -> bool:
    """Whether this process serves a Jupyter notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return any(kind.__name__ == "ZMQInteractiveShell" for kind in type(shell).__mro__)


def is_live(stream: TextIO) -> bool:
    """Whether a line on ``stream`` can be written over: a terminal, or the cell of a notebook.

    What a notebook redirects to a file or a string is neither.
    """
    if any(kind.__module__.partition(".")[0] == "ipykernel" for kind in type(stream).__mro__):
        return True
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


def format_step(seconds: float, unit: str = "step") -> str:
    """Returns the time of a step, such as ``12ms/step``."""
    if seconds >= 1 or seconds == 0:
        return f"{seconds:.0f}s/{unit}"
    if seconds >= 1e-3:
        return f"{seconds * 1e3:.0f}ms/{unit}"
    return f"{seconds * 1e6:.0f}us/{unit}"


def format_eta(seconds: float) -> str:
    """Returns a duration, such as ``9s``, ``1:05`` or ``2:00:05``."""
    whole = int(seconds)
    if whole >= 3600:
        return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
    return f"{whole // 60}:{whole % 60:02d}" if whole >= 60 else f"{whole}s"


def format_logs(logs: Mapping[str, Any]) -> str:
    """Returns numbers by name, such as ``accuracy: 0.9000 - loss: 0.3000``."""
    parts = []
    for name, value in logs.items():
        number = float(np.mean(np.asarray(value, np.float64)))
        text = f"{number:.4f}" if abs(number) > 1e-3 or number == 0 else f"{number:.4e}"
        parts.append(f"{name}: {text}")
    return " - ".join(parts)


class Progbar:
    """A progress line: ``12/100 ━━━━━━━━━ 3s 12ms/step - loss: 0.3000``.

    On a terminal and in a notebook the line is written over (by tqdm). Elsewhere ``update``
    writes a line each time that it shows something, and ``fit`` one line at the end.

    Args:
        target: the number of steps, None if it is not known.
        width: how long the bar is.
        verbose: 0 silent, 1 a bar, 2 one line at the end.
        interval: seconds between updates of the line.
        stateful_metrics: names of values that are not averaged over steps; all others are.
        stateless_metrics: names of values that are averaged over steps; all others are not.
        unit_name: what is counted.
        stream: where to write; default: the standard output.

    Raises:
        ValueError: if both lists of names are given.
    """

    def __init__(
        self,
        target: int | None,
        width: int = BAR_WIDTH,
        verbose: int = 1,
        interval: float = 0.05,
        stateful_metrics: Sequence[str] | None = None,
        stateless_metrics: Sequence[str] | None = None,
        unit_name: str = "step",
        stream: TextIO | None = None,
    ) -> None:
        if stateful_metrics is not None and stateless_metrics is not None:
            raise ValueError(
                "Only one of `stateful_metrics` or `stateless_metrics` can be provided: the first "
                "names what is shown as it is, the second what is averaged."
            )
        self.target = target
        self.width = width
        self.verbose = verbose
        self.interval = interval
        self.stateful_metrics = set(stateful_metrics or ())
        self.stateless_metrics = None if stateless_metrics is None else set(stateless_metrics)
        self.unit_name = unit_name
        self._given = stream
        self._live = is_live(self._stream)
        self._sums: dict[str, tuple[float, int]] = {}
        self._seen = 0
        self._start = time.perf_counter()
        self._last = -np.inf
        self._bar: Any = None
        self._done = False

    @property
    def _stream(self) -> TextIO:
        return console.stream() if self._given is None else self._given

    def update(self, current: int, values: Any = None, finalize: bool | None = None) -> None:
        """Shows that ``current`` steps are done.

        Args:
            current: steps done.
            values: pairs (name, value).
            finalize: whether this is the end; default: if ``current`` reaches the target.
        """
        if finalize is None:
            finalize = self.target is not None and current >= self.target
        steps = max(current - self._seen, 1)
        for name, value in values or ():
            value = float(np.mean(np.asarray(value, np.float64)))
            averaged = self.stateless_metrics
            if (
                name in self.stateful_metrics if averaged is None else name not in averaged
            ) or finalize:
                self._sums[name] = (value, 1)
            else:
                total, count = self._sums.get(name, (0.0, 0))
                self._sums[name] = (total + steps * value, count + steps)
        self._seen = current
        shown = {k: t / max(n, 1) for k, (t, n) in self._sums.items()}
        now = time.perf_counter()
        if self.verbose == 1 and not (self._live or finalize or self._done) and self._is_due(now):
            of = "Unknown" if self.target is None else str(self.target)
            text = self._text(current, shown, now - self._start, finalize=False)
            self._write(f"{current}/{of} {text}")
        self.show(current, shown, finalize)

    def add(self, n: int, values: Any = None) -> None:
        """Shows that ``n`` more steps are done."""
        self.update(self._seen + n, values)

    def show(self, current: int, logs: Mapping[str, Any], finalize: bool) -> None:
        """Writes the line for ``current`` steps and the numbers ``logs``."""
        if self.verbose == 0 or self._done:
            return
        now = time.perf_counter()
        if finalize:
            self._finish(current, logs, now - self._start)
        elif self.verbose == 1 and self._live and self._is_due(now):
            self._draw(current, logs, now - self._start)

    def _is_due(self, now: float) -> bool:
        due = now - self._last >= self.interval
        if due:
            self._last = now
        return due

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Leaves the line as it is and goes to the next."""
        if self._bar is not None and not self._done:
            self._bar.close()
        self._done = True

    def _text(self, current: int, logs: Mapping[str, Any], elapsed: float, finalize: bool) -> str:
        per_step = elapsed / max(current, 1)
        if finalize or self.target is None:
            left = format_eta(elapsed)
        else:
            left = format_eta(per_step * (self.target - current))
        text = f"{left} {format_step(per_step, self.unit_name)}"
        shown = format_logs(logs)
        return f"{text} - {shown}" if shown else text

    def _draw(self, current: int, logs: Mapping[str, Any], elapsed: float) -> None:
        if self._bar is None:
            from tqdm import tqdm

            count = "{n_fmt}/{total_fmt}" if self.target is not None else "{n_fmt}/Unknown"
            bar = f" {{bar:{self.width}}}" if self.target is not None else ""
            self._bar = tqdm(
                total=self.target,
                file=self._stream,
                ncols=None if _columns_known(self._stream) else 80,
                ascii=" ╸━" if can_write(self._stream, "╸━") else " .=",
                bar_format=f"{count}{bar} {{desc}}",
                leave=True,
                mininterval=0,
                miniters=1,
            )
        self._bar.n = current
        self._bar.set_description_str(self._text(current, logs, elapsed, False), refresh=False)
        self._bar.refresh()

    def _finish(self, current: int, logs: Mapping[str, Any], elapsed: float) -> None:
        text = self._text(current, logs, elapsed, True)
        if self.verbose == 1 and self._live:
            self._draw(current, logs, elapsed)
            self._bar.leave = False
            self._bar.close()
            # In full: a line that is written over is cut at the edge of the terminal.
            mark = "━" if can_write(self._stream, "━") else "="
            bar = f"{current}/{self.target} {mark * self.width}" if self.target else f"{current}"
            self._write(f"{bar} {text}")
        else:
            total = self.target if self.target is not None else current
            seconds, _, rest = text.partition(" ")
            parts = rest.split(" - ", 1)
            line = f"{current}/{total} - {seconds} - {parts[0]}"
            line += f" - {parts[1]}" if len(parts) > 1 else ""
            self._write(line)
        self._done = True


def _columns_known(stream: TextIO) -> bool:
    """Whether the terminal tells its width; some (serial lines, containers) say 0 columns."""
    try:
        return os.get_terminal_size(stream.fileno()).columns > 0
    except (AttributeError, OSError, ValueError):
        return True  # no terminal: tqdm knows what to do


def can_write(stream: TextIO | None, text: str) -> bool:
    """Whether the encoding of ``stream`` has the characters of ``text``."""
    try:
        text.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
