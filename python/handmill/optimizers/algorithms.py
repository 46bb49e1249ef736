"""SGD, Adam, AdamW, RMSprop, Adagrad: the formulas of Keras 3."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.optimizers.base import Optimizer
from handmill.primitives.optimizer import (
    ADAGRAD_UPDATE,
    ADAM_UPDATE,
    MOMENTUM_UPDATE,
    RMSPROP_UPDATE,
    SGD_UPDATE,
)
from handmill.runtime.variable import Variable


class SGD(Optimizer):
    """Gradient descent: ``p -= lr * g``, with momentum ``m = momentum * m - lr * g; p += m``.

    Args:
        learning_rate: a number or a schedule.
        momentum: how much of the last step is kept, from 0 to 1.
        nesterov: whether the gradient is taken ahead, ``p += momentum * m - lr * g``.
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

    Example:
        >>> from handmill.optimizers import SGD
        >>> SGD(0.1, momentum=0.9).get_config()["momentum"]
        0.9
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
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
        if isinstance(momentum, bool) or not isinstance(momentum, int | float):
            raise ValueError("`momentum` must be a float between [0, 1].")
        if momentum < 0 or momentum > 1:
            raise ValueError("`momentum` must be a float between [0, 1].")
        self.momentum = momentum
        self.nesterov = nesterov
        self.momentums: list[Variable] = []

    def build_slots(self, variables: list[Variable]) -> None:
        """Makes a momentum for each variable, if there is momentum."""
        if self.momentum != 0:
            self.momentums = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        """Updates one variable."""
        if self.momentum == 0:
            self.run_update(SGD_UPDATE, [variable], gradient, learning_rate)
            return
        self.run_update(
            MOMENTUM_UPDATE,
            [variable, self.slot(self.momentums, variable)],
            gradient,
            learning_rate,
            momentum=float(self.momentum),
            nesterov=bool(self.nesterov),
        )

    def updates_rows(self) -> bool:
        """Always."""
        return True

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "momentum": self.momentum, "nesterov": self.nesterov}


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2014), as Keras writes it.

    ``m += (g - m) * (1 - beta_1)``, ``v += (g * g - v) * (1 - beta_2)``,
    ``p -= lr * sqrt(1 - beta_2 ** t) / (1 - beta_1 ** t) * m / (sqrt(v) + epsilon)``

    Args:
        learning_rate: a number or a schedule.
        beta_1: weight of the old mean of gradients.
        beta_2: weight of the old mean of squared gradients.
        epsilon: added to the square root of ``v`` (not bias-corrected: the "epsilon hat" of the
            paper).
        amsgrad: whether the largest ``v`` so far is used.
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
        amsgrad: bool = False,
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
        self.amsgrad = amsgrad
        self._momentums: list[Variable] = []
        self._velocities: list[Variable] = []
        self._velocity_hats: list[Variable] = []
        self._alpha: Any = None
        self._decay: Any = None

    decays_itself = True

    def build_slots(self, variables: list[Variable]) -> None:
        """Makes the two means for each variable."""
        self._momentums, self._velocities = self.add_optimizer_variables(
            variables, ["momentum", "velocity"]
        )
        if self.amsgrad:
            self._velocity_hats = self.add_optimizer_variables(variables, "velocity_hat")

    def begin_step(self, learning_rate: Any) -> None:
        """Computes the bias-corrected rate."""
        number = self.step_number()
        first = ops.subtract(1.0, ops.power(float(self.beta_1), number))
        second = ops.subtract(1.0, ops.power(float(self.beta_2), number))
        self._alpha = ops.divide(ops.multiply(learning_rate, ops.sqrt(second)), first)
        self._decay = None
        if self.weight_decay is not None:
            self._decay = ops.multiply(learning_rate, float(self.weight_decay))

    def end_step(self) -> None:
        """Lets go of the values of the program."""
        self._alpha = self._decay = None

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        """Updates one variable."""
        decay = None if self.decay_of(variable) is None else self._decay
        m, v = self.slot(self._momentums, variable), self.slot(self._velocities, variable)
        if self.amsgrad:
            self._update_amsgrad(gradient, variable, m, v, decay)
            return
        self.run_update(
            ADAM_UPDATE,
            [variable, m, v],
            gradient,
            self._alpha,
            *(() if decay is None else (decay,)),
            beta_1=float(self.beta_1),
            beta_2=float(self.beta_2),
            epsilon=float(self.epsilon),
        )

    def updates_rows(self) -> bool:
        """Unless it keeps the largest ``v``."""
        return not self.amsgrad

    def _update_amsgrad(
        self, gradient: Any, variable: Variable, m: Variable, v: Variable, decay: Any
    ) -> None:
        value = variable.value
        if decay is not None:
            value = ops.subtract(value, ops.multiply(value, decay))
        first = ops.add(m.value, ops.multiply(ops.subtract(gradient, m.value), 1.0 - self.beta_1))
        second = ops.add(
            v.value, ops.multiply(ops.subtract(ops.square(gradient), v.value), 1.0 - self.beta_2)
        )
        hat = self.slot(self._velocity_hats, variable)
        largest = ops.maximum(hat.value, second)
        step = ops.divide(
            ops.multiply(first, self._alpha), ops.add(ops.sqrt(largest), float(self.epsilon))
        )
        self.assign(variable, ops.subtract(value, step))
        self.assign(m, first)
        self.assign(v, second)
        self.assign(hat, largest)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "amsgrad": self.amsgrad,
        }


