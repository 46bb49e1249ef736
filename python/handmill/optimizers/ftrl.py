"""Ftrl: the formulas of Keras 3."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.optimizers.base import Optimizer
from handmill.runtime.variable import Variable


class Ftrl(Optimizer):
    """Follow the regularized leader (McMahan et al., 2013); for wide, sparse linear models.

    ``n' = n + g * g``, ``z += g + 2 * shrinkage * p - (n' ** -power - n ** -power) / lr * p``,
    ``p = (clip(z, -l1, l1) - z) / (n' ** -power / lr + 2 * l2 + beta / lr)``, ``n = n'``

    Args:
        learning_rate: a number or a schedule.
        learning_rate_power: the power of ``n``, at most 0; 0 for a rate that does not fall.
        initial_accumulator_value: where ``n`` starts, at least 0.
        l1_regularization_strength: ``l1``, at least 0: what sets small weights to 0.
        l2_regularization_strength: ``l2``, at least 0.
        l2_shrinkage_regularization_strength: ``shrinkage``, at least 0: a penalty on the
            size of weights.
        beta: the beta of the paper.
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
        ValueError: for arguments of the wrong sign.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
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
        self.learning_rate_power = learning_rate_power
        if learning_rate_power > 0.0:
            raise ValueError(
                "`learning_rate_power` needs to be negative or zero. Received: "
                f"learning_rate_power={learning_rate_power}."
            )
        for argument, value in (
            ("initial_accumulator_value", initial_accumulator_value),
            ("l1_regularization_strength", l1_regularization_strength),
            ("l2_regularization_strength", l2_regularization_strength),
            ("l2_shrinkage_regularization_strength", l2_shrinkage_regularization_strength),
        ):
            if value < 0.0:
                raise ValueError(
                    f"`{argument}` needs to be positive or zero. Received: {argument}={value}."
                )
        self.initial_accumulator_value = initial_accumulator_value
        self.l1_regularization_strength = l1_regularization_strength
        self.l2_regularization_strength = l2_regularization_strength
        self.l2_shrinkage_regularization_strength = l2_shrinkage_regularization_strength
        self.beta = beta
        self._accumulators: list[Any] = []
        self._linears: list[Any] = []

    def build_slots(self, variables: list[Variable]) -> None:
        """Makes ``n`` and ``z`` for each variable."""
        from handmill.initializers import Constant

        self._accumulators, self._linears = self.add_optimizer_variables(
            variables,
            ["accumulator", "linear"],
            [Constant(self.initial_accumulator_value), "zeros"],
        )

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        """Updates one variable."""
        n, z = self.slot(self._accumulators, variable), self.slot(self._linears, variable)
        shrinkage = 2.0 * self.l2_shrinkage_regularization_strength
        pull = gradient
        if shrinkage:
            pull = ops.add(gradient, ops.multiply(variable.value, shrinkage))
        total = ops.add(n.value, ops.square(gradient))
        power = self._power(total)
        growth = ops.divide(ops.subtract(power, self._power(n.value)), learning_rate)
        self.assign_add(z, ops.subtract(pull, ops.multiply(growth, variable.value)))
        limit = float(self.l1_regularization_strength)
        clipped = ops.clip(z.value, -limit, limit)
        added: Any = 2.0 * self.l2_regularization_strength
        if self.beta:
            added = ops.add(ops.divide(float(self.beta), learning_rate), added)
        divisor = ops.add(ops.divide(power, learning_rate), added)
        self.assign(variable, ops.divide(ops.subtract(clipped, z.value), divisor))
        self.assign(n, total)

    def _power(self, total: Any) -> Any:
        if self.learning_rate_power == -0.5:
            return ops.sqrt(total)
        return ops.power(total, float(-self.learning_rate_power))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "learning_rate_power": self.learning_rate_power,
            "initial_accumulator_value": self.initial_accumulator_value,
            "l1_regularization_strength": self.l1_regularization_strength,
            "l2_regularization_strength": self.l2_regularization_strength,
            "l2_shrinkage_regularization_strength": self.l2_shrinkage_regularization_strength,
            "beta": self.beta,
        }
