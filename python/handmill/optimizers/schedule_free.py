"""ScheduleFreeAdamW: the formulas of Keras 3."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.optimizers.base import Optimizer
from handmill.runtime.variable import Variable


class ScheduleFreeAdamW(Optimizer):
    """Adam with an average of its steps in the place of a schedule (Defazio et al., 2024).

    ``v += (g * g - v) * (1 - beta_2)``, ``z -= lr * g / (sqrt(v / (1 - beta_2 ** t)) + epsilon)``;
    ``x`` is the mean of all ``z`` so far, and ``p = (1 - beta_1) * z + beta_1 * x``

    Args:
        learning_rate: a number or a schedule.
        beta_1: weight of the average, above 0.
        beta_2: weight of the old mean of squared gradients.
        epsilon: added to the square root.
        warmup_steps: updates in which the rate climbs to its full size.
        weight_decay: see :class:`Optimizer`, as all that follow.
        clipnorm: largest norm of the gradient of one variable.
        clipvalue: largest absolute value in a gradient.
        global_clipnorm: largest norm of all gradients together.
        use_ema: whether a running mean of the variables is kept.
        ema_momentum: weight of the old running mean.
        ema_overwrite_frequency: updates after which variables are set to it.
        loss_scale_factor: factor of the loss before gradients are taken.
        gradient_accumulation_steps: update once in so many steps.
        name: default: the class name in snake case.
        **kwargs: the older names ``lr`` and ``decay``.
    """

    def __init__(
        self,
        learning_rate: Any = 0.0025,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        warmup_steps: int = 0,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            learning_rate,
            weight_decay,
            clipnorm,
            clipvalue,
            global_clipnorm,
            use_ema,
            ema_momentum,
            ema_overwrite_frequency,
            loss_scale_factor,
            gradient_accumulation_steps,
            name,
            **kwargs,
        )
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.warmup_steps = warmup_steps
        self._momentums: list[Any] = []
        self._velocities: list[Any] = []

    def build_slots(self, variables: list[Variable]) -> None:
        """Makes ``z``, which starts where the variable is, and the mean of squares."""
        self._momentums, self._velocities = self.add_optimizer_variables(
            variables, ["momentum", "velocity"]
        )
        for slot, variable in zip(self._momentums, variables, strict=True):
            slot.state.write(variable.read())  # now, not as a part of the step that is traced

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        """Updates one variable."""
        number = self.step_number()
        rate = learning_rate
        if self.warmup_steps > 0:
            climbed = ops.minimum(ops.divide(number, float(self.warmup_steps)), 1.0)
            rate = ops.multiply(rate, climbed)
        z, v = self.slot(self._momentums, variable), self.slot(self._velocities, variable)
        before = z.value
        squares = ops.add(
            v.value, ops.multiply(ops.subtract(ops.square(gradient), v.value), 1.0 - self.beta_2)
        )
        missing = ops.subtract(1.0, ops.power(float(self.beta_2), number))
        root = ops.add(ops.sqrt(ops.divide(squares, missing)), float(self.epsilon))
        after = ops.subtract(before, ops.divide(ops.multiply(gradient, rate), root))
        beta, rest = float(self.beta_1), 1.0 - self.beta_1
        average = ops.divide(ops.subtract(variable.value, ops.multiply(before, rest)), beta)
        share = ops.divide(1.0, number)
        average = ops.add(
            ops.multiply(average, ops.subtract(1.0, share)), ops.multiply(after, share)
        )
        self.assign(variable, ops.add(ops.multiply(after, rest), ops.multiply(average, beta)))
        self.assign(z, after)
        self.assign(v, squares)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "warmup_steps": self.warmup_steps,
        }
