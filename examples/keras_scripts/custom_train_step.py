"""A train_step of one's own: gradients with noise-free clipping, two losses, own metrics.

Keras has a form of this method for each of its backends; the class shows JAX's beside the one of
handmill, which is written as for TensorFlow.
"""

import keras
import numpy as np
from keras import layers, ops
from seeded import seed_weights

rng = np.random.default_rng(6)
x = rng.normal(size=(640, 6)).astype("float32")
y = (np.sin(x[:, :1]) + 0.5 * x[:, 1:2]).astype("float32")


class Smooth(keras.Model):
    """Learns y, and that a small step aside changes little."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = layers.Dense(32, activation="swish")
        self.head = layers.Dense(1)
        self.loss_tracker = keras.metrics.Mean(name="loss")
        self.error_tracker = keras.metrics.MeanAbsoluteError(name="mae")

    def call(self, inputs, training=None):
        return self.head(self.hidden(inputs))

    @property
    def metrics(self):
        return [self.loss_tracker, self.error_tracker]

    def train_step(self, *arguments):
        return self.step_of_jax(*arguments) if len(arguments) == 2 else self.step(*arguments)

    def step(self, data):
        x, y = data
        with keras.GradientTape() as tape:
            y_pred = self(x, training=True)
            aside = self(x + 0.1, training=True)
            loss = ops.mean(ops.square(y - y_pred)) + 0.1 * ops.mean(ops.square(aside - y_pred))
        gradients = tape.gradient(loss, self.trainable_variables)
        gradients = [ops.clip(g, -0.05, 0.05) for g in gradients]
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.loss_tracker.update_state(loss)
        self.error_tracker.update_state(y, y_pred)
        return {m.name: m.result() for m in self.metrics}

    def step_of_jax(self, state, data):
        import jax

        trainable, other, of_optimizer, of_metrics = state
        x, y = data

        def compute(trainable):
            y_pred, changed = self.stateless_call(trainable, other, x, training=True)
            aside, changed = self.stateless_call(trainable, changed, x + 0.1, training=True)
            loss = ops.mean(ops.square(y - y_pred)) + 0.1 * ops.mean(ops.square(aside - y_pred))
            return loss, (y_pred, changed)

        (loss, (y_pred, other)), gradients = jax.value_and_grad(compute, has_aux=True)(trainable)
        gradients = [ops.clip(g, -0.05, 0.05) for g in gradients]
        trainable, of_optimizer = self.optimizer.stateless_apply(of_optimizer, gradients, trainable)
        of_loss = len(self.loss_tracker.variables)
        loss_state = self.loss_tracker.stateless_update_state(of_metrics[:of_loss], loss)
        error_state = self.error_tracker.stateless_update_state(of_metrics[of_loss:], y, y_pred)
        logs = {
            "loss": self.loss_tracker.stateless_result(loss_state),
            "mae": self.error_tracker.stateless_result(error_state),
        }
        return logs, (trainable, other, of_optimizer, [*loss_state, *error_state])


model = Smooth()
model(x[:1])  # builds it
seed_weights(model)
model.compile(optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
history = model.fit(x, y, batch_size=64, epochs=10, shuffle=False, verbose=0)
print("loss", " ".join(f"{v:.4f}" for v in history.history["loss"]))
print(f"mae {history.history['mae'][-1]:.4f}")
print(f"predictions {model.predict(x[:3], verbose=0).ravel().round(3)}")
