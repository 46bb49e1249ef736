"""How sparsity grows while a model is trained: the schedules of TF-MOT."""

from __future__ import annotations

from typing import Any, Protocol

from handmill.arguments import finite_number, whole_number
from handmill.errors import warn_caller


class Schedule(Protocol):
    """What prune() and Prune need of a schedule."""

    def __call__(self, step: int) -> float:
        """The part of the weights that is zero from this step on."""
        ...

    def is_due(self, step: int) -> bool:
        """Whether masks are chosen anew before this step."""
        ...


def checked_sparsity(who: str, value: Any) -> float:
    """A part of the weights: from 0, and less than 1.

    Raises:
        TypeError: if it is no number.
        ValueError: if it is out of range.
    """
    number = finite_number(who, value)
    if not 0 <= number < 1:
        raise ValueError(
            f"{who} is the part of the weights that is zero: at least 0, less than 1 (0.8 leaves "
            f"a fifth). Received: {value!r}"
        )
    return number


class _Schedule:
    begin_step: int
    end_step: int
    frequency: int

    def _span(self, begin: Any, end: Any, frequency: Any) -> None:
        who = type(self).__name__
        self.begin_step = whole_number(f"{who}: `begin_step`", begin, 0)
        self.end_step = whole_number(f"{who}: `end_step`", end, -1)
        self.frequency = whole_number(f"{who}: `frequency`", frequency, 1)
        if self.end_step != -1 and self.end_step < self.begin_step:
            raise ValueError(
                f"{who}: `end_step` comes before `begin_step`. Received: begin_step={begin}, "
                f"end_step={end}"
            )

    def is_due(self, step: int) -> bool:
        """Whether masks are chosen anew before this step, the first being 0."""
        inside = step >= self.begin_step and (self.end_step == -1 or step <= self.end_step)
        return inside and (step - self.begin_step) % self.frequency == 0


class ConstantSparsity(_Schedule):
    """The same sparsity from some step on.

    Args:
        target_sparsity: the part of the weights that is zero, from 0 to less than 1.
        begin_step: the first step at which masks are chosen.
        end_step: the last one; -1: there is none.
        frequency: steps from one choice to the next.

    Example:
        >>> from handmill.compress import ConstantSparsity
        >>> schedule = ConstantSparsity(0.5, begin_step=10)
        >>> schedule(10), [step for step in range(300) if schedule.is_due(step)]
        (0.5, [10, 110, 210])
    """

    def __init__(
        self, target_sparsity: float, begin_step: int, end_step: int = -1, frequency: int = 100
    ) -> None:
        self.target_sparsity = checked_sparsity(
            "ConstantSparsity: `target_sparsity`", target_sparsity
        )
        self._span(begin_step, end_step, frequency)

    def __call__(self, step: int) -> float:
        """The sparsity, whatever the step."""
        return self.target_sparsity


class PolynomialDecay(_Schedule):
    """Sparsity that grows fast at first and slowly in the end (Zhu and Gupta, 2017).

    ``final + (initial - final) * (1 - p) ** power``, where p grows from 0 at ``begin_step`` to 1 at
    ``end_step``.

    Args:
        initial_sparsity: the part of the weights that is zero at first, from 0 to less than 1.
        final_sparsity: the part in the end.
        begin_step: the first step at which masks are chosen.
        end_step: the last one.
        power: of the polynomial.
        frequency: steps from one choice to the next.

    Example:
        >>> from handmill.compress import PolynomialDecay
        >>> schedule = PolynomialDecay(0.0, 0.8, begin_step=0, end_step=100)
        >>> [round(schedule(step), 3) for step in (0, 50, 100)]
        [0.0, 0.7, 0.8]
    """

    def __init__(
        self,
        initial_sparsity: float,
        final_sparsity: float,
        begin_step: int,
        end_step: int,
        power: float = 3,
        frequency: int = 100,
    ) -> None:
        who = "PolynomialDecay"
        self.initial_sparsity = checked_sparsity(f"{who}: `initial_sparsity`", initial_sparsity)
        self.final_sparsity = checked_sparsity(f"{who}: `final_sparsity`", final_sparsity)
        self.power = finite_number(f"{who}: `power`", power)
        if self.power <= 0:
            raise ValueError(f"{who}: `power` must be positive. Received: {power!r}")
        self._span(begin_step, whole_number(f"{who}: `end_step`", end_step, 0), frequency)
        if self.final_sparsity < self.initial_sparsity:
            warn_caller(
                f"{who}: `final_sparsity` {final_sparsity} is smaller than `initial_sparsity` "
                f"{initial_sparsity}: weights come back in the course of the training"
            )

    def __call__(self, step: int) -> float:
        """The sparsity from a step on."""
        span = self.end_step - self.begin_step
        part = 1.0 if span == 0 else min(1.0, max(0.0, (step - self.begin_step) / span))
        rest = float((1.0 - part) ** self.power)
        return self.final_sparsity + (self.initial_sparsity - self.final_sparsity) * rest
