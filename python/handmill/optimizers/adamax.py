"""Adamax: the formulas of Keras 3."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.optimizers.base import Optimizer
from handmill.runtime.variable import Variable


class Adamax(Optimizer):
    """Adam with the largest gradient in the place of the root of squares (Kingma and Ba, 2014).

    ``m += (g - m) * (1 - beta_1)``, ``u = max(beta_2 * u, |g|)``,
    ``p -= lr * m / ((1 - beta_1 ** t) * (u + epsilon))``

    Args:
        learning_rate: a number or a schedule.
        beta_1: weight of the old mean of gradients.
        beta_2: how much of the largest gradient is kept.
        epsilon: added to ``u``.
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
        self._m: list[Any] = []
        self._u: list[Any] = []

    def build_slots(self, variables: list[Variable]) -> None:
        """Makes the mean and the largest gradient for each variable."""
        self._m, self._u = self.add_optimizer_variables(variables, ["momentum", "norm"])

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        """Updates one variable."""
        m, u = self.slot(self._m, variable), self.slot(self._u, variable)
        self.assign_add(m, ops.multiply(ops.subtract(gradient, m.value), 1.0 - self.beta_1))
        largest = ops.maximum(ops.multiply(u.value, float(self.beta_2)), ops.absolute(gradient))
        self.assign(u, largest)
        missing = ops.subtract(1.0, ops.power(float(self.beta_1), self.step_number()))
        divisor = ops.multiply(ops.add(largest, float(self.epsilon)), missing)
        self.assign_sub(variable, ops.divide(ops.multiply(m.value, learning_rate), divisor))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }
