"""Normalization of each sample by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handmill import ops
from handmill.errors import warn_caller
from handmill.layers.normalization.affine import AffineLayer
from handmill.layers.normalization.axes import axis_argument, sizes_along
from handmill.primitives.operands import common_dtype


class LayerNormalization(AffineLayer):
    """Gives the elements along axes mean 0 and variance 1, then scales and shifts them.

    Training and inference do the same.

    Args:
        axis: the axis or axes, usually the features.
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
        TypeError: if ``axis`` is neither an integer nor a list of them.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import LayerNormalization
        >>> LayerNormalization(epsilon=0.0)(np.array([[1.0, 3.0]], "float32"))
        array([[-1.,  1.]], dtype=float32)
    """

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
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
        rms_scaling = kwargs.pop("rms_scaling", False)
        if rms_scaling:
            warn_caller(
                "`rms_scaling=True` is deprecated: it divides by the standard deviation, not by "
                "the root mean square. Use RMSNormalization instead.",
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
        self.axis: Any = axis_argument(axis)
        self.epsilon = epsilon
        self.rms_scaling = rms_scaling
        self.supports_masking = True
        self.autocast = False

    def build(self, input_shape: Any) -> None:
        """Makes gamma and beta."""
        axes = sorted(self.axis) if isinstance(self.axis, list) else [self.axis]
        shape = sizes_along(self, axes, input_shape)
        self.axis = axes
        self.add_affine_weights(
            shape, self.scale or self.rms_scaling, self.center and not self.rms_scaling
        )

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        if self.rms_scaling:
            outputs = self._divided(inputs)
        else:
            outputs = ops.layer_normalization(
                inputs, self.gamma, self.beta, self.axis, self.epsilon
            )
        return ops.cast(outputs, self.compute_dtype)

    def _divided(self, inputs: Any) -> Any:
        """What ``rms_scaling`` means: division by the standard deviation alone."""
        x = ops.cast(inputs, common_dtype((inputs.dtype, "float32")))
        rank, axes = len(x.shape), tuple(self.axis)
        sizes = [x.shape[i] if {i, i - rank} & set(axes) else 1 for i in range(rank)]
        inverse = ops.rsqrt(ops.add(ops.var(x, axes, keepdims=True), self.epsilon))
        return ops.multiply(ops.multiply(x, inverse), ops.reshape(self.gamma, tuple(sizes)))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "axis": self.axis,
            "epsilon": self.epsilon,
            "rms_scaling": self.rms_scaling,
        }
