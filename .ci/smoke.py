"""Train, save and load a small model with the installed package: `smoke.py native|numpy`."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np

import handmill

executor = sys.argv[1]
if (importlib.util.find_spec("handmill._core") is not None) != (executor == "native"):
    sys.exit(f"this build should have been one for the {executor} executor")

rng = np.random.default_rng(0)
x = rng.normal(size=(512, 8)).astype("float32")
y = (x[:, 0] * x[:, 1] > 0).astype("int64")

handmill.utils.set_random_seed(1)
model = handmill.Sequential(
    [
        handmill.Input((8,)),
        handmill.layers.Dense(32, activation="relu"),
        handmill.layers.Dense(2, activation="softmax"),
    ]
)
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
losses = model.fit(x, y, epochs=30, batch_size=32, verbose=0).history["loss"]
if not losses[-1] < 0.7 * losses[0]:
    sys.exit(f"training did not learn: loss {losses[0]} -> {losses[-1]}")

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "model.hmill"
    model.save(path)
    again = handmill.models.load_model(path).predict(x, verbose=0)
np.testing.assert_array_equal(again, model.predict(x, verbose=0))
print(
    f"smoke: {executor} executor, Python {sys.version.split()[0]}, NumPy {np.__version__}, "
    f"loss {losses[0]:.3f} -> {losses[-1]:.3f}"
)
