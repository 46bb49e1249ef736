"""Fitted networks as models, and as the bytes of ``.hmill`` files that pickles hold."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from handmill import initializers
from handmill.errors import FileFormatError
from handmill.ir.op import Array
from handmill.models.estimators.network import Architecture, make_model, make_optimizer
from handmill.saving.archive import from_archive
from handmill.saving.hmill import check_version, members_of
from handmill.saving.json_data import from_json
from handmill.saving.stored_zip import to_archive
from handmill.saving.tensors import from_tensors

LOSSES = {
    "softmax": "sparse_categorical_crossentropy",
    "logistic": "binary_crossentropy",
    "identity": "mean_squared_error",
    "exp": "poisson",
}
"""Output activation, by scikit-learn's name -> loss of the compiled model."""

_NAME = "the network in the pickle"


def to_model(architecture: Architecture, weights: list[Array], optimizer_state: list[Array]) -> Any:
    """Returns a compiled model of its own with these weights and this state of the optimizer."""
    model = make_model(architecture, initializers.GlorotUniform(seed=0))
    model.compile(make_optimizer(architecture, 0.0), LOSSES[architecture.output])
    model.set_weights(weights)
    model.optimizer.build(model.trainable_variables)
    if optimizer_state:  # L-BFGS has none
        model.optimizer.set_weights(optimizer_state)
    return model


def to_bytes(
    architecture: Architecture, weights: list[Array], optimizer_state: list[Array]
) -> bytes:
    """Returns the content of the ``.hmill`` file of :func:`to_model`."""
    model = to_model(architecture, weights, optimizer_state)
    return b"".join(to_archive(members_of(model)))


def from_bytes(content: bytes) -> tuple[list[Array], list[Array]]:
    """Returns the weights and the state of the optimizer that :func:`to_bytes` wrote.

    Raises:
        FileFormatError: if the content is damaged, or of a later version of the format.
    """
    members = from_archive(io.BytesIO(content), len(content), _NAME)
    if missing := {"model.safetensors", "optimizer.safetensors", "state.json"} - set(members):
        raise FileFormatError(f"{_NAME} lacks {sorted(missing)}")
    check_version(_NAME, from_json(members["state.json"], f"{_NAME}: state.json"))
    weights = list(from_tensors(members["model.safetensors"], _NAME).values())
    state = list(from_tensors(members["optimizer.safetensors"], _NAME).values())
    inputs: Any = None
    for kernel, bias in zip(weights[::2], weights[1::2], strict=False):
        fits = kernel.ndim == 2 and bias.shape == kernel.shape[1:] and inputs in (None, len(kernel))
        if not fits or kernel.dtype != np.float32 or bias.dtype != np.float32:
            raise FileFormatError(f"{_NAME} holds weights that do not follow each other")
        inputs = len(bias)
    if not weights or len(weights) % 2:
        raise FileFormatError(f"{_NAME} holds {len(weights)} arrays, not kernels and biases")
    return weights, state
