"""Learning rates that depend on the number of updates; part of the training step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from handmill import ops
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


_TABLE: dict[str, Any] = {
    cls.__name__: cls
    for cls in (
        ExponentialDecay, InverseTimeDecay, PiecewiseConstantDecay, PolynomialDecay, CosineDecay,
        CosineDecayRestarts,
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
