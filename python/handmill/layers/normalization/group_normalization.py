"""Normalization of groups of channels."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.errors import ShapeError
from handmill.layers.input_spec import InputSpec
from handmill.layers.normalization.affine import AffineLayer
from handmill.layers.normalization.axes import sizes_along
from handmill.primitives.operands import common_dtype


class GroupNormalization(AffineLayer):
    """Gives each group of channels of each sample mean 0 and variance 1, then scales and shifts.

    Args:
        groups: the number of groups, a divisor of the number of channels; -1 for one group a
            channel, which is instance normalization. With 1 it is a layer normalization.
        axis: the channels.
        epsilon: added to the variance.
        center: whether there is an offset ``beta``.
        scale: whether there is a factor ``gamma``.
        beta_initializer: initial values of ``beta``.
        gamma_initializer: initial values of ``gamma``.
        beta_regularizer: penalty on ``beta``.
        gamma_regularizer: penalty on ``gamma``.
        beta_constraint: condition on ``beta``.
        gamma_constraint: condition on ``gamma``.
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if ``groups`` is neither a positive integer nor -1.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import GroupNormalization
        >>> GroupNormalization(2, epsilon=0.0)(np.array([[1.0, 3.0, 5.0, 9.0]], "float32"))
        array([[-1.,  1., -1.,  1.]], dtype=float32)
    """

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        whole = isinstance(groups, int) and not isinstance(groups, bool)
        if not whole or (groups <= 0 and groups != -1):
            raise ValueError(
                "Received an invalid value for argument `groups`, expected a positive integer (or "
                f"`-1` for instance normalization). Received: groups={groups}"
            )
        super().__init__(
            center=center,
            scale=scale,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
            **kwargs,
        )
        self.groups = groups
        self.axis = axis
        self.epsilon = epsilon
        self.supports_masking = True
        self.autocast = False

    def build(self, input_shape: Any) -> None:
        """Makes gamma and beta."""
        (channels,) = sizes_along(self, (self.axis,), input_shape)
        if self.axis % len(input_shape) == 0:
            raise ShapeError(f"{self.describe()}: axis {self.axis} is the batch, not channels")
        groups = channels if self.groups == -1 else self.groups
        if groups > channels:
            raise ShapeError(
                f"{self.describe()}: the number of groups ({groups}) cannot be more than the "
                f"number of channels ({channels})"
            )
        if channels % groups:
            raise ShapeError(
                f"{self.describe()}: {channels} channels cannot be divided into {groups} groups of "
                f"equal size. Received: groups={self.groups}, input_shape={tuple(input_shape)}"
            )
        self.groups = groups
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: channels})
        self.add_affine_weights((channels,), self.scale, self.center)

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        shape = tuple(inputs.shape)
        axis = self.axis % len(shape)
        split = (self.groups, shape[axis] // self.groups)
        x = ops.cast(inputs, common_dtype((inputs.dtype, "float32")))
        x = ops.reshape(x, (*shape[:axis], *split, *shape[axis + 1 :]))
        axes = tuple(i for i in range(1, len(shape) + 1) if i != axis)
        x = ops.subtract(x, ops.mean(x, axes, keepdims=True))
        variance = ops.mean(ops.square(x), axes, keepdims=True)
        factor = ops.rsqrt(ops.add(variance, self.epsilon))
        wide = (1,) * axis + split + (1,) * (len(shape) - axis - 1)
        if self.gamma is not None:
            factor = ops.multiply(factor, ops.reshape(ops.cast(self.gamma, x.dtype), wide))
        x = ops.multiply(x, factor)
        if self.beta is not None:
            x = ops.add(x, ops.reshape(ops.cast(self.beta, x.dtype), wide))
        return ops.cast(ops.reshape(x, shape), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "groups": self.groups,
            "axis": self.axis,
            "epsilon": self.epsilon,
        }
