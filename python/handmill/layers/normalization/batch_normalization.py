"""Batch normalization."""

from __future__ import annotations

import functools
import math
from typing import Any

from handmill import config, constraints, initializers, ops, regularizers
from handmill.errors import ShapeError
from handmill.layers.input_spec import InputSpec
from handmill.layers.layer import Layer
from handmill.primitives.operands import common_dtype
from handmill.runtime.variable import Variable


def _masked_moments(inputs: Any, mask: Any, axes: tuple[int, ...]) -> tuple[Any, Any]:
    """Mean and variance of the entries that count.

    Args:
        inputs: values.
        mask: of the shape of ``inputs`` without its last axis.
        axes: what is summed over.
    """
    counts = ops.logical_or(
        ops.expand_dims(ops.cast(mask, "bool"), -1), ops.zeros_like(inputs, dtype="bool")
    )
    zeros = ops.zeros_like(inputs)
    number = ops.sum(ops.cast(counts, inputs.dtype), axes, keepdims=True)
    number = ops.add(number, config.epsilon())
    mean = ops.divide(ops.sum(ops.where(counts, inputs, zeros), axes, keepdims=True), number)
    distances = ops.where(counts, ops.subtract(inputs, mean), zeros)
    variance = ops.divide(ops.sum(ops.square(distances), axes, keepdims=True), number)
    return ops.squeeze(mean, axes), ops.squeeze(variance, axes)


def _checked_clipping(renorm: bool, given: Any) -> dict[str, float] | None:
    if not renorm:
        return None if given is None else dict(given)
    bounds: dict[str, float] = dict(given or {})
    if set(bounds) - set(_BOUNDS):
        raise ValueError(
            "Received invalid keys for `renorm_clipping` argument: "
            f"{bounds}. Supported values: {list(_BOUNDS)}."
        )
    rmin, rmax, dmax = bounds.get("rmin"), bounds.get("rmax"), bounds.get("dmax")
    if rmin is not None and rmax is not None and rmax < rmin:
        raise ValueError(
            "rmax should be greater than rmin in the `renorm_clipping` argument. "
            f"Received: rmax={rmax}, rmin={rmin}."
        )
    if dmax is not None and dmax < 0:
        raise ValueError(
            f"dmax should be non-negative in the `renorm_clipping` argument. Received: dmax={dmax}."
        )
    return bounds


_BOUNDS = ("rmax", "rmin", "dmax")


def _rooted(initializer: Any, shape: Any, dtype: Any = None) -> Any:
    """The square roots of what an initializer gives."""
    return ops.sqrt(initializer(shape, dtype=dtype))


def _move(statistic: Any, value: Any, momentum: float) -> None:
    """Moves a running mean towards the value of a batch."""
    statistic.assign(
        ops.add(ops.multiply(statistic, momentum), ops.multiply(value, 1.0 - momentum))
    )


