"""Random small models trained by kernels and by the NumPy twin learn the same numbers.

What differs is explained: a constant added before BatchNormalization is taken away by it, so the
gradient of such a bias or beta is 0, and what is computed is the rounding of that 0. Adam and its
kin divide a gradient by its own size and so make whole steps of the rounding, in either executor
others. The loss does not depend on them; the moving mean behind them moves along.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import handmill as hm
from handmill import layers, optimizers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hm.config.has_kernels(), reason="a build without kernels"),
]

ACTIVATIONS = (None, "relu", "tanh", "gelu", "sigmoid")
OPTIMIZERS = (
    lambda: optimizers.Adam(0.01, amsgrad=True),
    lambda: optimizers.AdamW(0.01),
    lambda: optimizers.SGD(0.05, momentum=0.9),
    lambda: optimizers.RMSprop(0.005),
)


def trained(seed, backend):
    with hm.use_backend(backend), warnings.catch_warnings():
        warnings.simplefilter("ignore", hm.TrainingWarning)
        hm.utils.set_random_seed(seed)
        rng = np.random.default_rng(seed)
        stack = [layers.Input((int(rng.integers(2, 9)),))]
        for _ in range(rng.integers(1, 4)):
            units = int(rng.integers(2, 12))
            stack.append(layers.Dense(units, activation=ACTIVATIONS[rng.integers(5)]))
            if rng.random() < 0.5:
                stack.append(layers.BatchNormalization())
            if rng.random() < 0.3:
                stack.append(layers.Dropout(0.2))
        model = hm.Sequential([*stack, layers.Dense(3, activation="softmax")])
        optimizer = OPTIMIZERS[rng.integers(4)]()
        model.compile(optimizer, "sparse_categorical_crossentropy", ["accuracy"])
        rows = int(rng.integers(20, 70))
        x = rng.normal(size=(rows, stack[0].shape[-1])).astype("float32")
        y = rng.integers(0, 3, rows)
        return model, model.fit(x, y, epochs=3, batch_size=16, verbose=0).history, rows


def is_linear(layer):
    return layer.activation is None or layer.activation.__name__ == "linear"


def without_gradient(model):
    """The paths of the biases and betas that a BatchNormalization takes away.

    Behind a ReLU only where every sample of a batch is positive, which small ones often are.
    """
    found = set()
    for i, layer in enumerate(model.layers):
        shift = getattr(layer, "bias", None)
        if isinstance(layer, layers.BatchNormalization):
            shift = layer.beta
        elif not isinstance(layer, layers.Dense) or not (
            is_linear(layer) or layer.activation.__name__ == "relu"
        ):
            continue
        for following in model.layers[i + 1 :]:
            if isinstance(following, layers.BatchNormalization):
                found.add(shift.path)
            if not isinstance(following, layers.Dropout) and not (
                isinstance(following, layers.Dense) and is_linear(following)
            ):
                break
    return found


@pytest.mark.parametrize("seed", range(40))
def test_kernels_and_twin_learn_the_same(seed):
    (ours, history, rows), (twin, wanted, _) = trained(seed, "native"), trained(seed, "numpy")
    # One sample whose two highest probabilities lie a rounding apart may fall to either side.
    for found, want in zip(history["accuracy"], wanted["accuracy"], strict=True):
        assert abs(found - want) <= 1.001 / rows
    np.testing.assert_allclose(history["loss"], wanted["loss"], rtol=1e-4)
    left_out = without_gradient(ours)
    for variable, other in zip(ours.variables, twin.variables, strict=True):
        if variable.path in left_out or "moving" in variable.path:
            continue
        size = max(1.0, float(np.max(np.abs(other.numpy()))))
        np.testing.assert_allclose(
            variable.numpy(), other.numpy(), rtol=0, atol=1e-3 * size, err_msg=variable.path
        )
