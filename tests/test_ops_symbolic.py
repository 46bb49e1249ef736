"""Functions of ops called on tensors of the functional API."""

from __future__ import annotations

import numpy as np
import pytest

import handmill as keras
from handmill import ops


@pytest.mark.parametrize(
    ("function", "want"),
    (
        (ops.flip, lambda x: x[::-1, ::-1]),
        (lambda x: x[:, 3:0:-1], lambda x: x[:, 3:0:-1]),
        (lambda x: ops.tril(x, 1), lambda x: np.tril(x, 1)),
        (lambda x: ops.triu(x, -1), lambda x: np.triu(x, -1)),
        (lambda x: ops.vander(x[:, 0]), lambda x: np.vander(x[:, 0])),
        (lambda x: ops.vander(x[0], 3, True), lambda x: np.vander(x[0], 3, True)),
        (lambda x: ops.diag(x[0], 2), lambda x: np.diag(x[0], 2)),
        (lambda x: ops.diag(x[:, 0], -1), lambda x: np.diag(x[:, 0], -1)),
        (ops.diagflat, np.diagflat),
        (
            lambda x: ops.diagonal(ops.matmul(x, ops.transpose(x)), -2),
            lambda x: np.diagonal(x @ x.T, -2),
        ),
        (
            lambda x: ops.trace(ops.matmul(ops.transpose(x), x), 1),
            lambda x: np.trace(x.T @ x, 1),
        ),
        (lambda x: ops.repeat(x, [1, 0, 2, 1], 0), lambda x: np.repeat(x, [1, 0, 2, 1], 0)),
        (
            lambda x: ops.extract_sequences(x, 2, 1),
            lambda x: np.lib.stride_tricks.sliding_window_view(x, 2, -1),
        ),
        (
            lambda x: ops.slice_update(x, [1, -2], np.zeros((2, 2), "float32")),
            lambda x: np.where(np.outer(np.isin(range(4), [1, 2]), np.arange(5) > 2), 0, x),
        ),
        (lambda x: ops.sum(ops.sparsemax(x), -1), lambda x: np.ones(4)),
    ),
)
def test_sizes_of_inputs_may_be_open_in_functional_models(function, want):
    """They become operators of a model that can be copied, with symbols where they have sizes."""
    x = np.random.default_rng(3).integers(-3, 4, (4, 5)).astype("float32")
    inputs = keras.Input(batch_shape=(None, None))
    model = keras.Model(inputs, function(inputs))
    np.testing.assert_allclose(model(x), want(x), rtol=1e-6)
    np.testing.assert_array_equal(keras.models.clone_model(model)(x), model(x))
