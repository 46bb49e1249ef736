"""Kernels of spectral norm 1."""

from __future__ import annotations

from typing import Any

from handmill import initializers, ops
from handmill.errors import ShapeError
from handmill.ir.shapes import FLOATS
from handmill.ir.trace import autocast_scope
from handmill.layers.core.wrapper import Wrapper
from handmill.layers.input_spec import InputSpec
from handmill.layers.layer import Layer
from handmill.runtime.variable import Variable


class SpectralNormalization(Wrapper):
    """Divides the kernel of a layer by its largest singular value at each training step.

    The singular value is estimated by power iteration, from where the step before ended. The
    divided kernel takes the place of the kernel before the layer is called, and the optimizer moves
    it from there by the gradient at it. (Miyato et al., "Spectral normalization for generative
    adversarial networks", 2018.)

    Args:
        layer: a layer with a ``kernel``, or with ``embeddings``.
        power_iterations: how often the estimate is improved in a step.
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if ``power_iterations`` is not positive, or the layer has no kernel.
    """

    def __init__(self, layer: Layer, power_iterations: int = 1, **kwargs: Any) -> None:
        super().__init__(layer, **kwargs)
        if power_iterations <= 0:
            raise ValueError(
                "`power_iterations` should be greater than zero. Received: "
                f"power_iterations={power_iterations}"
            )
        self.power_iterations = power_iterations

    def build(self, input_shape: Any = None) -> None:
        """Builds the layer inside, and makes the vector that the iteration improves."""
        super().build(input_shape)
        self.input_spec = InputSpec(min_ndim=1, axes={-1: input_shape[-1]})
        self.kernel: Any = getattr(self.layer, "kernel", None)
        if self.kernel is None:
            self.kernel = getattr(self.layer, "embeddings", None)
        if self.kernel is None:
            raise ValueError(
                f"{self.describe()}: {type(self.layer).__name__} object has no attribute "
                "'kernel' nor 'embeddings', it has nothing to divide"
            )
        if not isinstance(self.kernel, Variable):
            raise ValueError(
                f"{self.describe()}: the kernel of {self.layer.describe()} is a sum, since LoRA is "
                "enabled there, and cannot be divided. Wrap a layer without LoRA."
            )
        if len(self.kernel.shape) < 2:
            raise ShapeError(
                f"{self.describe()}: a kernel of shape {self.kernel.shape} is no matrix, it has no "
                "spectral norm"
            )
        self.vector_u = self.add_weight(
            name="vector_u",
            shape=(1, self.kernel.shape[-1]),
            initializer=initializers.TruncatedNormal(stddev=0.02),
            dtype=self.kernel.dtype,
            trainable=False,
        )

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Computes the output."""
        if training:
            with autocast_scope(None):
                self._divide()
        outputs = self.layer(inputs)
        is_float = ops.dtype(inputs) in FLOATS
        return ops.cast(outputs, inputs.dtype) if is_float else outputs

    def _divide(self) -> None:
        kernel, u = self.kernel.value, self.vector_u.value
        weights = ops.stop_gradient(ops.reshape(kernel, (-1, self.kernel.shape[-1])))
        for _ in range(self.power_iterations):
            v = ops.normalize(ops.matmul(u, ops.transpose(weights)), axis=None)
            u = ops.normalize(ops.matmul(v, weights), axis=None)
        sigma = ops.matmul(ops.matmul(v, weights), ops.transpose(u))
        # A kernel of zeros stays as it is.
        is_zero = ops.all(ops.equal(kernel, 0.0))
        sigma = ops.where(is_zero, 1.0, ops.reshape(sigma, ()))
        self.vector_u.assign(ops.where(is_zero, self.vector_u.value, u))
        self.kernel.assign(_divided(kernel, sigma))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "power_iterations": self.power_iterations}


@ops.custom_gradient
def _divided(kernel: Any, sigma: Any) -> Any:
    """``kernel / sigma``, with the gradient of the quotient itself: that is what is trained."""
    return ops.divide(kernel, sigma), lambda dy: (dy, ops.zeros_like(sigma))
