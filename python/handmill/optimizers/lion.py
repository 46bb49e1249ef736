"""Lion: the formulas of Keras 3."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.optimizers.base import Optimizer
from handmill.runtime.variable import Variable


class Lion(Optimizer):
    """Steps of one size in the direction of a mean's sign (Chen et al., 2023).

    ``p -= lr * sign(beta_1 * m + (1 - beta_1) * g)``, ``m = beta_2 * m + (1 - beta_2) * g``

    Args:
        learning_rate: a number or a schedule.
        beta_1: weight of the mean where the sign is taken, above 0 and up to 1.
        beta_2: weight of the old mean.
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

    Raises:
        ValueError: if ``beta_1`` is not in this range.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
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
        if beta_1 <= 0 or beta_1 > 1:
            raise ValueError(
                "Argument `beta_1` must be in the [0, 1] range. Otherwise, the optimizer "
                f"degenerates to SignSGD. Received: beta_1={beta_1}."
            )
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self._momentums: list[Any] = []

    def build_slots(self, variables: list[Variable]) -> None:
        """Makes the mean for each variable."""
        self._momentums = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        """Updates one variable."""
        slot = self.slot(self._momentums, variable)
        direction = ops.sign(self._mixed(slot.value, gradient, self.beta_1))
        self.assign_sub(variable, ops.multiply(direction, learning_rate))
        self.assign(slot, self._mixed(slot.value, gradient, self.beta_2))

    @staticmethod
    def _mixed(mean: Any, gradient: Any, weight: float) -> Any:
        return ops.add(ops.multiply(mean, float(weight)), ops.multiply(gradient, 1.0 - weight))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
        }
