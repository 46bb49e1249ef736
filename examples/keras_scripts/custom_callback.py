"""Callbacks of one's own: what they are told, in which order, and what they may change."""

import keras
import numpy as np
from keras import layers
from seeded import seed_weights

rng = np.random.default_rng(14)
x = rng.normal(size=(400, 5)).astype("float32")
y = (x @ rng.normal(size=(5, 1)) + 0.1 * rng.normal(size=(400, 1))).astype("float32")


class Diary(keras.callbacks.Callback):
    """Writes down what happens."""

    def on_train_begin(self, logs=None):
        self.events = []
        print("begin", sorted(self.params), self.params["epochs"], self.params["steps"])

    def on_epoch_begin(self, epoch, logs=None):
        self.batches = 0

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        self.last = logs["loss"]

    def on_test_begin(self, logs=None):
        self.events.append("test")

    def on_epoch_end(self, epoch, logs=None):
        rate = float(np.asarray(self.model.optimizer.learning_rate))
        print(f"epoch {epoch}: {self.batches} batches,", " ".join(sorted(logs)))
        print(f"    loss {logs['loss']:.4f}, rate {rate:.4f}")


class HalveWhenWorse(keras.callbacks.Callback):
    """Halves the rate and takes the older weights back when the validation loss rises."""

    def __init__(self):
        super().__init__()
        self.best = np.inf
        self.weights = None

    def on_epoch_end(self, epoch, logs=None):
        if logs["val_loss"] < self.best:
            self.best, self.weights = logs["val_loss"], self.model.get_weights()
            return
        self.model.set_weights(self.weights)
        rate = self.model.optimizer.learning_rate
        self.model.optimizer.learning_rate = float(np.asarray(rate)) / 2


class StopBelow(keras.callbacks.Callback):
    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def on_epoch_end(self, epoch, logs=None):
        if logs["loss"] < self.loss:
            self.model.stop_training = True


model = keras.Sequential([keras.Input((5,)), layers.Dense(16, activation="tanh"), layers.Dense(1)])
seed_weights(model)
model.compile(keras.optimizers.SGD(0.3), loss="mse", metrics=["mae"])
diary = Diary()
seen = []
history = model.fit(
    x,
    y,
    batch_size=40,
    epochs=20,
    shuffle=False,
    validation_split=0.25,
    verbose=0,
    callbacks=[
        HalveWhenWorse(),
        diary,
        StopBelow(0.03),
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch)),
    ],
)
print("epochs", len(history.epoch), len(seen), "tests", len(diary.events))
print(f"loss {model.evaluate(x, y, verbose=0)[0]:.4f}")
