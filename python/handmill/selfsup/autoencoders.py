"""Autoencoders: a code from which rows are made again."""

from __future__ import annotations

from typing import Any

from handmill import losses, ops, random
from handmill.arguments import finite_number, whole_number
from handmill.layers.core.dense import Dense
from handmill.losses.loss import Loss
from handmill.models.sequential import Sequential
from handmill.primitives.operands import shape_of
from handmill.runtime.tape import GradientTape
from handmill.selfsup.base import Unlabelled, checked_layer


class Autoencoder(Unlabelled):
    """An encoder makes a code of each row, a decoder makes the row again.

    Called, it gives the reconstruction; ``encoder`` gives the code.

    Args:
        encoder: a layer or model: rows -> codes.
        decoder: a layer or model: codes -> rows.
        loss: a name or a function ``(rows, reconstructions)``, a mean over all numbers.
        sparsity: factor of the mean, over rows, of the sum of ``|code|``.
        contraction: factor of the mean, over rows, of ``||d code / d row||^2`` (Rifai et al.,
            2011). For one Dense layer with a sigmoid, tanh, relu or linear activation it is a
            formula; else it is estimated without bias by one random direction a step, which costs
            about two passes more.
        seed: of such directions, and of what subclasses draw.
        **kwargs: those of a model, such as ``name``.

    Raises:
        ValueError: for what is no layer, for negative factors; in ``fit`` if the reconstruction
            has another shape than the rows.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers, selfsup
        >>> x = np.random.default_rng(0).normal(size=(256, 2)) @ [[1, 2, 3], [3, 1, 0]]
        >>> model = selfsup.Autoencoder(layers.Dense(2), layers.Dense(3))
        >>> model.compile(handmill.optimizers.Adam(0.02))
        >>> losses = model.fit(x, epochs=30, verbose=0).history["loss"]
        >>> losses[-1] < 0.05 * losses[0]
        True
    """

    def __init__(
        self,
        encoder: Any,
        decoder: Any,
        loss: Any = "mse",
        sparsity: float = 0.0,
        contraction: float = 0.0,
        seed: Any = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        kind = type(self).__name__
        self.encoder = checked_layer(kind, "encoder", encoder)
        self.decoder = checked_layer(kind, "decoder", decoder)
        self.reconstruction_loss = losses.get(loss)
        self.sparsity = _factor(kind, "sparsity", sparsity)
        self.contraction = _factor(kind, "contraction", contraction)
        self.seed_generator = random.SeedGenerator(seed)

    def spoil(self, x: Any) -> tuple[Any, Any]:
        """What the encoder sees in training instead of ``x``, and which of its numbers count.

        Args:
            x: a batch of rows.

        Returns:
            The batch that is encoded; weights of the numbers of ``x`` in the loss, or None.
        """
        return x, None

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """The reconstruction of rows as they are."""
        return self.decoder(self.encoder(inputs, training=training), training=training)

    def _build_for(self, rows: Any) -> None:
        self.decoder(self.encoder(rows))

    def _loss_of(self, data: Any, training: bool) -> tuple[Any, Any, Any]:
        x = self.rows_alone(data)
        self._built_for(x)
        seen, weights = self.spoil(x) if training else (x, None)
        code = self.encoder(seen, training=training)
        made = self._decoded(code, x, training)
        loss = self.compare(ops.cast(x, made.dtype), made, weights)
        if training and self.sparsity:
            sums = ops.divide(ops.sum(ops.abs(code)), ops.cast(shape_of(x)[0], code.dtype))
            loss = ops.add(loss, ops.multiply(sums, self.sparsity))
        if training and self.contraction:
            loss = ops.add(loss, ops.multiply(self._slopes(seen, code), self.contraction))
        return x, loss, None

    def _decoded(self, code: Any, x: Any, training: bool) -> Any:
        made = self.decoder(code, training=training)
        if tuple(shape_of(made)[1:]) != tuple(shape_of(x)[1:]):
            raise ValueError(
                f"{type(self).__name__}: the decoder makes rows of shape {shape_of(made)[1:]}, the "
                f"data have {shape_of(x)[1:]}"
            )
        return made

    def compare(self, x: Any, made: Any, weights: Any = None) -> Any:
        """The loss of a reconstruction, a mean over all numbers, or over those with a weight.

        Args:
            x: rows.
            made: their reconstructions.
            weights: of the numbers of the rows, or None for all alike.
        """
        if weights is None:
            each = self.reconstruction_loss
            return ops.mean(each(x, made)) if not isinstance(each, Loss) else each(x, made)
        errors = ops.multiply(ops.square(ops.subtract(x, made)), weights)
        return ops.divide(ops.sum(errors), ops.maximum(ops.sum(weights), 1.0))

    def _slopes(self, x: Any, code: Any) -> Any:
        """The mean over rows of the squared Frobenius norm of d code / d row."""
        known = _slope_of(self.encoder)
        if known is not None:
            layer, slope = known
            lengths = ops.sum(ops.square(layer.kernel), axis=0)
            return ops.mean(ops.matmul(ops.square(slope(code)), ops.expand_dims(lengths, 1)))
        # E |v^T J|^2 = |J|^2 for signs v that are drawn at random.
        with GradientTape() as tape:
            tape.watch(x)
            found = self.encoder(x, training=True)
            signs = ops.sign(
                ops.subtract(random.uniform(tuple(found.shape), seed=self.seed_generator), 0.5)
            )
            along = ops.sum(ops.multiply(found, signs))
        slopes = tape.gradient(along, x)
        return ops.divide(ops.sum(ops.square(slopes)), ops.cast(shape_of(x)[0], slopes.dtype))


_SLOPES = {
    "sigmoid": lambda h: h * (1 - h),
    "tanh": lambda h: 1 - ops.square(h),
    "linear": ops.ones_like,
    "relu": lambda h: ops.cast(h > 0, h.dtype),
}
"""Derivatives of activations by what they gave."""


def _slope_of(encoder: Any) -> Any:
    """The one Dense layer that an encoder is, and the derivative of its activation."""
    layers = encoder.layers if isinstance(encoder, Sequential) else [encoder]
    if len(layers) != 1 or type(layers[0]) is not Dense:
        return None
    name = getattr(layers[0].activation, "__name__", "")
    return (layers[0], _SLOPES[name]) if name in _SLOPES else None


def _factor(kind: str, name: str, value: Any) -> float:
    number = finite_number(f"{kind}: `{name}`", value)
    if number < 0:
        raise ValueError(f"{kind}: `{name}` must not be negative. Received: {value!r}")
    return number


class DenoisingAutoencoder(Autoencoder):
    """An autoencoder that sees noisy rows and is to give the clean ones (Vincent et al., 2008).

    Args:
        encoder: a layer or model: rows -> codes.
        decoder: a layer or model: codes -> rows.
        noise: the standard deviation of what is added to each number.
        masking: the share of numbers that are set to 0.
        clip: the range (low, high) that noisy numbers stay in, or None.
        loss: as for :class:`Autoencoder`.
        seed: of the noise.
        **kwargs: those of a model, such as ``name``.

    Raises:
        ValueError: for numbers out of range.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers, selfsup
        >>> x = np.random.default_rng(0).uniform(size=(64, 6)).astype("float32")
        >>> model = selfsup.DenoisingAutoencoder(
        ...     layers.Dense(4, activation="relu"), layers.Dense(6), noise=0.1, masking=0.3
        ... )
        >>> model.compile("adam")
        >>> len(model.fit(x, epochs=2, verbose=0).epoch)
        2
    """

    def __init__(
        self,
        encoder: Any,
        decoder: Any,
        noise: float = 0.5,
        masking: float = 0.0,
        clip: tuple[float, float] | None = None,
        loss: Any = "mse",
        seed: Any = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, decoder, loss, seed=seed, **kwargs)
        self.noise = _factor("DenoisingAutoencoder", "noise", noise)
        self.masking = _share("DenoisingAutoencoder", "masking", masking)
        self.clip = None if clip is None else (float(clip[0]), float(clip[1]))

    def spoil(self, x: Any) -> tuple[Any, Any]:
        """Noisy rows; all numbers count."""
        x = ops.cast(x, "float32")
        if self.noise:
            drawn = random.normal(tuple(x.shape), seed=self.seed_generator)
            x = ops.add(x, ops.multiply(drawn, self.noise))
        if self.masking:
            drawn = random.uniform(tuple(x.shape), seed=self.seed_generator)
            x = ops.where(ops.less(drawn, self.masking), 0.0, x)
        return (x if self.clip is None else ops.clip(x, *self.clip)), None


class MaskedAutoencoder(Autoencoder):
    """An autoencoder that sees a few patches of each image and is to give the others.

    The loss is the mean squared error over the hidden patches alone (He et al., 2021). Hidden
    patches are 0 in the input, whose shape stays, so any encoder goes. Its codes say little by
    their distances: judge them by :func:`linear_probe`, not by neighbours.

    Args:
        encoder: a layer or model: images (B, H, W) or (B, H, W, C), or rows (B, F) -> codes.
        decoder: a layer or model: codes -> what came in.
        patch: the side of a patch (of rows: its length); it must divide the sizes.
        hidden: the share of patches that are hidden.
        seed: of which ones.
        **kwargs: those of a model, such as ``name``.

    Raises:
        ValueError: for numbers out of range; in ``fit`` for sizes that the patch does not divide.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers, selfsup
        >>> x = np.random.default_rng(0).uniform(size=(64, 8, 8)).astype("float32")
        >>> encoder = handmill.Sequential([layers.Flatten(), layers.Dense(16, activation="relu")])
        >>> decoder = handmill.Sequential([layers.Dense(64), layers.Reshape((8, 8))])
        >>> model = selfsup.MaskedAutoencoder(encoder, decoder, patch=4, hidden=0.5)
        >>> model.compile("adam")
        >>> len(model.fit(x, epochs=2, verbose=0).epoch)
        2
    """

    def __init__(
        self,
        encoder: Any,
        decoder: Any,
        patch: int = 4,
        hidden: float = 0.75,
        seed: Any = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, decoder, "mse", seed=seed, **kwargs)
        self.patch = whole_number("MaskedAutoencoder: `patch`", patch, 1)
        self.hidden = _share("MaskedAutoencoder", "hidden", hidden)
        if not self.hidden:
            raise ValueError("MaskedAutoencoder: `hidden` must be above 0. Received: 0")

    def spoil(self, x: Any) -> tuple[Any, Any]:
        """Images with hidden patches; only these count."""
        x = ops.cast(x, "float32")
        rows, *sizes = x.shape
        axes = sizes[: min(2, len(sizes))]
        if wrong := [n for n in axes if n % self.patch]:
            raise ValueError(
                f"MaskedAutoencoder: patch={self.patch} does not divide {wrong[0]}, a size of the "
                f"rows, which have shape {tuple(sizes)}"
            )
        counts = [n // self.patch for n in axes]
        drawn = random.uniform((rows, *counts), seed=self.seed_generator)
        mask = ops.cast(ops.less(drawn, self.hidden), x.dtype)
        for axis in range(1, len(axes) + 1):
            mask = ops.repeat(mask, self.patch, axis=axis)
        if len(sizes) == 3:
            mask = ops.expand_dims(mask, -1)
        mask = ops.multiply(mask, ops.ones_like(x))
        return ops.multiply(x, ops.subtract(1.0, mask)), mask


def _share(kind: str, name: str, value: Any) -> float:
    number = finite_number(f"{kind}: `{name}`", value)
    if not 0 <= number < 1:
        raise ValueError(f"{kind}: `{name}` must be from 0 to below 1. Received: {value!r}")
    return number
