"""Two tasks on one trunk: a number and a class, with weights, losses and metrics by name."""

import keras
import numpy as np
from keras import layers
from seeded import seed_weights

rng = np.random.default_rng(7)
x = rng.normal(size=(800, 10)).astype("float32")
price = (x[:, 0] * 2 - x[:, 1] + rng.normal(0, 0.1, 800)).astype("float32")
kind = ((x[:, 2] + x[:, 3] > 0).astype(int) + (x[:, 0] > 1)).astype("int32")

inputs = keras.Input((10,), name="features")
trunk = layers.Dense(32, activation="relu", name="trunk")(inputs)
price_out = layers.Dense(1, name="price")(layers.Dense(16, activation="relu")(trunk))
kind_out = layers.Dense(3, activation="softmax", name="kind")(trunk)
model = seed_weights(keras.Model(inputs, {"price": price_out, "kind": kind_out}))
model.compile(
    optimizer=keras.optimizers.Adam(0.01),
    loss={"price": keras.losses.Huber(), "kind": "sparse_categorical_crossentropy"},
    loss_weights={"price": 1.0, "kind": 0.5},
    metrics={"price": ["mae"], "kind": ["accuracy"]},
)
history = model.fit(
    x[:600],
    {"price": price[:600], "kind": kind[:600]},
    validation_data=(x[600:], {"price": price[600:], "kind": kind[600:]}),
    batch_size=60,
    epochs=10,
    shuffle=False,
    verbose=0,
)
for name in sorted(history.history):
    print(f"{name} {history.history[name][0]:.4f} -> {history.history[name][-1]:.4f}")
result = model.evaluate(
    x[600:], {"price": price[600:], "kind": kind[600:]}, return_dict=True, verbose=0
)
print("evaluate", {name: round(float(value), 4) for name, value in sorted(result.items())})
predicted = model.predict(x[600:], verbose=0)
print({name: value.shape for name, value in sorted(predicted.items())})
