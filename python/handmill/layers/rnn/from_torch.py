"""Weights of torch's recurrent layers, in the order of gates that layers have here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_GATES = {1: (0,), 3: (1, 0, 2), 4: (0, 1, 2, 3)}
"""By their number, the places of our gates among torch's: r, z, n of a GRU are z, r, h here."""


def recurrent_weights_from_torch(
    state: Mapping[str, Any], layer: int = 0
) -> list[np.ndarray[Any, Any]]:
    """Turns the weights of ``torch.nn.RNN``, ``GRU`` or ``LSTM`` into those of a layer here.

    For torch's bidirectional layers they are those of ``Bidirectional``. A layer without biases
    needs ``use_bias=False``; that of a GRU must be ``reset_after=True``, the default.

    Args:
        state: what ``state_dict()`` of torch's layer gives: tensors or arrays by name.
        layer: which of the stacked layers, from 0.

    Returns:
        For each direction kernel, recurrent kernel and, if there are any, biases, float32: what
        ``set_weights`` takes.

    Raises:
        ValueError: if a name is missing, or a shape belongs to no such layer.

    Example:
        >>> import numpy as np
        >>> from handmill import layers
        >>> state = {
        ...     "weight_ih_l0": np.ones((16, 3)), "weight_hh_l0": np.ones((16, 4)),
        ...     "bias_ih_l0": np.ones(16), "bias_hh_l0": np.ones(16),
        ... }
        >>> [w.shape for w in layers.recurrent_weights_from_torch(state)]
        [(3, 16), (4, 16), (16,)]
    """
    found: list[np.ndarray[Any, Any]] = []
    for direction in ("", "_reverse"):
        if direction and f"weight_ih_l{layer}{direction}" not in state:
            continue
        parts = {}
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            key = f"{name}_l{layer}{direction}"
            if key in state:
                parts[name] = np.asarray(state[key], np.float32)
            elif name.startswith("weight"):
                raise ValueError(
                    f"recurrent_weights_from_torch: there is no {key!r}; there are {sorted(state)}"
                )
        found += _of_direction(parts, layer)
    return found


def _of_direction(parts: Mapping[str, Any], layer: int) -> list[np.ndarray[Any, Any]]:
    rows, units = parts["weight_hh"].shape
    order = _GATES.get(rows // units) if rows % units == 0 else None
    if order is None or len(parts["weight_ih"]) != rows:
        shapes = {name: part.shape for name, part in parts.items()}
        raise ValueError(
            "recurrent_weights_from_torch: weight_ih and weight_hh of 1, 3 or 4 gates were "
            f"expected in layer {layer} (without a projection), received {shapes}"
        )

    def turned(name: str) -> np.ndarray[Any, Any]:
        gates = np.split(parts[name], len(order))
        return np.ascontiguousarray(np.concatenate([gates[i] for i in order]).T)

    found = [turned("weight_ih"), turned("weight_hh")]
    if "bias_ih" in parts:
        biases = [turned("bias_ih"), turned("bias_hh")]
        found.append(np.stack(biases) if len(order) == 3 else biases[0] + biases[1])
    return found
