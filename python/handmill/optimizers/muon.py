"""Muon: the formulas of Keras 3."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from handmill import ops
from handmill.ir.trace import apply
from handmill.optimizers.base import Optimizer
from handmill.optimizers.patterns import check_pattern
from handmill.primitives.optimizer import ADAM_UPDATE
from handmill.primitives.reduce import SUM_OF_SQUARES
from handmill.runtime.variable import Variable

_MOST_STEPS = 100


class Muon(Optimizer):
    """Momentum made orthogonal for matrices (Jordan et al., 2024), Adam for all else.

    ``m = momentum * m + g``; of ``g + momentum * m`` the nearest matrix with orthogonal rows or
    columns is approached by Newton and Schulz's iteration ``x = a * x + (b * A + c * A @ A) @ x``,
    ``A = x @ x.T``; it is the step, times ``lr * sqrt(max(shape)) * rms_rate``. Variables that are
    no matrices, embeddings, and those of ``exclude_layers`` are updated as by AdamW.

    Args:
        learning_rate: a number or a schedule.
        adam_beta_1: weight of Adam's old mean of gradients.
        adam_beta_2: weight of Adam's old mean of squared gradients.
        adam_weight_decay: weight decay of what Adam updates.
        epsilon: added to Adam's square root.
        weight_decay: see :class:`Optimizer`, as all that follow up to ``name``.
        clipnorm: largest norm of the gradient of one variable.
        clipvalue: largest absolute value in a gradient.
        global_clipnorm: largest norm of all gradients together.
        use_ema: whether a running mean of the variables is kept.
        ema_momentum: weight of the old running mean.
        ema_overwrite_frequency: updates after which variables are set to it.
        loss_scale_factor: factor of the loss before gradients are taken.
        gradient_accumulation_steps: update once in so many steps.
        name: default: the class name in snake case.
        exclude_layers: regular expressions; variables in whose path one is found are
            Adam's.
        exclude_embeddings: whether variables with ``embedding`` in their path are Adam's.
        muon_a: the coefficient ``a``.
        muon_b: the coefficient ``b``.
        muon_c: the coefficient ``c``.
        adam_lr_ratio: Adam's rate is ``lr`` times this.
        momentum: how much of the last step is kept.
        ns_steps: how often the iteration is repeated.
        nesterov: whether the gradient is taken ahead; otherwise ``m`` is the matrix.
        rms_rate: how large the step is beside Adam's; None for its own size (Liu et al.,
            2025).
        **kwargs: the older names ``lr`` and ``decay``.

    Raises:
        ValueError: if ``ns_steps`` is no integer from 0 to 100.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        adam_beta_1: float = 0.9,
        adam_beta_2: float = 0.999,
        adam_weight_decay: float | None = 0.004,
        epsilon: float = 1e-7,
        weight_decay: float | None = 0.004,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
        exclude_layers: Any = None,
        exclude_embeddings: bool = True,
        muon_a: float = 3.4445,
        muon_b: float = -4.7750,
        muon_c: float = 2.0315,
        adam_lr_ratio: float = 1,
        momentum: float = 0.95,
        ns_steps: int = 5,
        nesterov: bool = True,
        rms_rate: float | None = 0.2,
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
        is_count = isinstance(ns_steps, int) and not isinstance(ns_steps, bool)
        if not is_count or not 0 <= ns_steps <= _MOST_STEPS:
            raise ValueError(
                f"`ns_steps` must be an integer from 0 to {_MOST_STEPS}: each is a part of the "
                f"program. Received: ns_steps={ns_steps!r}"
            )
        self.exclude_layers = list(exclude_layers or [])
        self.adam_beta_1 = adam_beta_1
        self.adam_beta_2 = adam_beta_2
        self.adam_weight_decay = adam_weight_decay
        self.epsilon = epsilon
        self.exclude_embeddings = exclude_embeddings
        self.muon_a = muon_a
        self.muon_b = muon_b
        self.muon_c = muon_c
        self.adam_lr_ratio = adam_lr_ratio
        self.momentum = momentum
        self.ns_steps = ns_steps
        self.nesterov = nesterov
        self.rms_rate = rms_rate
        self.momentums: list[Any] = []
        self.adam_velocities: list[Any] = []

    def build_slots(self, variables: list[Variable]) -> None:
        """Makes a momentum for each variable, and a mean of squares where Adam updates it."""
        for variable in variables:
            self.momentums.append(self.add_variable_from_reference(variable, "momentum"))
            squares = None
            if self._should_use_adamw(variable):
                squares = self.add_variable_from_reference(variable, "velocity")
            self.adam_velocities.append(squares)

    def _should_use_adamw(self, variable: Variable) -> bool:
        if variable.ndim != 2:
            return True
        if self.exclude_embeddings and "embedding" in variable.path.lower():
            return True
        return any(re.search(pattern, variable.path) for pattern in self.exclude_layers)

    def decay_of(self, variable: Variable) -> float | None:
        """The weight decay of ``variable``: Adam's has a name of its own."""
        if self.adam_velocities[self._get_variable_index(variable)] is None:
            return super().decay_of(variable)
        return None if self._is_excluded(variable) else self.adam_weight_decay

    def update_step(self, gradient: Any, variable: Variable, learning_rate: Any) -> None:
        """Updates one variable."""
        place = self._get_variable_index(variable)
        m, v = self.momentums[place], self.adam_velocities[place]
        if v is not None:
            self._adam_step(gradient, variable, learning_rate, m, v)
            return
        self.assign(m, ops.add(ops.multiply(m.value, float(self.momentum)), gradient))
        direction = m.value
        if self.nesterov:
            direction = ops.add(gradient, ops.multiply(m.value, float(self.momentum)))
        step = self.zeropower_via_newtonschulz5(direction, self.ns_steps)
        self.assign_sub(variable, self.lr_adjust(ops.multiply(step, learning_rate)))

    def _adam_step(
        self, gradient: Any, variable: Variable, learning_rate: Any, m: Variable, v: Variable
    ) -> None:
        number = self.step_number()
        first = ops.subtract(1.0, ops.power(float(self.adam_beta_1), number))
        second = ops.subtract(1.0, ops.power(float(self.adam_beta_2), number))
        rate = ops.multiply(learning_rate, float(self.adam_lr_ratio))
        value, mean, squares = apply(
            ADAM_UPDATE,
            variable.value,
            m.value,
            v.value,
            gradient,
            ops.divide(ops.multiply(rate, ops.sqrt(second)), first),
            beta_1=float(self.adam_beta_1),
            beta_2=float(self.adam_beta_2),
            epsilon=float(self.epsilon),
        )
        self.assign(variable, value)
        self.assign(m, mean)
        self.assign(v, squares)

    def lr_adjust(self, x: Any) -> Any:
        """Scales the step of a matrix to the size of Adam's steps (Liu et al., 2025)."""
        if self.rms_rate is None:
            return x
        return ops.multiply(x, math.sqrt(max(x.shape)) * self.rms_rate)

    def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
        """Approaches the nearest matrix with orthogonal rows or columns.

        Args:
            x: a matrix.
            steps: how often the iteration is repeated.

        Raises:
            ValueError: if ``x`` is no matrix.
        """
        if len(x.shape) != 2:
            raise ValueError(
                f"Expected gradient or momentum to have 2 dimensions. Received: shape={x.shape}"
            )
        a, b, c = float(self.muon_a), float(self.muon_b), float(self.muon_c)
        is_tall = x.shape[0] > x.shape[1]
        if is_tall:
            x = ops.transpose(x)
        x = ops.divide(x, ops.add(ops.sqrt(apply(SUM_OF_SQUARES, x)), 1e-7))
        for _ in range(steps):
            products = ops.matmul(x, ops.transpose(x))
            squared = ops.matmul(ops.multiply(products, c), products)
            rows = ops.add(ops.multiply(products, b), squared)
            x = ops.add(ops.multiply(x, a), ops.matmul(rows, x))
        return ops.transpose(x) if is_tall else x

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data.

        Raises:
            ValueError: for patterns that no file can hold.
        """
        return {
            **super().get_config(),
            "adam_beta_1": self.adam_beta_1,
            "adam_beta_2": self.adam_beta_2,
            "adam_weight_decay": self.adam_weight_decay,
            "epsilon": self.epsilon,
            "exclude_layers": [check_pattern(pattern) for pattern in self.exclude_layers],
            "exclude_embeddings": self.exclude_embeddings,
            "muon_a": self.muon_a,
            "muon_b": self.muon_b,
            "muon_c": self.muon_c,
            "adam_lr_ratio": self.adam_lr_ratio,
            "momentum": self.momentum,
            "ns_steps": self.ns_steps,
            "nesterov": self.nesterov,
            "rms_rate": self.rms_rate,
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> Any:
        """Makes an optimizer from its config."""
        for pattern in config.get("exclude_layers") or ():
            check_pattern(pattern)
        return super().from_config(config, custom_objects)
