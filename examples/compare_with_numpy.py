"""Check every number: the kernels of a training step against plain NumPy.

python examples/compare_with_numpy.py
"""

import numpy as np

import handmill as keras
from handmill import layers

(x, y), _ = keras.datasets.digits.load_data()
x = x.reshape(-1, 64) / 16.0


def train() -> tuple[keras.Sequential, list[float]]:
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(32, activation="tanh"),
            layers.Dropout(0.2),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model, model.fit(x, y, epochs=3, verbose=0).history["loss"]


# The same program, run by the kernels and then, operator by operator, by NumPy: same seeds, so
# the same initial weights, the same order of the rows and the same dropout masks.
model, with_kernels = train()
with keras.use_backend("numpy"):
    _, with_numpy = train()
for epoch, (a, b) in enumerate(zip(with_kernels, with_numpy, strict=True), 1):
    print(
        f"epoch {epoch}: loss {a:.6f} with kernels, {b:.6f} with NumPy, {abs(a / b - 1):.1e} apart"
    )

# One step, each operator on exactly the operands that its kernel had, in float64. An error of 1
# would be all that the operator's bound allows.
found = keras.compare(model, x[:32], y[:32])
for row in sorted(found.rows, key=lambda row: -row.error)[:3]:
    print(f"  {row.op} in {row.scope or 'the step'}: {row.error:.2f} of its bound")
print(f"{len(found.rows)} results compared: {'all right' if found.ok else 'WRONG'}")
found.raise_if_failed()

# Any function of handmill.ops can be checked by hand in the same way.
a, b = np.random.default_rng(0).normal(size=(2, 50, 50)).astype("float32")
print(f"matmul: {np.abs(keras.ops.matmul(a, b) - a.astype('float64') @ b).max():.1e} from float64")
