"""Weights from NumPy's generator: a script then gives the same numbers wherever it runs."""

import numpy as np


def seed_weights(model, seed=0):
    """Fills the matrices of a built model; biases and scales stay as they are."""
    rng = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        if len(weight.shape) > 1:
            scale = np.sqrt(2.0 / sum(weight.shape))
            weight.assign(rng.normal(0.0, scale, weight.shape).astype("float32"))
    return model
