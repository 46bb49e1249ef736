"""Transfer: a trained base is frozen under a new head, then thawed and tuned with small steps."""

import keras
import numpy as np
from keras import layers
from seeded import seed_weights

rng = np.random.default_rng(12)
shared = rng.normal(size=(12, 5))


def task(rows, weights):
    x = rng.normal(size=(rows, 12)).astype("float32")
    return x, np.argmax(np.tanh(x @ shared) @ weights, axis=1)


x_old, y_old = task(1000, rng.normal(size=(5, 4)))
x_new, y_new = task(300, rng.normal(size=(5, 3)))

inputs = keras.Input((12,))
hidden = layers.Dense(32, activation="relu")(inputs)
hidden = layers.BatchNormalization()(hidden)
features = layers.Dense(16, activation="relu", name="features")(hidden)
old = keras.Model(inputs, layers.Dense(4, activation="softmax")(features), name="old")
seed_weights(old)
old.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
old.fit(x_old, y_old, batch_size=50, epochs=8, shuffle=False, verbose=0)
print("old task {:.4f} {:.4f}".format(*old.evaluate(x_old, y_old, verbose=0)))

base = keras.Model(old.input, old.get_layer("features").output, name="base")
base.trainable = False
inputs = keras.Input((12,))
head = layers.Dense(3, activation="softmax", name="head")
model = keras.Model(inputs, head(base(inputs)), name="new")
head.set_weights([np.random.default_rng(1).normal(0, 0.3, (16, 3)), np.zeros(3)])
before = [w.copy() for w in base.get_weights()]
model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x_new[:200], y_new[:200], batch_size=20, epochs=6, shuffle=False, verbose=0)
unchanged = all(np.array_equal(a, b) for a, b in zip(before, base.get_weights(), strict=True))
print("weights that learn", len(model.trainable_weights), "base unchanged", unchanged)
print("head alone {:.4f} {:.4f}".format(*model.evaluate(x_new[200:], y_new[200:], verbose=0)))

base.trainable = True
for layer in base.layers:
    if isinstance(layer, layers.BatchNormalization):
        layer.trainable = False  # it keeps its averages as they are
model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x_new[:200], y_new[:200], batch_size=20, epochs=6, shuffle=False, verbose=0)
print("weights that learn", len(model.trainable_weights))
print("all of it {:.4f} {:.4f}".format(*model.evaluate(x_new[200:], y_new[200:], verbose=0)))
same = np.array_equal(before[4], base.get_weights()[4])
print("moving averages unchanged", same)
