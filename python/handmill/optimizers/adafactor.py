"""Adafactor: the formulas of Keras 3."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.optimizers.base import Optimizer
from handmill.runtime.variable import Variable


class Adafactor(Optimizer):
    """Adam's squares kept as a row and a column (Shazeer and Stern, 2018): little memory.

    With ``b = 1 - t ** beta_2_decay``, of ``s = g * g + epsilon_1`` the means over the last axis,
    ``r = b * r + (1 - b) * mean(s, -1)``, and over the one before it, ``c``;
    ``v = r / mean(r) * c``, or a mean of ``s`` itself for vectors; ``u = g / sqrt(v)``,
    ``p -= max(epsilon_2, rms(p)) * min(lr, 1 / sqrt(t)) * u / max(1, rms(u) / clip_threshold)``

    Args:
        learning_rate: a number or a schedule.
        beta_2_decay: the power of ``t`` in ``b``.
        epsilon_1: added to squares.
        epsilon_2: the smallest size of a variable that counts.
        clip_threshold: the largest ``rms(u)``.
        relative_step: as in Keras: asks for ``min(lr, 1 / sqrt(t))``, which the formula
            takes in any case.
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
        beta_2_decay: float = -0.8,
        epsilon_1: float = 1e-30,
        epsilon_2: float = 1e-3,
        clip_threshold: float = 1.0,
        relative_step: bool = True,
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
        self.beta_2_decay = beta_2_decay
        self.epsilon_1 = epsilon_1
        self.epsilon_2 = epsilon_2
        self.clip_threshold = clip_threshold
        self.relative_step = relative_step
        self._r: list[Any] = []
        self._c: list[Any] = []
        self._v: list[Any] = []

    def build_slots(self, variables: list[Variable]) -> None:
        """Makes row, column and squares for each variable.

        Vectors and numbers have no row and column: a number that is never read stands for each, as
        in Keras's files.
        """
        self._r, self._c, self._v = [], [], []
        for variable in variables:
            shape, dtype = variable.shape, variable.dtype
            row, column = shape[:-1], (*shape[:-2], *shape[-1:])
            if len(shape) < 2:
                row, column, dtype = (), (), "int32"
            self._r.append(self.add_variable(row, dtype=dtype, name=variable.name))
            self._c.append(self.add_variable(column, dtype=dtype, name=variable.name))
            self._v.append(self.add_variable_from_reference(variable, "velocity"))

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        """Updates one variable."""
        number = self.step_number()
        rate = ops.minimum(learning_rate, ops.divide(1.0, ops.sqrt(number)))
        size = ops.maximum(_rms(variable.value), float(self.epsilon_2))
        new = ops.power(number, float(self.beta_2_decay))  # 1 - b
        squares = ops.add(ops.square(gradient), float(self.epsilon_1))
        v = self.slot(self._v, variable)
        if variable.ndim < 2:
            self.assign(v, _moved(v.value, squares, new))
        else:
            r, c = self.slot(self._r, variable), self.slot(self._c, variable)
            row = _moved(r.value, ops.mean(squares, axis=-1), new)
            column = _moved(c.value, ops.mean(squares, axis=-2), new)
            self.assign(r, row)
            self.assign(c, column)
            share = ops.divide(row, ops.mean(row, axis=-1, keepdims=True))
            self.assign(v, ops.multiply(ops.expand_dims(share, -1), ops.expand_dims(column, -2)))
        step = ops.divide(gradient, ops.sqrt(v.value))
        excess = ops.maximum(ops.divide(_rms(step), float(self.clip_threshold)), 1.0)
        self.assign_sub(variable, ops.multiply(step, ops.divide(ops.multiply(size, rate), excess)))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "beta_2_decay": self.beta_2_decay,
            "epsilon_1": self.epsilon_1,
            "epsilon_2": self.epsilon_2,
            "clip_threshold": self.clip_threshold,
            "relative_step": self.relative_step,
        }


def _rms(x: Any) -> Any:
    return ops.sqrt(ops.mean(ops.square(x)))


def _moved(mean: Any, x: Any, new: Any) -> Any:
    return ops.add(ops.multiply(mean, ops.subtract(1.0, new)), ops.multiply(x, new))
