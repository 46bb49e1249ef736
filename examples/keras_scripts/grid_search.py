"""A grid of settings, each judged by cross-validation; the best is trained on everything."""

import itertools

import keras
import numpy as np
from keras import layers
from seeded import seed_weights

rng = np.random.default_rng(20)
x = rng.normal(size=(360, 7)).astype("float32")
y = np.argmax(np.stack([x[:, 0] * x[:, 1], x[:, 2], np.full(360, 0.3)], 1), axis=1)


def make_model(units, activation, optimizer):
    keras.backend.clear_session()
    model = keras.Sequential()
    model.add(keras.Input(shape=(7,)))
    model.add(layers.Dense(units, activation=activation))
    model.add(layers.Dense(3, activation="softmax"))
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return seed_weights(model)


def folds(rows, count):
    parts = np.array_split(np.arange(rows), count)
    for i in range(count):
        yield np.concatenate([p for j, p in enumerate(parts) if j != i]), parts[i]


grid = {
    "units": [8, 24],
    "activation": ["relu", "tanh"],
    "optimizer": ["adam", "rmsprop"],
}
results = []
for values in itertools.product(*grid.values()):
    settings = dict(zip(grid, values, strict=True))
    scores = []
    for train, test in folds(300, 3):
        model = make_model(**settings)
        model.fit(x[train], y[train], batch_size=20, epochs=5, shuffle=False, verbose=0)
        scores.append(model.evaluate(x[test], y[test], verbose=0)[0])
    results.append((float(np.mean(scores)), settings))
    print(" ".join(map(str, values)), f"{results[-1][0]:.4f}")
loss, best = min(results, key=lambda result: result[0])
print("best", best)
model = make_model(**best)
model.fit(x[:300], y[:300], batch_size=20, epochs=5, shuffle=False, verbose=0)
print("test {:.4f} {:.4f}".format(*model.evaluate(x[300:], y[300:], verbose=0)))