class BatchNormalization(Layer):
    """Gives each channel mean 0 and variance 1 over the batch, then scales and shifts it.

    Training uses the statistics of the batch and keeps running means of them; inference uses
    those. With ``trainable = False`` the layer always works as in inference; with
    ``statistics_frozen = True`` (:class:`handmill.callbacks.FreezeStatistics`) it does, but gamma
    and beta are trained.

    Args:
        axis: the channels.
        momentum: weight of the old running mean at each step.
        epsilon: added to the variance.
        center: whether there is an offset ``beta``.
        scale: whether there is a factor ``gamma``.
        beta_initializer: initial values of ``beta``.
        gamma_initializer: initial values of ``gamma``.
        moving_mean_initializer: initial values of the running mean.
        moving_variance_initializer: initial values of the running variance.
        beta_regularizer: penalty on ``beta``.
        gamma_regularizer: penalty on ``gamma``.
        beta_constraint: condition on ``beta``.
        gamma_constraint: condition on ``gamma``.
        renorm: whether training, too, gives what the running statistics would give (batch
            renormalization): what is normalized by the batch is corrected by a factor ``r`` and an
            offset ``d``, which are no part of the gradient.
        renorm_clipping: bounds of the correction: ``{"rmin": 0.3, "rmax": 3.0, "dmax": 5.0}``, or
            some of them; without ``rmax``, ``rmin`` and ``dmax`` there is none.
        renorm_momentum: weight of the old running statistics that the correction uses.
        synchronized: must be False: there is one device.
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, ..., channels)``

    Output shape:
        as the input

    Raises:
        ValueError: for a clipping that is none, or ``synchronized=True``.
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        renorm: bool = False,
        renorm_clipping: Any = None,
        renorm_momentum: float = 0.99,
        synchronized: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if synchronized:
            raise ValueError(
                "Argument synchronized=True joins the statistics of several devices; handmill has "
                "one. Leave it out."
            )
        self.axis = int(axis)
        self.momentum = float(momentum)
        self.epsilon = float(epsilon)
        self.center = center
        self.scale = scale
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)
        self.renorm = bool(renorm)
        self.renorm_clipping = _checked_clipping(renorm, renorm_clipping)
        self.renorm_momentum = float(renorm_momentum)
        self.supports_masking = True
        self.statistics_frozen = False
        self.gamma: Any = None
        self.beta: Any = None

    moving_mean: Variable
    moving_variance: Variable
    moving_stddev: Variable  # with renorm, as the two below
    renorm_mean: Variable
    renorm_stddev: Variable

    def build(self, input_shape: Any) -> None:
        """Makes gamma, beta and the running statistics."""
        rank = len(input_shape)
        if not -rank <= self.axis < rank:
            raise ShapeError(
                f"Axis {self.axis} is out of bounds for input shape {tuple(input_shape)}."
            )
        size = input_shape[self.axis]
        if size is None:
            raise ShapeError(
                f"batch_normalization: axis {self.axis} of {tuple(input_shape)} has no fixed size"
            )
        if self.scale:
            self.gamma = self.add_weight(
                name="gamma",
                shape=(size,),
                initializer=self.gamma_initializer,
                regularizer=self.gamma_regularizer,
                autocast=False,
                constraint=self.gamma_constraint,
            )
        if self.center:
            self.beta = self.add_weight(
                name="beta",
                shape=(size,),
                initializer=self.beta_initializer,
                regularizer=self.beta_regularizer,
                autocast=False,
                constraint=self.beta_constraint,
            )
        self.moving_mean = self.add_weight(
            name="moving_mean",
            shape=(size,),
            initializer=self.moving_mean_initializer,
            trainable=False,
            autocast=False,
        )
        self.moving_variance = self.add_weight(
            name="moving_variance",
            shape=(size,),
            initializer=self.moving_variance_initializer,
            trainable=False,
            autocast=False,
        )
        if self.renorm:
            stddev = functools.partial(_rooted, self.moving_variance_initializer)
            for name, initializer in (
                ("moving_stddev", stddev),
                ("renorm_mean", self.moving_mean_initializer),
                ("renorm_stddev", stddev),
            ):
                weight = self.add_weight(
                    name=name,
                    shape=(size,),
                    initializer=initializer,
                    trainable=False,
                    autocast=False,
                )
                setattr(self, name, weight)
        self.input_spec = InputSpec(ndim=rank, axes={self.axis: size})

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Computes the output."""
        inputs = ops.cast(inputs, common_dtype((self.compute_dtype, "float32")))
        rank = len(inputs.shape)
        axis = self.axis % rank
        others = tuple(i for i in range(rank) if i != axis)
        if training and self.trainable and not self.statistics_frozen:
            if mask is None:
                mean, variance = ops.moments(inputs, others)
            else:
                mean, variance = _masked_moments(inputs, mask, others)
            correction = self._corrected(mean, variance) if self.renorm else None
            _move(self.moving_mean, mean, self.momentum)
            if not self.renorm:
                _move(self.moving_variance, variance, self.momentum)
        else:
            mean, variance = self.moving_mean.value, self.moving_variance.value
            correction = None
        factor = ops.rsqrt(ops.add(variance, self.epsilon))
        if correction is not None:
            factor = ops.multiply(factor, correction[0])
        if self.gamma is not None:
            factor = ops.multiply(factor, self.gamma)
        shift = ops.negative(ops.multiply(mean, factor))
        if correction is not None:
            d = correction[1]
            shift = ops.add(shift, d if self.gamma is None else ops.multiply(d, self.gamma))
        if self.beta is not None:
            shift = ops.add(shift, self.beta)
        if axis != rank - 1:
            shape = tuple(-1 if i == axis else 1 for i in range(rank))
            factor, shift = ops.reshape(factor, shape), ops.reshape(shift, shape)
        return ops.cast(ops.add(ops.multiply(inputs, factor), shift), self.compute_dtype)

    def _corrected(self, mean: Any, variance: Any) -> tuple[Any, Any]:
        """The correction ``r, d`` of batch renormalization; moves the statistics it rests on."""
        known_mean, known_stddev = self.renorm_mean.value, self.renorm_stddev.value
        stddev = ops.sqrt(ops.add(variance, self.epsilon))
        divisor = ops.maximum(known_stddev, math.sqrt(self.epsilon))
        r = ops.divide(stddev, divisor)
        d = ops.divide(ops.subtract(mean, known_mean), divisor)
        bounds = self.renorm_clipping or {}
        if bounds.get("rmin") is not None:
            r = ops.maximum(r, bounds["rmin"])
        if bounds.get("rmax") is not None:
            r = ops.minimum(r, bounds["rmax"])
        if bounds.get("dmax") is not None:
            d = ops.clip(d, -bounds["dmax"], bounds["dmax"])
        _move(self.renorm_mean, mean, self.renorm_momentum)
        _move(self.renorm_stddev, stddev, self.renorm_momentum)
        _move(self.moving_stddev, stddev, self.momentum)
        moved = ops.square(self.moving_stddev.value)
        self.moving_variance.assign(ops.maximum(ops.subtract(moved, self.epsilon), 0.0))
        return ops.stop_gradient(r), ops.stop_gradient(d)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "axis": self.axis,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            "beta_initializer": initializers.serialize(self.beta_initializer),
            "gamma_initializer": initializers.serialize(self.gamma_initializer),
            "moving_mean_initializer": initializers.serialize(self.moving_mean_initializer),
            "moving_variance_initializer": initializers.serialize(self.moving_variance_initializer),
            "beta_regularizer": regularizers.serialize(self.beta_regularizer),
            "gamma_regularizer": regularizers.serialize(self.gamma_regularizer),
            "beta_constraint": constraints.serialize(self.beta_constraint),
            "gamma_constraint": constraints.serialize(self.gamma_constraint),
            "synchronized": False,
            "renorm": self.renorm,
            "renorm_clipping": self.renorm_clipping,
            "renorm_momentum": self.renorm_momentum,
        }
