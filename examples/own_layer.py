"""A layer of your own: with weights, trained, saved and loaded like any other.

python examples/own_layer.py
"""

import tempfile
from pathlib import Path

import numpy as np

import handmill as keras
from handmill import layers, ops


@keras.saving.register_keras_serializable(package="examples")
class Quadratic(keras.Layer):
    """``(x w) * (x v) + b``: products of inputs, which a Dense layer cannot make."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        shape = (input_shape[-1], self.units)
        self.w = self.add_weight(shape=shape, initializer="glorot_uniform", name="w")
        self.v = self.add_weight(shape=shape, initializer="glorot_uniform", name="v")
        self.b = self.add_weight(shape=(self.units,), initializer="zeros", name="b")

    def call(self, inputs):
        # Written once with handmill.ops; the gradient follows from it, kernels are fused into it.
        return ops.matmul(inputs, self.w) * ops.matmul(inputs, self.v) + self.b

    def get_config(self):
        return {**super().get_config(), "units": self.units}


# Is a point inside the circle? Linear in x * x and y * y, so one Quadratic layer will do.
rng = np.random.default_rng(0)
points = rng.uniform(-1, 1, (2000, 2)).astype("float32")
inside = (np.square(points).sum(axis=1) < 0.6).astype("float32")

keras.utils.set_random_seed(1)
model = keras.Sequential([keras.Input((2,)), Quadratic(2), layers.Dense(1, activation="sigmoid")])
model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy", metrics=["accuracy"])
model.fit(points, inside, epochs=30, verbose=0)
print(f"accuracy {model.evaluate(points, inside, verbose=0)[1]:.3f}")

# A file holds data only, never code; the class is found by the name under which it registered.
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "circle.hmill"
    model.save(path)
    again = keras.models.load_model(path)
np.testing.assert_array_equal(again.predict(points, verbose=0), model.predict(points, verbose=0))
print(f"saved and loaded: {again.layers[0].__class__.__name__} with {again.count_params()} weights")
