"""Stop training, save, load in another process and go on as if nothing had happened.

python examples/save_and_load.py
"""

import tempfile
from pathlib import Path

import numpy as np

import handmill as keras
from handmill import layers

(x, y), _ = keras.datasets.digits.load_data()
x = x.reshape(-1, 64) / 16.0


def new_model() -> keras.Sequential:
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(32, activation="relu"),
            layers.Dropout(0.1),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


model = new_model()
model.fit(x, y, epochs=2, shuffle=False, verbose=0)

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "model.hmill"
    # Architecture, weights, optimizer, iterations and the state of the random numbers; written
    # beside the old file and moved into its place, so that no half file is ever there.
    model.save(path)
    again = keras.models.load_model(path)
    size = path.stat().st_size
print(f"{size} bytes hold {again.count_params()} weights and the optimizer")

model.fit(x, y, epochs=2, shuffle=False, verbose=0)
again.fit(x, y, epochs=2, shuffle=False, verbose=0)
for mine, loaded in zip(model.get_weights(), again.get_weights(), strict=True):
    np.testing.assert_array_equal(mine, loaded)  # to the bit, dropout masks included
print("two more epochs, with the model and with what was loaded: the same bits")
