"""Variational autoencoders: a code with its uncertainty, drawn anew in each step."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import ops, random, tree
from handmill.arguments import finite_number, whole_number
from handmill.callbacks.callback import Callback
from handmill.errors import TrainingWarning, warn_caller
from handmill.layers.core.dense import Dense
from handmill.layers.layer import Layer
from handmill.metrics.reduction import Mean
from handmill.models.data_adapters import is_arrays
from handmill.primitives.operands import shape_of
from handmill.selfsup.autoencoders import Autoencoder
from handmill.selfsup.base import listed

LARGEST_LOG_VARIANCE = 10.0
"""Logarithms of variances are cut to this, and its negative: e^10 is far from any use."""
_SAMPLE = 512
"""Rows that are looked at before a training."""
UNUSED = 0.01
"""A divergence below this share of the loss says that the code is not used."""


class GaussianCode(Layer):
    """Draws codes ``z = mean + exp(log_variance / 2) * noise``, and adds their divergence.

    ``KL = -0.5 sum(1 + lv - mean^2 - e^lv)`` from the normal distribution, a mean over rows, is
    added to the loss times ``beta``, which grows to it over the first ``warmup`` training steps. In
    inference the factor is 1 (so that a loss is -ELBO), and ``sampling=False`` gives the mean.

    Args:
        beta: the factor of the divergence.
        warmup: training steps over which the factor grows from 0.
        free_bits: the divergence of a dimension, in nats, that costs nothing.
        seed: of the noise.
        name: default: ``gaussian_code``, numbered.

    Raises:
        ValueError: for negative numbers.

    Example:
        >>> import numpy as np
        >>> from handmill import selfsup
        >>> code = selfsup.GaussianCode()
        >>> zeros = np.zeros((3, 2), "float32")
        >>> code([zeros, zeros]).shape, float(code.losses[0])
        ((3, 2), 0.0)
    """

    def __init__(
        self,
        beta: float = 1.0,
        warmup: int = 0,
        free_bits: float = 0.0,
        seed: Any = 0,
        name: Any = None,
    ) -> None:
        super().__init__(name=name)
        self.beta = _not_negative("beta", beta)
        self.free_bits = _not_negative("free_bits", free_bits)
        self.warmup = whole_number("GaussianCode: `warmup`", warmup, 0)
        self.seed_generator = random.SeedGenerator(seed)
        self.kl = Mean(name="kl")

    def build(self, input_shape: Any) -> None:
        """Makes the count of training steps, if the factor depends on it."""
        if self.warmup:
            self.steps = self.add_weight(
                shape=(), initializer="zeros", dtype="float32", trainable=False, name="steps"
            )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Draws codes of means and logarithms of variances, both (B, D)."""
        if not isinstance(inputs, list | tuple) or len(inputs) != 2:
            raise ValueError(
                "GaussianCode: call it on [mean, log_variance], two tensors (B, D), such as the "
                f"outputs of two Dense layers. Received: {getattr(inputs, 'shape', inputs)}"
            )
        mean, log_variance = inputs
        log_variance = ops.clip(log_variance, -LARGEST_LOG_VARIANCE, LARGEST_LOG_VARIANCE)
        noise = random.normal(tuple(mean.shape), seed=self.seed_generator)
        terms = 1 + log_variance - ops.square(mean) - ops.exp(log_variance)
        each = ops.mean(ops.multiply(terms, -0.5), axis=0)
        divergence = ops.sum(each)
        self.kl.update_state(divergence)
        if self.free_bits and training:
            divergence = ops.sum(ops.maximum(each, self.free_bits))
        if training:
            factor: Any = self.beta
            if self.warmup:
                self.steps.assign(self.steps + 1.0)
                factor = ops.minimum(self.steps * (1 / self.warmup), 1.0) * self.beta
            divergence = ops.multiply(divergence, factor)
        self.add_loss(divergence)
        return mean + ops.exp(0.5 * log_variance) * noise


