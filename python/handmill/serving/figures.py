"""Counters of a server, as Prometheus reads them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Histogram:
    """How many numbers fell below each limit.

    Args:
        limits: ascending.
    """

    def __init__(self, limits: Sequence[float]) -> None:
        self.limits = limits
        self.counts = [0] * (len(limits) + 1)
        self.total = 0.0

    def add(self, number: float) -> None:
        """Counts a number."""
        self.counts[bisect_left(self.limits, number)] += 1
        self.total += number

    def lines(self, name: str, text: str) -> list[str]:
        """The text format of Prometheus."""
        found = [f"# HELP {name} {text}", f"# TYPE {name} histogram"]
        below = 0
        for limit, count in zip((*map(str, self.limits), "+Inf"), self.counts, strict=True):
            below += count
            found.append(f'{name}_bucket{{le="{limit}"}} {below}')
        return [*found, f"{name}_sum {self.total:.9g}", f"{name}_count {below}"]


class Figures:
    """What a server has done.

    Attributes:
        answers: status -> how many.
        rows: that were predicted.
        seconds: from the last byte of a request to its answer.
        batches: rows of each call of the model.
    """

    def __init__(self) -> None:
        self.answers: dict[int, int] = {}
        self.rows = 0
        self.seconds = Histogram(SECONDS)
        self.batches = Histogram(ROWS)

    def text(self, waiting: int) -> str:
        """The text format of Prometheus.

        Args:
            waiting: requests that wait for the model.
        """
        lines = [
            "# HELP handmill_requests_total Requests answered, by status.",
            "# TYPE handmill_requests_total counter",
            *(
                f'handmill_requests_total{{code="{code}"}} {count}'
                for code, count in sorted(self.answers.items())
            ),
            "# HELP handmill_rows_total Rows predicted.",
            "# TYPE handmill_rows_total counter",
            f"handmill_rows_total {self.rows}",
            "# HELP handmill_waiting_requests Requests that wait for the model.",
            "# TYPE handmill_waiting_requests gauge",
            f"handmill_waiting_requests {waiting}",
            *self.batches.lines("handmill_batch_rows", "Rows of each call of the model."),
            *self.seconds.lines("handmill_request_seconds", "Seconds from request to answer."),
        ]
        return "\n".join(lines) + "\n"
