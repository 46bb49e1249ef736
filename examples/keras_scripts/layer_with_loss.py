"""A layer of one's own with weights, a penalty through add_loss, a config, and a saved form."""

import json

import keras
import numpy as np
from keras import layers, ops
from seeded import seed_weights

rng = np.random.default_rng(15)
x = rng.normal(size=(500, 20)).astype("float32")
y = (x[:, :1] - 2 * x[:, 1:2] + 0.1 * rng.normal(size=(500, 1))).astype("float32")


@keras.saving.register_keras_serializable(package="scripts")
class Gates(layers.Layer):
    """Multiplies each feature by a gate from 0 to 1, and asks the gates to be few."""

    def __init__(self, rate=0.01, gate_initializer="zeros", **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.gate_initializer = keras.initializers.get(gate_initializer)

    def build(self, input_shape):
        self.gate = self.add_weight(
            name="gate",
            shape=(input_shape[-1],),
            initializer=self.gate_initializer,
            trainable=True,
        )
        self.calls = self.add_weight(
            name="calls", shape=(), dtype="int32", initializer="zeros", trainable=False
        )

    def call(self, inputs, training=None):
        gates = ops.sigmoid(self.gate)
        self.add_loss(self.rate * ops.sum(gates))
        if training:
            self.calls.assign_add(1)
        return inputs * gates

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "rate": self.rate,
                "gate_initializer": keras.initializers.serialize(self.gate_initializer),
            }
        )
        return config


model = keras.Sequential([keras.Input((20,)), Gates(0.02), layers.Dense(1)])
seed_weights(model)
model.compile(keras.optimizers.Adam(0.05), loss="mse")
print("losses of the layer", len(model.losses))
history = model.fit(x, y, batch_size=50, epochs=25, shuffle=False, verbose=0)
print(f"loss {history.history['loss'][0]:.4f} -> {history.history['loss'][-1]:.4f}")
gates = 1 / (1 + np.exp(-np.asarray(model.layers[0].gate)))
print("open gates", int((gates > 0.5).sum()), gates[:4].round(2))
print("steps counted", int(np.asarray(model.layers[0].calls)))

copy = keras.Sequential.from_config(json.loads(json.dumps(model.get_config())))
copy.set_weights(model.get_weights())
same = np.allclose(copy.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)
print("from its config:", same, copy.layers[0].rate)
again = keras.models.clone_model(model)
print("cloned:", [type(layer).__name__ for layer in again.layers])
