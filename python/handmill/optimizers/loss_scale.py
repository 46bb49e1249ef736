"""LossScaleOptimizer: finds the factor of the loss itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from handmill import ops
from handmill.optimizers.base import Optimizer
from handmill.optimizers.sparse_rows import refuse as refuse_table
from handmill.runtime.variable import Variable
from handmill.saving.objects import serialize_keras_object

_BELONG_INSIDE = {
    "weight_decay": None,
    "clipnorm": None,
    "global_clipnorm": None,
    "clipvalue": None,
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
}
"""Arguments of the inner optimizer; older configs hold them, with these values, here too."""


class LossScaleOptimizer(Optimizer):
    """Multiplies the loss by a factor, so that small gradients do not underflow.

    The gradients are divided by it again. A step in which one of them is not finite changes no
    variable and halves the factor; after ``dynamic_growth_steps`` good steps it is doubled.

    Args:
        inner_optimizer: makes the updates. Its own ``loss_scale_factor`` is set to None.
        initial_scale: the first factor.
        dynamic_growth_steps: good steps after which it is doubled.
        name: default: the class name in snake case.
        **kwargs: nothing else; arguments such as ``clipnorm`` belong to the inner optimizer.

    Raises:
        ValueError: for other arguments.
        TypeError: if ``inner_optimizer`` is no optimizer.

    Example:
        >>> from handmill import optimizers
        >>> optimizer = optimizers.LossScaleOptimizer(optimizers.SGD(0.1), initial_scale=8.0)
        >>> float(optimizer.scale_loss(0.5))
        4.0
    """

    def __init__(
        self,
        inner_optimizer: Any,
        initial_scale: float = 2.0**15,
        dynamic_growth_steps: int = 2000,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        if not kwargs.pop("dynamic", True):
            raise ValueError(
                "LossScaleOptimizer does not support `dynamic=False`. Instead, set "
                "`loss_scale_factor` on the `inner_optimizer`."
            )
        for argument, default in _BELONG_INSIDE.items():
            if kwargs.pop(argument, default) != default:
                raise ValueError(
                    f"LossScaleOptimizer does not support `{argument}`. Set `{argument}` on the "
                    "`inner_optimizer` instead."
                )
        if kwargs:
            names = ", ".join(f"`{name}`" for name in kwargs)
            raise ValueError(f"LossScaleOptimizer does not support arguments: {names}.")
        if not isinstance(inner_optimizer, Optimizer):
            raise TypeError(
                f"`inner_optimizer` must be an optimizer. Received: {inner_optimizer!r} of type "
                f"{type(inner_optimizer).__name__}"
            )
        super().__init__(0.0, name=name)
        from handmill.initializers import Constant

        self.initial_scale = initial_scale
        self.dynamic_growth_steps = dynamic_growth_steps
        # Made here, not by build(): the loss is scaled before the first step builds the slots.
        self.step_counter = self.add_variable((), "zeros", "int64", name="step_counter")
        self.dynamic_scale = self.add_variable(
            (), Constant(float(initial_scale)), "float32", name="dynamic_scale"
        )
        inner_optimizer.loss_scale_factor = None
        self.inner_optimizer = inner_optimizer

    def build_slots(self, variables: list[Variable]) -> None:
        """Makes the slots of the inner optimizer."""
        if not self.inner_optimizer.built:
            self.inner_optimizer.build(variables)

    @property
    def variables(self) -> list[Variable]:
        """All state: its own, then that of the inner optimizer."""
        return [*self._variables, *self.inner_optimizer.variables]

    @property
    def iterations(self) -> Any:
        """The number of updates that the inner optimizer made."""
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the inner optimizer."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self.inner_optimizer.learning_rate = value

    def scale_loss(self, loss: Any) -> Any:
        """Returns the loss from which gradients are taken."""
        return ops.multiply(loss, self.dynamic_scale.value)

    def exclude_from_weight_decay(
        self, var_list: Sequence[Variable] | None = None, var_names: Sequence[str] | None = None
    ) -> None:
        """Exempts variables from the weight decay of the inner optimizer."""
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    @property
    def finalizes(self) -> bool:
        """Whether the inner optimizer has running means."""
        return self.inner_optimizer.finalizes

    def finalize_variable_values(self, var_list: Sequence[Variable]) -> None:
        """Sets variables to the running means of the inner optimizer, if there are any."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def _apply_to_values(self, grads: list[Any], variables: list[Variable]) -> None:
        for variable in variables:
            if variable.sparse_rows:
                refuse_table(variable, "LossScaleOptimizer looks at the gradient of all of it")
        finite: Any = True
        for gradient in grads:
            if gradient is not None:
                is_finite = ops.all(ops.isfinite(gradient))
                finite = is_finite if finite is True else ops.logical_and(finite, is_finite)

        def accept() -> None:
            scale = self.dynamic_scale.value
            true = [None if g is None else ops.divide(g, scale) for g in grads]
            self.inner_optimizer._apply_to_values(true, variables)
            good = ops.add(self.step_counter.value, 1)
            grows = ops.equal(good, int(self.dynamic_growth_steps))
            self.step_counter.assign(ops.where(grows, ops.zeros_like(good), good))
            self.dynamic_scale.assign(ops.where(grows, ops.multiply(scale, 2.0), scale))

        def refuse() -> None:
            self.step_counter.assign(ops.zeros_like(self.step_counter.value))
            self.dynamic_scale.assign(ops.multiply(self.dynamic_scale.value, 0.5))

        ops.cond(finite, accept, refuse)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            "name": self.name,
            "inner_optimizer": serialize_keras_object(self.inner_optimizer),
            "initial_scale": self.initial_scale,
            "dynamic_growth_steps": self.dynamic_growth_steps,
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> Any:
        """Makes an optimizer from its config."""
        from handmill.optimizers.registry import deserialize

        arguments = dict(config)
        inner = deserialize(arguments.pop("inner_optimizer"), custom_objects)
        return cls(inner, **arguments)
