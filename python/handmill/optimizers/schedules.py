"""Learning rates that depend on the number of updates; part of the training step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from handmill import ops
from handmill.arguments import finite_number, whole_number
from handmill.lazy import plain_module
from handmill.runtime.watch import Watched
from handmill.saving.objects import deserialize_keras_object, serialize_keras_object


class LearningRateSchedule(Watched):
    """Base class: a callable ``step -> learning rate`` written with ``handmill.ops``."""

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate after ``step`` updates."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(step)")

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        raise NotImplementedError(f"{type(self).__name__} must define get_config()")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Makes a schedule from its config."""
        return cls(**config)


def _check_steps(decay_steps: float) -> float:
    if decay_steps <= 0:
        raise ValueError(f"Argument `decay_steps` must be > 0. Received: decay_steps={decay_steps}")
    return decay_steps


def _numbers(name: str, values: Sequence[float]) -> list[float]:
    try:
        return [finite_number(f"each of {name}", value) for value in values]
    except TypeError:
        raise ValueError(f"{name} must be a list of numbers. Received: {values!r}") from None


def _float(step: Any) -> Any:
    return ops.cast(ops.convert_to_tensor(step), "float32")


class ExponentialDecay(LearningRateSchedule):
    """``initial_learning_rate * decay_rate ** (step / decay_steps)``.

    Args:
        initial_learning_rate: the first rate.
        decay_steps: updates after which the rate was multiplied by ``decay_rate``.
        decay_rate: the factor.
        staircase: whether the rate changes only every ``decay_steps`` updates.
        name: for configs.

    Raises:
        ValueError: if ``decay_steps`` is not positive.

    Example:
        >>> float(ExponentialDecay(0.5, 10, 0.5)(10))
        0.25
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "ExponentialDecay",
    ) -> None:
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = _check_steps(decay_steps)
        self.decay_rate = decay_rate
        self.staircase = staircase
        self.name = name

    def __call__(self, step: Any) -> Any:
        passed = ops.divide(_float(step), float(self.decay_steps))
        if self.staircase:
            passed = ops.floor(passed)
        factor = ops.power(float(self.decay_rate), passed)
        return ops.multiply(factor, float(self.initial_learning_rate))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "decay_rate": self.decay_rate,
            "staircase": self.staircase,
            "name": self.name,
        }


class InverseTimeDecay(LearningRateSchedule):
    """``initial_learning_rate / (1 + decay_rate * step / decay_steps)``.

    Args:
        initial_learning_rate: the first rate.
        decay_steps: how many updates count as one unit of time.
        decay_rate: how fast the rate falls.
        staircase: whether the rate changes only every ``decay_steps`` updates.
        name: for configs.

    Raises:
        ValueError: if ``decay_steps`` is not positive.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
        name: str = "InverseTimeDecay",
    ) -> None:
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = _check_steps(decay_steps)
        self.decay_rate = decay_rate
        self.staircase = staircase
        self.name = name

    def __call__(self, step: Any) -> Any:
        passed = ops.divide(_float(step), float(self.decay_steps))
        if self.staircase:
            passed = ops.floor(passed)
        divisor = ops.add(ops.multiply(passed, float(self.decay_rate)), 1.0)
        return ops.divide(float(self.initial_learning_rate), divisor)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "decay_rate": self.decay_rate,
            "staircase": self.staircase,
            "name": self.name,
        }


class PiecewiseConstantDecay(LearningRateSchedule):
    """``values[0]`` up to step ``boundaries[0]``, then ``values[1]``, and so on.

    Args:
        boundaries: increasing numbers of updates.
        values: the rates; one more than boundaries.
        name: for configs.

    Raises:
        ValueError: if the lengths do not fit.
    """

    def __init__(
        self,
        boundaries: Sequence[float],
        values: Sequence[float],
        name: str = "PiecewiseConstant",
    ) -> None:
        if len(boundaries) != len(values) - 1:
            raise ValueError(
                "The length of boundaries should be 1 less than the length of values. Received: "
                f"boundaries={boundaries} of length {len(boundaries)}, and values={values} of "
                f"length {len(values)}."
            )
        self.boundaries = list(boundaries)
        self.values = list(values)
        self.name = name

    def __call__(self, step: Any) -> Any:
        step = _float(step)
        rate = ops.add(ops.multiply(step, 0.0), float(self.values[0]))
        for boundary, value in zip(self.boundaries, self.values[1:], strict=True):
            rate = ops.where(ops.greater(step, float(int(boundary))), float(value), rate)
        return rate

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {"boundaries": self.boundaries, "values": self.values, "name": self.name}