class AdamW(Adam):
    """Adam with weight decay apart from the gradient (Loshchilov and Hutter, 2017).

    Each update first shrinks variables by ``weight_decay * lr``.

    Args:
        learning_rate: a number or a schedule.
        weight_decay: how strongly variables shrink.
        beta_1: weight of the old mean of gradients.
        beta_2: weight of the old mean of squared gradients.
        epsilon: added to the square root of ``v``.
        amsgrad: whether the largest ``v`` so far is used.
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
        ValueError: if ``weight_decay`` is None.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
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
        if weight_decay is None:
            raise ValueError("Argument `weight_decay` must be a float. Received: weight_decay=None")
        super().__init__(
            learning_rate,
            beta_1,
            beta_2,
            epsilon,
            amsgrad,
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


class RMSprop(Optimizer):
    """``v = rho * v + (1 - rho) * g * g``, ``p -= lr * g / sqrt(v + epsilon)`` (Hinton, 2012).

    Args:
        learning_rate: a number or a schedule.
        rho: weight of the old mean of squared gradients.
        momentum: how much of the last step is kept.
        epsilon: added to ``v`` under the square root.
        centered: whether the squared mean of gradients is subtracted from ``v``.
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
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
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
        self.momentum = momentum
        self.epsilon = epsilon
        self.centered = centered
        self._velocities: list[Variable] = []
        self._momentums: list[Variable] = []
        self._average_gradients: list[Variable] = []

    def build_slots(self, variables: list[Variable]) -> None:
        """Makes the means for each variable."""
        self._velocities = self.add_optimizer_variables(variables, "velocity")
        if self.momentum > 0:
            self._momentums = self.add_optimizer_variables(variables, "momentum")
        if self.centered:
            self._average_gradients = self.add_optimizer_variables(variables, "average_gradient")

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        """Updates one variable."""
        velocity = self.slot(self._velocities, variable)
        if not self.centered and self.momentum <= 0:
            self.run_update(
                RMSPROP_UPDATE,
                [variable, velocity],
                gradient,
                learning_rate,
                rho=float(self.rho),
                epsilon=float(self.epsilon),
            )
            return
        rho = float(self.rho)
        mean = ops.add(
            ops.multiply(velocity.value, rho), ops.multiply(ops.square(gradient), 1.0 - rho)
        )
        self.assign(velocity, mean)
        spread = mean
        if self.centered:
            average = self.slot(self._average_gradients, variable)
            drift = ops.add(ops.multiply(average.value, rho), ops.multiply(gradient, 1.0 - rho))
            self.assign(average, drift)
            spread = ops.subtract(mean, ops.square(drift))
        step = ops.divide(
            ops.multiply(gradient, learning_rate), ops.sqrt(ops.add(spread, float(self.epsilon)))
        )
        if self.momentum > 0:
            slot = self.slot(self._momentums, variable)
            step = ops.add(ops.multiply(slot.value, float(self.momentum)), step)
            self.assign(slot, step)
        self.assign_sub(variable, step)

    def updates_rows(self) -> bool:
        """Unless it is centered or has momentum."""
        return not self.centered and self.momentum <= 0

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "rho": self.rho,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "centered": self.centered,
        }


class Adagrad(Optimizer):
    """``acc += g * g``, ``p -= lr * g / sqrt(acc + epsilon)`` (Duchi et al., 2011).

    Args:
        learning_rate: a number or a schedule.
        initial_accumulator_value: where ``acc`` starts.
        epsilon: added to ``acc`` under the square root.
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
        initial_accumulator_value: float = 0.1,
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
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = epsilon
        self._accumulators: list[Variable] = []

    def build_slots(self, variables: list[Variable]) -> None:
        """Makes the sum of squares for each variable."""
        from handmill.initializers import Constant

        self._accumulators = self.add_optimizer_variables(
            variables, "accumulator", Constant(self.initial_accumulator_value)
        )

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        """Updates one variable."""
        self.run_update(
            ADAGRAD_UPDATE,
            [variable, self.slot(self._accumulators, variable)],
            gradient,
            learning_rate,
            epsilon=float(self.epsilon),
        )

    def updates_rows(self) -> bool:
        """Always."""
        return True

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "initial_accumulator_value": self.initial_accumulator_value,
            "epsilon": self.epsilon,
        }
