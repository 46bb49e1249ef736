"""A series cut into windows: the next six hours from the last twenty-four, against a baseline."""

import keras
import numpy as np
from keras import layers, ops
from seeded import seed_weights

rng = np.random.default_rng(9)
hours = np.arange(1500)
series = (
    np.sin(hours * 2 * np.pi / 24)
    + 0.3 * np.sin(hours * 2 * np.pi / 168)
    + rng.normal(0, 0.1, 1500)
).astype("float32")
mean, std = series[:1000].mean(), series[:1000].std()
series = (series - mean) / std
windows = np.lib.stride_tricks.sliding_window_view(series, 30)
x, y = windows[:, :24, None], windows[:, 24:]
train, test = slice(0, 1000), slice(1030, None)


class Last(keras.layers.Layer):
    """The baseline: everything stays as it is."""

    def call(self, inputs):
        return ops.repeat(inputs[:, -1], 6, axis=1)


class ResidualLinear(keras.Model):
    """Predicts the change against the last value."""

    def __init__(self, units):
        super().__init__()
        self.flatten = layers.Flatten()
        self.hidden = layers.Dense(units, activation="relu")
        self.head = layers.Dense(6, kernel_initializer="zeros")

    def call(self, inputs):
        flat = self.flatten(inputs)
        return inputs[:, -1] + self.head(self.hidden(flat))


def root_mean_squared(y_true, y_pred):
    return ops.sqrt(ops.mean(ops.square(y_true - y_pred)))


baseline = keras.Sequential([keras.Input((24, 1)), Last()])
baseline.compile(loss="mse", metrics=["mae"])
print("baseline {:.4f} {:.4f}".format(*baseline.evaluate(x[test], y[test], verbose=0)))

model = ResidualLinear(32)
model(x[:1])  # builds it
seed_weights(model)
model.compile(keras.optimizers.Adam(0.003), "mse", metrics=["mae", root_mean_squared])
history = model.fit(
    x[train], y[train], batch_size=64, epochs=12, shuffle=False, verbose=0, validation_split=0.1
)
print("val_loss", " ".join(f"{v:.4f}" for v in history.history["val_loss"][::4]))
print("model {:.4f} {:.4f} {:.4f}".format(*model.evaluate(x[test], y[test], verbose=0)))
print("next six hours", model.predict(x[-1:], verbose=0)[0].round(3))
