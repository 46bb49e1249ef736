"""Learning rates that change: schedules in the optimizer, callbacks around it."""

import keras
import numpy as np
from keras import layers
from keras.optimizers import schedules
from seeded import seed_weights

rng = np.random.default_rng(17)
x = rng.normal(size=(320, 6)).astype("float32")
y = (np.abs(x[:, :1]) - x[:, 1:2]).astype("float32")


@keras.saving.register_keras_serializable(package="scripts")
class Triangle(schedules.LearningRateSchedule):
    """Up and down again every ``period`` steps."""

    def __init__(self, low, high, period):
        self.low, self.high, self.period = low, high, period

    def __call__(self, step):
        position = keras.ops.cast(step % self.period, "float32") / self.period
        return self.low + (self.high - self.low) * (1.0 - keras.ops.abs(2.0 * position - 1.0))

    def get_config(self):
        return {"low": self.low, "high": self.high, "period": self.period}


def train(rate, callbacks=()):
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(24, activation="relu"), layers.Dense(1)]
    )
    seed_weights(model)
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), loss="mse")
    history = model.fit(
        x,
        y,
        batch_size=32,
        epochs=6,
        shuffle=False,
        verbose=0,
        validation_split=0.2,
        callbacks=list(callbacks),
    )
    return model, history.history


rates = {
    "constant": 0.02,
    "exponential": schedules.ExponentialDecay(0.05, decay_steps=10, decay_rate=0.8),
    "staircase": schedules.ExponentialDecay(0.05, 16, 0.5, staircase=True),
    "cosine": schedules.CosineDecay(0.0, 40, warmup_target=0.05, warmup_steps=8),
    "piecewise": schedules.PiecewiseConstantDecay([16, 32], [0.05, 0.02, 0.005]),
    "polynomial": schedules.PolynomialDecay(0.05, 48, end_learning_rate=0.001, power=2.0),
    "own": Triangle(0.001, 0.06, 16),
}
for name, rate in rates.items():
    model, history = train(rate)
    print(
        f"{name}: loss {history['loss'][-1]:.4f}, rate {float(model.optimizer.learning_rate):.5f}"
    )

by_epoch = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.7)
model, history = train(0.05, [by_epoch])
print("scheduler", " ".join(f"{v:.4f}" for v in history["learning_rate"]))
plateau = keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=1, min_delta=0.05)
model, history = train(0.05, [plateau])
print("plateau", " ".join(f"{v:.4f}" for v in history["learning_rate"]))
