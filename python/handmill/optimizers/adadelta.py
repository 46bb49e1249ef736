"""Adadelta: the formulas of Keras 3."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.optimizers.base import Optimizer
from handmill.runtime.variable import Variable


class Adadelta(Optimizer):
    """Steps as large as the last steps were, for gradients as large as the last (Zeiler, 2012).

    ``a = rho * a + (1 - rho) * g * g``, ``d = sqrt(s + epsilon) / sqrt(a + epsilon) * g``,
    ``s = rho * s + (1 - rho) * d * d``, ``p -= lr * d``

    Args:
        learning_rate: a number or a schedule.
        rho: weight of the old means of squares.
        epsilon: added under the square roots.
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
        rho: float = 0.95,
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
        self.rho = rho
        self.epsilon = epsilon
        self._accumulated_grads: list[Any] = []
        self._accumulated_delta_vars: list[Any] = []

    def build_slots(self, variables: list[Variable]) -> None:
        """Makes the two means of squares for each variable."""
        self._accumulated_grads, self._accumulated_delta_vars = self.add_optimizer_variables(
            variables, ["accumulated_grad", "accumulated_delta_var"]
        )

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        """Updates one variable."""
        squares = self.slot(self._accumulated_grads, variable)
        steps = self.slot(self._accumulated_delta_vars, variable)
        mean = self._moved(squares.value, gradient)
        step = ops.divide(ops.multiply(self._root(steps.value), gradient), self._root(mean))
        self.assign(squares, mean)
        self.assign(steps, self._moved(steps.value, step))
        self.assign_sub(variable, ops.multiply(step, learning_rate))

    def _root(self, squares: Any) -> Any:
        return ops.sqrt(ops.add(squares, float(self.epsilon)))

    def _moved(self, mean: Any, x: Any) -> Any:
        return ops.add(
            ops.multiply(mean, float(self.rho)), ops.multiply(ops.square(x), 1.0 - self.rho)
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "rho": self.rho,
            "epsilon": self.epsilon,
        }
