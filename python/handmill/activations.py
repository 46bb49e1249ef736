"""Activation functions, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from handmill import ops
from handmill.lazy import plain_module
from handmill.naming import known_names
from handmill.runtime.whole_calls import kept_whole
from handmill.saving.objects import (
    deserialize_keras_object,
    find_object,
    get_registered_name,
)


def linear(x: Any) -> Any:
    """Returns ``x`` as it is."""
    return x


@kept_whole
def relu(
    x: Any, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> Any:
    """Rectified linear unit: ``max(x, 0)`` with its defaults.

    Args:
        x: the input.
        negative_slope: the slope below the threshold.
        max_value: the largest value returned; None for no limit.
        threshold: values below it are damped or set to zero.
    """
    if negative_slope < 0:
        raise ValueError(f"`negative_slope` must be at least 0, got {negative_slope!r}")
    if threshold == 0.0:
        if max_value == 6 and negative_slope == 0.0:
            return ops.relu6(x)
        y = ops.leaky_relu(x, negative_slope) if negative_slope else ops.relu(x)
    else:
        above = ops.cast(ops.greater(x, threshold), "float32")
        y = ops.multiply(x, above)
        if negative_slope:
            below = ops.subtract(1.0, above)
            y = ops.add(
                y, ops.multiply(ops.multiply(ops.subtract(x, threshold), below), negative_slope)
            )
    return y if max_value is None else ops.minimum(y, float(max_value))


def leaky_relu(x: Any, negative_slope: float = 0.2) -> Any:
    """Leaky rectified linear unit: ``x`` above zero, ``negative_slope * x`` below."""
    return ops.leaky_relu(x, negative_slope)


def relu6(x: Any) -> Any:
    """Rectified linear unit cut off at 6."""
    return ops.relu6(x)


def sigmoid(x: Any) -> Any:
    """Logistic function ``1 / (1 + exp(-x))``."""
    return ops.sigmoid(x)


def tanh(x: Any) -> Any:
    """Hyperbolic tangent."""
    return ops.tanh(x)


def softmax(x: Any, axis: int = -1) -> Any:
    """Softmax: positive numbers that add up to 1 along ``axis``."""
    return ops.softmax(x, axis)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """Logarithm of the softmax along ``axis``."""
    return ops.log_softmax(x, axis)


def elu(x: Any, alpha: float = 1.0) -> Any:
    """Exponential linear unit: ``x`` above zero, ``alpha * (exp(x) - 1)`` below."""
    return ops.elu(x, alpha)


def selu(x: Any) -> Any:
    """Scaled exponential linear unit (Klambauer et al., 2017)."""
    return ops.selu(x)


def exponential(x: Any) -> Any:
    """Exponential function."""
    return ops.exp(x)


def softplus(x: Any) -> Any:
    """Softplus: ``log(1 + exp(x))``."""
    return ops.softplus(x)


def softsign(x: Any) -> Any:
    """Softsign: ``x / (1 + |x|)``."""
    return ops.softsign(x)


def silu(x: Any) -> Any:
    """SiLU, also called swish: ``x * sigmoid(x)``."""
    return ops.silu(x)


def gelu(x: Any, approximate: bool = False) -> Any:
    """Gaussian error linear unit: ``x * P(X <= x)`` for standard normal X."""
    return ops.gelu(x, approximate)


def hard_sigmoid(x: Any) -> Any:
    """Piecewise linear sigmoid: ``relu6(x + 3) / 6``."""
    return ops.hard_sigmoid(x)


def hard_silu(x: Any) -> Any:
    """Piecewise linear SiLU: ``x * hard_sigmoid(x)``."""
    return ops.hard_silu(x)


@kept_whole
def mish(x: Any) -> Any:
    """Mish: ``x * tanh(softplus(x))``."""
    return ops.mish(x)


def celu(x: Any, alpha: float = 1.0) -> Any:
    """Continuously differentiable ELU: ``x`` above zero, ``alpha * (exp(x / alpha) - 1)`` below."""
    return ops.celu(x, alpha)


def glu(x: Any, axis: int = -1) -> Any:
    """Gated linear unit: ``a * sigmoid(b)`` of the halves ``a`` and ``b`` along ``axis``."""
    return ops.glu(x, axis)


def hard_shrink(x: Any, threshold: float = 0.5) -> Any:
    """Hard shrink: ``x`` where ``|x| > threshold``, else 0."""
    return ops.hard_shrink(x, threshold)


def hard_tanh(x: Any) -> Any:
    """Piecewise linear tanh: ``x`` limited to the interval from -1 to 1."""
    return ops.hard_tanh(x)


def log_sigmoid(x: Any) -> Any:
    """Logarithm of the sigmoid."""
    return ops.log_sigmoid(x)


def soft_shrink(x: Any, threshold: float = 0.5) -> Any:
    """Soft shrink: ``x`` moved towards 0 by ``threshold``, not past it."""
    return ops.soft_shrink(x, threshold)


def sparse_plus(x: Any) -> Any:
    """Sparse softplus: 0 up to -1, ``(x + 1)^2 / 4`` up to 1, ``x`` above."""
    return ops.sparse_plus(x)


def sparse_sigmoid(x: Any) -> Any:
    """Sparse sigmoid: 0 up to -1, ``(x + 1) / 2`` up to 1, 1 above."""
    return ops.sparse_sigmoid(x)


def sparsemax(x: Any, axis: int = -1) -> Any:
    """Sparsemax: the probabilities nearest to ``x`` along ``axis``; small ones are exactly 0."""
    return ops.sparsemax(x, axis)


def squareplus(x: Any, b: float = 4) -> Any:
    """Squareplus: ``(x + sqrt(x^2 + b)) / 2``."""
    return ops.squareplus(x, b)


def tanh_shrink(x: Any) -> Any:
    """Tanh shrink: ``x - tanh(x)``."""
    return ops.tanh_shrink(x)


def threshold(x: Any, threshold: float, default_value: float) -> Any:
    """Threshold: ``x`` where it exceeds ``threshold``, else ``default_value``."""
    return ops.threshold(x, threshold, default_value)


swish = silu
hard_swish = hard_silu

_FUNCTIONS = (
    linear, relu, leaky_relu, relu6, sigmoid, tanh, softmax, log_softmax, elu, selu, exponential,
    softplus, softsign, silu, gelu, hard_sigmoid, hard_silu, mish, celu, glu, hard_shrink,
    hard_tanh, log_sigmoid, soft_shrink, sparse_plus, sparse_sigmoid, sparsemax, squareplus,
    tanh_shrink, threshold,
)  # fmt: skip
_BY_NAME: dict[str, Callable[..., Any]] = {f.__name__: f for f in _FUNCTIONS}
_ALIASES = {"swish": silu, "hard_swish": hard_silu}


def get(identifier: Any) -> Any:
    """Returns the activation function that ``identifier`` means.

    Args:
        identifier: None (linear), a name, a callable, or a config dictionary.

    Raises:
        ValueError: for an unknown name; the message lists the known ones.

    Example:
        >>> get("relu").__name__
        'relu'
    """
    if identifier is None:
        return linear
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, str):
        table = {**_BY_NAME, **_ALIASES}
        found = find_object(identifier, table)
        if found is None:
            raise ValueError(known_names("activation function", identifier, table))
        return found() if isinstance(found, type) else found
    if callable(identifier):
        return identifier
    raise ValueError(
        f"Could not interpret activation function identifier: {identifier!r}. Expected a name, "
        "a callable, a config dictionary or None."
    )


def serialize(activation: Callable[..., Any] | None) -> Any:
    """Returns the name of an activation of handmill, or a config dictionary."""
    from handmill.saving.objects import serialize_keras_object

    if activation is None:
        return "linear"
    name = getattr(activation, "__name__", None)
    if name in _BY_NAME and _BY_NAME[name] is activation:
        return name
    if not hasattr(activation, "get_config") and get_registered_name(activation) != name:
        return get_registered_name(activation)
    return serialize_keras_object(activation)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Makes an activation function from what :func:`serialize` returned."""
    return deserialize_keras_object(
        config,
        custom_objects,
        module_objects={**_BY_NAME, **_ALIASES},
        kind="activation function",
    )


__getattr__ = plain_module(__name__)