class PolynomialDecay(LearningRateSchedule):
    """From the first rate to ``end_learning_rate`` along a power of the remaining steps.

    Args:
        initial_learning_rate: the first rate.
        decay_steps: updates until the end.
        end_learning_rate: the last rate.
        power: 1 for a straight line.
        cycle: whether the decay starts again, over twice, three times the steps.
        name: for configs.

    Raises:
        ValueError: if ``decay_steps`` is not positive.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str = "PolynomialDecay",
    ) -> None:
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = _check_steps(decay_steps)
        self.end_learning_rate = end_learning_rate
        self.power = power
        self.cycle = cycle
        self.name = name

    def __call__(self, step: Any) -> Any:
        step = _float(step)
        steps: Any = float(self.decay_steps)
        if self.cycle:
            rounds = ops.maximum(ops.ceil(ops.divide(step, steps)), 1.0)
            steps = ops.multiply(rounds, steps)
        else:
            step = ops.minimum(step, steps)
        left = ops.subtract(1.0, ops.divide(step, steps))
        if self.power != 1.0:
            left = ops.power(left, float(self.power))
        span = float(self.initial_learning_rate) - float(self.end_learning_rate)
        return ops.add(ops.multiply(left, span), float(self.end_learning_rate))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "end_learning_rate": self.end_learning_rate,
            "power": self.power,
            "cycle": self.cycle,
            "name": self.name,
        }


class CosineDecay(LearningRateSchedule):
    """Half a cosine from the first rate to ``alpha`` times it, after an optional warm-up.

    Args:
        initial_learning_rate: the first rate.
        decay_steps: updates of the decay.
        alpha: the last rate, as a fraction of the highest.
        name: for configs.
        warmup_target: the rate to which the warm-up climbs; None for no warm-up.
        warmup_steps: updates of the warm-up.

    Raises:
        ValueError: if ``decay_steps`` is not positive.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        alpha: float = 0.0,
        name: str = "CosineDecay",
        warmup_target: float | None = None,
        warmup_steps: float = 0,
    ) -> None:
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = _check_steps(decay_steps)
        self.alpha = alpha
        self.name = name
        self.warmup_target = warmup_target
        self.warmup_steps = warmup_steps

    def __call__(self, step: Any) -> Any:
        step = _float(step)
        if self.warmup_target is None:
            return self._decayed(step, float(self.initial_learning_rate))
        warm = float(self.warmup_steps)
        decayed = self._decayed(ops.maximum(ops.subtract(step, warm), 0.0), self.warmup_target)
        if not warm:
            return decayed
        climb = float(self.warmup_target) - float(self.initial_learning_rate)
        climbing = ops.add(
            ops.multiply(ops.divide(step, warm), climb), float(self.initial_learning_rate)
        )
        return ops.where(ops.less(step, warm), climbing, decayed)

    def _decayed(self, step: Any, start: float) -> Any:
        done = ops.divide(ops.minimum(step, float(self.decay_steps)), float(self.decay_steps))
        wave = ops.multiply(ops.add(ops.cos(ops.multiply(done, math.pi)), 1.0), 0.5)
        share = ops.add(ops.multiply(wave, 1.0 - self.alpha), float(self.alpha))
        return ops.multiply(share, float(start))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "decay_steps": self.decay_steps,
            "alpha": self.alpha,
            "name": self.name,
            "warmup_target": self.warmup_target,
            "warmup_steps": self.warmup_steps,
        }