class VAE(Autoencoder):
    """A variational autoencoder (Kingma and Welling, 2013): its loss in ``evaluate`` is -ELBO.

    Two Dense layers make mean and log-variance of the code of what the encoder gives. The
    reconstruction's loss is a *sum* over the numbers of a row, a mean over rows: only so the two
    parts of the loss have the proportion that the ELBO gives them. ``kl`` in the logs is the
    divergence; a ``TrainingWarning`` says if it has vanished, which means that the decoder does not
    look at the code.

    Args:
        encoder: a layer or model: rows -> features (B, F).
        decoder: a layer or model: codes (B, latent_dim) -> rows; logits for "bernoulli".
        latent_dim: dimensions of the code.
        likelihood: "bernoulli" for numbers from 0 to 1 (cross-entropy of the decoder's logits), or
            "gaussian" (half the squared error: a normal distribution of variance 1, less its
            constant).
        beta: the factor of the divergence (Higgins et al., 2017).
        warmup: training steps over which it grows from 0; 10 epochs, say.
        free_bits: see :class:`GaussianCode`.
        seed: of the draws.
        **kwargs: those of a model, such as ``name``.

    Raises:
        ValueError: for other likelihoods, and numbers out of range.

    Example:
        >>> import numpy as np, handmill
        >>> from handmill import layers, selfsup
        >>> x = (np.random.default_rng(0).uniform(size=(256, 8)) > 0.5).astype("float32")
        >>> x[:, 4:] = x[:, :4]
        >>> model = selfsup.VAE(
        ...     layers.Dense(32, activation="relu"),
        ...     handmill.Sequential([layers.Dense(32, activation="relu"), layers.Dense(8)]),
        ...     latent_dim=4,
        ... )
        >>> model.compile(handmill.optimizers.Adam(0.01))
        >>> losses = model.fit(x, epochs=30, verbose=0).history["loss"]
        >>> losses[-1] < losses[0]
        True
        >>> model.sample(3).shape
        (3, 8)
    """

    def __init__(
        self,
        encoder: Any,
        decoder: Any,
        latent_dim: int = 2,
        likelihood: str = "bernoulli",
        beta: float = 1.0,
        warmup: int = 0,
        free_bits: float = 0.0,
        seed: Any = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, decoder, "mse", seed=seed, **kwargs)
        if likelihood not in ("bernoulli", "gaussian"):
            raise ValueError(
                f"VAE: `likelihood` must be 'bernoulli' or 'gaussian'. Received: {likelihood!r}"
            )
        self.latent_dim = whole_number("VAE: `latent_dim`", latent_dim, 1)
        self.likelihood = likelihood
        self.mean = Dense(self.latent_dim, name="mean")
        self.log_variance = Dense(self.latent_dim, name="log_variance")
        self.code = GaussianCode(beta, warmup, free_bits, seed, name="code")

    def encode(self, x: Any, training: bool | None = None) -> tuple[Any, Any]:
        """Mean and log-variance of the codes of rows.

        Args:
            x: rows.
            training: whether this is part of training.
        """
        features = self.encoder(x, training=training)
        return self.mean(features), self.log_variance(features)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """The reconstruction of rows from the means of their codes."""
        mean, _ = self.encode(inputs, training)
        return self._made(self.decoder(mean, training=training))

    def _made(self, outputs: Any) -> Any:
        return ops.sigmoid(outputs) if self.likelihood == "bernoulli" else outputs

    def sample(self, count: int, seed: int = 0) -> Any:
        """Makes rows from codes drawn from the normal distribution.

        Args:
            count: how many.
            seed: of the codes.
        """
        codes = random.normal(
            (whole_number("sample: `count`", count, 1), self.latent_dim), seed=seed
        )
        return np.asarray(self._made(self.decoder(codes)))

    def _build_for(self, rows: Any) -> None:
        self.decoder(self.code(list(self.encode(rows))))

    def _loss_of(self, data: Any, training: bool) -> tuple[Any, Any, Any]:
        x = self.rows_alone(data)
        self._built_for(x)
        codes = self.code(list(self.encode(x, training)), training=training)
        made = self._decoded(codes, x, training)
        return x, self.compare(ops.cast(x, made.dtype), made), None

    def compare(self, x: Any, made: Any, weights: Any = None) -> Any:
        """The negative log-likelihood of rows: a sum over their numbers, a mean over rows."""
        if self.likelihood == "gaussian":
            each = ops.multiply(ops.square(ops.subtract(x, made)), 0.5)
        else:  # -x log s(l) - (1 - x) log(1 - s(l))
            each = ops.subtract(ops.softplus(made), ops.multiply(x, made))
        return ops.divide(ops.sum(each), ops.cast(shape_of(x)[0], made.dtype))

    def fit(  # type: ignore[override]
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Trains on rows; see ``Model.fit``. Warns if the code turns out not to be used.

        Args:
            x: rows.
            y: None: rows are their own targets.
            batch_size: rows of a batch; default 32.
            epochs: how many.
            verbose: as for ``Model.fit``.
            callbacks: callbacks.
            **kwargs: other arguments of ``Model.fit``.

        Raises:
            ValueError: for labels, and rows that are not from 0 to 1 where they should be.
        """
        if self.likelihood == "bernoulli" and is_arrays(x):
            _check_shares(tree.flatten(x)[0][:_SAMPLE])
        watched = [*listed(callbacks), _WatchOfCode()]
        return super().fit(x, y, batch_size, epochs, verbose, watched, **kwargs)


class _WatchOfCode(Callback):
    """Warns at the end if the divergence is next to nothing beside the loss."""

    def on_train_end(self, logs: Any = None) -> None:
        history = self.model.history.history if self.model.history is not None else {}
        if not history.get("kl"):
            return
        kl, loss = history["kl"][-1], history["loss"][-1]
        if kl < UNUSED * abs(loss):
            warn_caller(
                f"model {self.model.name!r}: the code is not used: its divergence, {kl:.2g}, is "
                f"below {UNUSED:g} of the loss, {loss:.4g}, so the decoder gives the same for all "
                "rows. A warm-up of beta over several epochs, free_bits, a smaller beta or a "
                "weaker decoder help.",
                TrainingWarning,
            )


def _check_shares(rows: Any) -> None:
    """Refuses rows that the Bernoulli likelihood has no meaning for: its loss has no floor then."""
    sample = np.asarray(rows)
    if sample.size and (sample.min() < 0 or sample.max() > 1):
        raise ValueError(
            "VAE: likelihood='bernoulli' is for numbers from 0 to 1, the rows hold "
            f"{sample.min():.4g} to {sample.max():.4g}. Scale them before (images / 255), or pass "
            "likelihood='gaussian'"
        )


def _not_negative(name: str, value: Any) -> float:
    number = finite_number(f"GaussianCode: `{name}`", value)
    if number < 0:
        raise ValueError(f"GaussianCode: `{name}` must not be negative. Received: {value!r}")
    return number
