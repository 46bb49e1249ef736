"""Losses, metrics, activations and initializers of one's own, as functions and as classes."""

import keras
import numpy as np
from keras import layers, ops
from seeded import seed_weights

rng = np.random.default_rng(19)
x = rng.uniform(-2, 2, (900, 1)).astype("float32")
y = (x + (0.2 + 0.3 * np.abs(x)) * rng.normal(size=x.shape)).astype("float32")


class Pinball(keras.losses.Loss):
    """The loss whose minimum is a quantile."""

    def __init__(self, quantile, name="pinball", **kwargs):
        super().__init__(name=name, **kwargs)
        self.quantile = quantile

    def call(self, y_true, y_pred):
        error = y_true - y_pred
        return ops.mean(ops.maximum(self.quantile * error, (self.quantile - 1) * error), axis=-1)

    def get_config(self):
        return {**super().get_config(), "quantile": self.quantile}


class Coverage(keras.metrics.Metric):
    """The fraction of targets below the prediction."""

    def __init__(self, name="coverage", **kwargs):
        super().__init__(name=name, **kwargs)
        self.below = self.add_weight(name="below", initializer="zeros")
        self.count = self.add_weight(name="count", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.below.assign_add(ops.sum(ops.cast(y_true < y_pred, "float32")))
        self.count.assign_add(ops.cast(ops.size(y_true), "float32"))

    def result(self):
        return self.below / self.count


def bent(x):
    return ops.where(x > 0, x, 0.1 * x) + 0.01 * ops.sin(x)


def small(shape, dtype=None):
    return 0.05 * ops.ones(shape, dtype=dtype)


def few(weights):
    return 1e-4 * ops.sum(ops.abs(weights))


class Bounded(keras.constraints.Constraint):
    def __call__(self, w):
        return ops.clip(w, -1.5, 1.5)


for quantile in (0.1, 0.5, 0.9):
    model = keras.Sequential(
        [
            keras.Input((1,)),
            layers.Dense(24, activation=bent, kernel_constraint=Bounded()),
            layers.Dense(1, kernel_regularizer=few, bias_initializer=small),
        ]
    )
    seed_weights(model)
    model.compile(keras.optimizers.Adam(0.01), Pinball(quantile), metrics=[Coverage()])
    history = model.fit(x[:700], y[:700], batch_size=50, epochs=15, shuffle=False, verbose=0)
    found = model.evaluate(x[700:], y[700:], verbose=0)
    largest = np.abs(model.layers[0].get_weights()[0]).max()
    print(
        f"{quantile}: loss {history.history['loss'][0]:.4f} -> {history.history['loss'][-1]:.4f}, "
        f"test {found[0]:.4f}, coverage {found[1]:.4f}, largest weight {largest:.4f}"
    )
