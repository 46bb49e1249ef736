"""Lamb: the formulas of Keras 3."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.ir.trace import apply
from handmill.optimizers.base import Optimizer
from handmill.primitives.reduce import SUM_OF_SQUARES
from handmill.runtime.variable import Variable


class Lamb(Optimizer):
    """Adam whose steps are as long, for each variable, as the variable itself (You et al., 2019).

    ``m += (g - m) * (1 - beta_1)``, ``v += (g * g - v) * (1 - beta_2)``,
    ``d = m / (1 - beta_1 ** t) / (sqrt(v / (1 - beta_2 ** t)) + epsilon)``,
    ``p -= lr * norm(p) / norm(d) * d``; without the norms where one of them is 0

    Args:
        learning_rate: a number or a schedule.
        beta_1: weight of the old mean of gradients.
        beta_2: weight of the old mean of squared gradients.
        epsilon: added to the square root.
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
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
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
        self._momentums: list[Any] = []
        self._velocities: list[Any] = []

    def build_slots(self, variables: list[Variable]) -> None:
        """Makes the two means for each variable."""
        self._momentums, self._velocities = self.add_optimizer_variables(
            variables, ["momentum", "velocity"]
        )

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        """Updates one variable."""
        number = self.step_number()
        m, v = self.slot(self._momentums, variable), self.slot(self._velocities, variable)
        self.assign_add(m, ops.multiply(ops.subtract(gradient, m.value), 1.0 - self.beta_1))
        self.assign_add(
            v, ops.multiply(ops.subtract(ops.square(gradient), v.value), 1.0 - self.beta_2)
        )
        first = ops.subtract(1.0, ops.power(float(self.beta_1), number))
        second = ops.subtract(1.0, ops.power(float(self.beta_2), number))
        root = ops.add(ops.sqrt(ops.divide(v.value, second)), float(self.epsilon))
        step = ops.divide(ops.divide(m.value, first), root)
        length, wanted = _norm(step), _norm(variable.value)
        has_both = ops.logical_and(ops.greater(wanted, 0.0), ops.greater(length, 0.0))
        ratio = ops.where(has_both, ops.divide(wanted, length), 1.0)
        self.assign_sub(variable, ops.multiply(step, ops.multiply(ratio, learning_rate)))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }


def _norm(x: Any) -> Any:
    return ops.sqrt(apply(SUM_OF_SQUARES, x))
