"""Inputs by name, a sample weight for each row, batches from a generator and a PyDataset."""

import keras
import numpy as np
from keras import layers
from seeded import seed_weights

rng = np.random.default_rng(18)
rows = 480
data = {
    "surface": rng.uniform(20, 200, (rows, 1)).astype("float32") / 100,
    "place": rng.integers(0, 7, rows).astype("int32"),
    "photos": rng.normal(size=(rows, 4, 3)).astype("float32"),
}
value = data["surface"][:, 0] * 3 + data["place"] * 0.2 + data["photos"].mean((1, 2))
target = (value + rng.normal(0, 0.05, rows)).astype("float32")
weight = np.where(data["place"] == 0, 3.0, 1.0).astype("float32")

surface = keras.Input((1,), name="surface")
place = keras.Input((), dtype="int32", name="place")
photos = keras.Input((4, 3), name="photos")
merged = layers.concatenate(
    [
        surface,
        layers.Embedding(7, 3)(place),
        layers.Dense(4, activation="tanh")(layers.Flatten()(photos)),
    ]
)
output = layers.Dense(1)(layers.Dense(16, activation="relu")(merged))
model = seed_weights(keras.Model({"surface": surface, "place": place, "photos": photos}, output))
model.compile(keras.optimizers.Adam(0.01), loss="mse", weighted_metrics=["mae"])


def take(part):
    return {name: array[part] for name, array in data.items()}


class Batches(keras.utils.PyDataset):
    """The same rows, batch by batch."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        part = slice(50 * index, 50 * (index + 1))
        return take(part), target[part], weight[part]


def generate():
    while True:
        for index in range(8):
            part = slice(50 * index, 50 * (index + 1))
            yield take(part), target[part], weight[part]


start = model.get_weights()
first = slice(0, 400)
options = {"epochs": 5, "verbose": 0, "shuffle": False}
runs = {
    "arrays": lambda: model.fit(
        take(first), target[first], sample_weight=weight[first], batch_size=50, **options
    ),
    "dataset": lambda: model.fit(Batches(), **options),
    "generator": lambda: model.fit(generate(), steps_per_epoch=8, epochs=5, verbose=0),
}
for name, fit in runs.items():
    model.set_weights(start)
    model.compile(keras.optimizers.Adam(0.01), loss="mse", weighted_metrics=["mae"])
    history = fit().history
    print(name, " ".join(f"{k} {v[-1]:.4f}" for k, v in sorted(history.items())))
last = slice(400, None)
print("test", np.round(model.evaluate(take(last), target[last], verbose=0), 4))
print("unknown order", model.predict(dict(reversed(take(slice(0, 2)).items())), verbose=0).shape)