class CosineDecayRestarts(LearningRateSchedule):
    """Half a cosine after another, each longer than the last (Loshchilov and Hutter, 2016).

    Args:
        initial_learning_rate: the first rate.
        first_decay_steps: updates of the first one.
        t_mul: how many times longer each is than the one before.
        m_mul: how many times higher each starts than the one before.
        alpha: the lowest rate, as a fraction of the first.
        name: for configs.

    Raises:
        ValueError: if ``first_decay_steps`` is not positive.

    Example:
        >>> schedule = CosineDecayRestarts(1.0, 10, m_mul=0.5)
        >>> [round(float(schedule(step)), 3) for step in (0, 5, 10, 20, 30)]
        [1.0, 0.5, 0.5, 0.25, 0.25]
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: float,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str = "SGDRDecay",
    ) -> None:
        if first_decay_steps <= 0:
            raise ValueError(
                "Argument `first_decay_steps` must be > 0. Received: "
                f"first_decay_steps={first_decay_steps}"
            )
        self.initial_learning_rate = initial_learning_rate
        self.first_decay_steps = first_decay_steps
        self._t_mul = t_mul
        self._m_mul = m_mul
        self.alpha = alpha
        self.name = name

    def __call__(self, step: Any) -> Any:
        restarts, done = self._place(ops.divide(_float(step), float(self.first_decay_steps)))
        wave = ops.multiply(ops.add(ops.cos(ops.multiply(done, math.pi)), 1.0), 0.5)
        if self._m_mul != 1.0:
            wave = ops.multiply(wave, ops.power(float(self._m_mul), restarts))
        share = ops.add(ops.multiply(wave, 1.0 - self.alpha), float(self.alpha))
        return ops.multiply(share, float(self.initial_learning_rate))

    def _place(self, passed: Any) -> tuple[Any, Any]:
        """How often it has started again, and how much of the decay since then is over.

        Args:
            passed: the time so far, in lengths of the first decay.
        """
        if self._t_mul == 1.0:
            restarts = ops.floor(passed)
            return restarts, ops.subtract(passed, restarts)
        growth = self._t_mul - 1.0
        ratio = ops.log(ops.add(ops.multiply(passed, growth), 1.0))
        restarts = ops.floor(ops.divide(ratio, math.log(self._t_mul)))
        length = ops.power(float(self._t_mul), restarts)
        before = ops.divide(ops.subtract(length, 1.0), growth)  # the decays that are over
        done = ops.divide(ops.subtract(passed, before), length)
        is_over = ops.greater_equal(done, 1.0)  # the logarithm was rounded down at a restart
        return ops.add(restarts, ops.cast(is_over, "float32")), ops.where(is_over, 0.0, done)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            "initial_learning_rate": self.initial_learning_rate,
            "first_decay_steps": self.first_decay_steps,
            "t_mul": self._t_mul,
            "m_mul": self._m_mul,
            "alpha": self.alpha,
            "name": self.name,
        }


class PiecewiseLinear(LearningRateSchedule):
    """Straight lines between given rates; the first and the last hold before and after.

    Args:
        steps: increasing numbers of updates.
        values: the rate at each of them.
        name: for configs.

    Raises:
        ValueError: if the lengths do not fit, steps do not increase, or one is no finite number.

    Example:
        >>> schedule = PiecewiseLinear([0, 10, 30], [0.2, 1.0, 0.0])
        >>> [round(float(schedule(step)), 3) for step in (0, 5, 10, 20, 40)]
        [0.2, 0.6, 1.0, 0.5, 0.0]
    """

    def __init__(
        self, steps: Sequence[float], values: Sequence[float], name: str = "PiecewiseLinear"
    ) -> None:
        self.steps = _numbers("the `steps` of PiecewiseLinear", steps)
        self.values = _numbers("the `values` of PiecewiseLinear", values)
        if len(self.steps) != len(self.values) or not self.steps:
            raise ValueError(
                "PiecewiseLinear needs as many values as steps, at least one. Received: "
                f"steps={self.steps}, values={self.values}"
            )
        if any(after <= before for before, after in itertools.pairwise(self.steps)):
            raise ValueError(f"PiecewiseLinear: steps must increase. Received: {self.steps}")
        self.name = name

    def __call__(self, step: Any) -> Any:
        step = _float(step)
        rate = ops.add(ops.multiply(step, 0.0), float(self.values[0]))
        for first, last, start, end in zip(
            self.steps, self.steps[1:], self.values, self.values[1:], strict=False
        ):
            share = ops.divide(ops.subtract(step, float(first)), float(last) - float(first))
            share = ops.clip(share, 0.0, 1.0)
            rate = ops.add(rate, ops.multiply(share, float(end) - float(start)))
        return rate

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {"steps": self.steps, "values": self.values, "name": self.name}


class OneCycle(LearningRateSchedule):
    """One climb to the highest rate and one long fall far below the first (Smith, 2018).

    The defaults are those of torch's ``OneCycleLR``. Momentum stays as the optimizer has it.

    Args:
        max_learning_rate: the highest rate.
        total_steps: updates of the whole run; afterwards the last rate holds.
        pct_start: the fraction of them that the climb takes.
        div_factor: how many times lower the first rate is than the highest.
        final_div_factor: how many times lower the last rate is than the first.
        anneal_strategy: ``"cos"`` for half cosines, ``"linear"`` for straight lines.
        name: for configs.

    Raises:
        ValueError: for less than two steps, a fraction outside of 0 to 1, factors that are not
            positive, and other strategies.

    Example:
        >>> schedule = OneCycle(1.0, 11, pct_start=0.3, div_factor=10, anneal_strategy="linear")
        >>> [round(float(schedule(step)), 3) for step in (0, 1, 2.3, 10)]
        [0.1, 0.491, 1.0, 0.0]
    """

    def __init__(
        self,
        max_learning_rate: float,
        total_steps: int,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        anneal_strategy: str = "cos",
        name: str = "OneCycle",
    ) -> None:
        max_learning_rate = finite_number("OneCycle: `max_learning_rate`", max_learning_rate)
        total_steps = whole_number("OneCycle: `total_steps`", total_steps, 2)
        pct_start = finite_number("OneCycle: `pct_start`", pct_start)
        div_factor = finite_number("OneCycle: `div_factor`", div_factor)
        final_div_factor = finite_number("OneCycle: `final_div_factor`", final_div_factor)
        if not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycle: pct_start must be from 0 to 1. Received: {pct_start}")
        if div_factor <= 0 or final_div_factor <= 0:
            raise ValueError(
                "OneCycle: factors must be positive. Received: "
                f"div_factor={div_factor}, final_div_factor={final_div_factor}"
            )
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(
                "OneCycle: anneal_strategy must be 'cos' or 'linear'. Received: "
                f"anneal_strategy={anneal_strategy!r}"
            )
        self.max_learning_rate = max_learning_rate
        self.total_steps = total_steps
        self.pct_start = pct_start
        self.div_factor = div_factor
        self.final_div_factor = final_div_factor
        self.anneal_strategy = anneal_strategy
        self.name = name

    def __call__(self, step: Any) -> Any:
        step = _float(step)
        top = float(self.max_learning_rate)
        first = top / self.div_factor
        last = first / self.final_div_factor
        end = float(self.total_steps) - 1.0
        turn = self.pct_start * self.total_steps - 1.0  # where torch has its highest rate
        climbing = self._between(first, top, ops.divide(step, turn)) if turn > 0 else None
        if turn >= end:  # all steps climb; a fall without steps would divide by 0
            return climbing
        falling = self._between(top, last, ops.divide(ops.subtract(step, turn), end - turn))
        if climbing is None:
            return falling
        return ops.where(ops.less(step, turn), climbing, falling)

    def _between(self, start: float, end: float, share: Any) -> Any:
        share = ops.clip(share, 0.0, 1.0)
        if self.anneal_strategy == "cos":
            share = ops.multiply(ops.subtract(1.0, ops.cos(ops.multiply(share, math.pi))), 0.5)
        return ops.add(ops.multiply(share, end - start), start)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            "max_learning_rate": self.max_learning_rate,
            "total_steps": self.total_steps,
            "pct_start": self.pct_start,
            "div_factor": self.div_factor,
            "final_div_factor": self.final_div_factor,
            "anneal_strategy": self.anneal_strategy,
            "name": self.name,
        }


_TABLE: dict[str, Any] = {
    cls.__name__: cls
    for cls in (
        ExponentialDecay, InverseTimeDecay, PiecewiseConstantDecay, PolynomialDecay, CosineDecay,
        CosineDecayRestarts, PiecewiseLinear, OneCycle,
    )
}  # fmt: skip


def serialize(learning_rate_schedule: LearningRateSchedule) -> Any:
    """Returns a schedule as a config dictionary."""
    return serialize_keras_object(learning_rate_schedule)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Makes a schedule from its config dictionary."""
    return deserialize_keras_object(
        config, custom_objects, module_objects=_TABLE, kind="learning rate schedule"
    )


if not TYPE_CHECKING:  # a __getattr__ would hide typing errors from mypy
    __getattr__ = plain_module(__name__)
