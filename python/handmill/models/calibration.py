"""Ranges of what layers are given, from data: what static quantization goes by."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from handmill import tree
from handmill.errors import warn_caller
from handmill.ir.op import Array
from handmill.layers.context import eager_calls
from handmill.layers.core.fake_quantization import byte_format
from handmill.layers.layer import Layer

_BATCH = 32
_FEW_ROWS = 32
_BINS = 2048
_LEVELS = 256
_SHARES = np.linspace(0.3, 1.0, 36)
"""Parts of a range among which a smaller one is looked for."""
_AUTO = ("minmax", "percentile", "mse")
_WANTED = (
    "static quantization needs `calibration_data`: inputs like those that the model will see, as "
    "`predict` takes them (arrays of rows), or an iterable of batches of them."
)


class Format(NamedTuple):
    """How a number is a byte: ``byte = round(x / step) + zero``."""

    step: np.float32
    zero: np.float32


def format_of(low: float, high: float) -> Format:
    """The format whose bytes reach from ``low`` to ``high``, widened to hold 0."""
    step, zero = byte_format(np.float32(low), np.float32(high))
    return Format(np.float32(step), np.float32(zero))


def formats(
    model: Any, layers: Sequence[Layer], config: Any
) -> tuple[dict[str, dict[Layer, Format]], list[Any]]:
    """What each observer makes of what the layers are given.

    Args:
        model: a built model.
        layers: those whose inputs are looked at.
        config: an :class:`handmill.quantizers.Int8StaticQuantizationConfig`.

    Returns:
        Observer -> layer -> format, without the layers that were not reached; and batches of rows
        that no range was taken from, for a choice among the observers.

    Raises:
        ValueError: if there are no rows, or some are not finite.
    """
    batches = rows_of(config)
    observers = _AUTO if config.observer == "auto" else (config.observer,)
    kept = len(batches) // 4 if config.observer == "auto" else 0
    seen, held = batches[: len(batches) - kept], batches[len(batches) - kept :]
    ends: dict[Layer, list[tuple[float, float]]] = {}

    def note(layer: Layer, x: Array) -> None:
        low, high = float(x.min()), float(x.max())
        if not np.isfinite(high - low) or high - low > float(np.finfo(np.float32).max):
            raise ValueError(
                f"calibration: the inputs of layer {layer.name!r} reach from {low:g} to {high:g}: "
                "ranges need finite numbers. Scale the inputs of the model, or look for weights "
                "that let them grow"
            )
        ends.setdefault(layer, []).append((low, high))

    _watch(model, layers, seen, note)
    lows = {layer: min(low for low, _ in found) for layer, found in ends.items()}
    highs = {layer: max(high for _, high in found) for layer, found in ends.items()}
    constant = [layer.name for layer in ends if lows[layer] == highs[layer]]
    if constant:
        warn_caller(
            f"calibration: the inputs of {constant[:5]} are one and the same number in all rows: "
            "their ranges say little about other data",
            UserWarning,
        )
    counts: dict[Layer, Array] = {}
    if not {"minmax", "moving_average"} >= set(observers):

        def count(layer: Layer, x: Array) -> None:
            span = min(lows[layer], 0.0), max(highs[layer], 0.0)
            found = np.histogram(x, _BINS, span if span[0] < span[1] else (0.0, 1.0))[0]
            counts[layer] = counts.get(layer, 0) + found

        _watch(model, layers, seen, count)
    made: dict[str, dict[Layer, Format]] = {}
    for observer in observers:
        made[observer] = {}
        for layer, found in ends.items():
            whole = min(lows[layer], 0.0), max(highs[layer], 0.0)
            if observer == "moving_average":
                whole = _averaged(found)
            elif observer != "minmax" and whole[0] < whole[1]:
                whole = _NARROWED[observer](counts[layer], *whole)
            made[observer][layer] = format_of(*whole)
    return made, held


# --- rows ----------------------------------------------------------------------------------------


def rows_of(config: Any) -> list[Any]:
    """The batches that a configuration's data hold, up to its number of rows.

    Raises:
        ValueError: if there are none, or a number is not finite.
    """
    data, wanted = config.calibration_data, config.num_samples
    if (
        data is None
        or isinstance(data, str | bytes)
        or not (hasattr(data, "__iter__") or hasattr(data, "__getitem__"))
    ):
        raise ValueError(f"{_WANTED} Received: {data!r:.200}")
    batches: list[Any] = []
    count = 0
    for batch in _batches_of(data):
        leaves = [np.asarray(leaf) for leaf in tree.flatten(batch)]
        if not leaves or not all(leaf.ndim and leaf.dtype.kind in "fiub" for leaf in leaves):
            raise ValueError(f"{_WANTED} Received a batch of {batch!r:.200}")
        size = len(leaves[0])
        if size == 0:
            continue
        left = min(size, wanted - count)
        batch = tree.map_structure(lambda leaf, n=left: np.asarray(leaf)[:n], batch)
        _check_finite(batch, count)
        batches.append(batch)
        count += left
        if count >= wanted:
            break
    if count == 0:
        raise ValueError("`calibration_data` holds no rows; some hundred are needed")
    if count < _FEW_ROWS:
        warn_caller(
            f"calibration: only {count} rows were there, of {wanted} wanted; ranges of so few are "
            "often too narrow",
            UserWarning,
        )
    return batches


def _batches_of(data: Any) -> Iterator[Any]:
    leaves = tree.flatten(data) if isinstance(data, list | tuple | dict) else [data]
    if leaves and all(hasattr(leaf, "shape") and hasattr(leaf, "__getitem__") for leaf in leaves):
        size = len(leaves[0])
        for i in range(0, size, _BATCH):
            yield tree.map_structure(lambda leaf, i=i: np.asarray(leaf[i : i + _BATCH]), data)
        return
    for batch in data:
        yield batch[0] if isinstance(batch, tuple) else batch


def _check_finite(batch: Any, first: int) -> None:
    for leaf in tree.flatten(batch):
        if leaf.dtype.kind == "f" and not np.isfinite(leaf).all():
            place = np.argwhere(~np.isfinite(leaf))[0]
            raise ValueError(
                f"`calibration_data` holds {leaf[tuple(place)]} in row {first + place[0]} at "
                f"{tuple(int(i) for i in place[1:])}: ranges need finite numbers"
            )


@contextmanager
def _watched(layers: Sequence[Layer], note: Callable[[Layer, Array], None]) -> Iterator[None]:
    """Calls ``note`` with what the layers are given by calls that Python runs."""

    def watching(layer: Layer) -> Callable[..., Any]:
        plain = type(layer).call

        def call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if np.asarray(inputs).dtype.kind == "f":
                note(layer, np.asarray(inputs, np.float32))
            return plain(layer, inputs, *args, **kwargs)

        return call

    try:
        for layer in layers:
            vars(layer)["call"] = watching(layer)
        yield
    finally:
        for layer in layers:
            vars(layer).pop("call", None)


def _watch(
    model: Any, layers: Sequence[Layer], batches: Sequence[Any], note: Callable[..., None]
) -> None:
    with _watched(layers, note), eager_calls():
        for batch in batches:
            model(batch, training=False)


# --- ranges --------------------------------------------------------------------------------------


def _averaged(ends: Sequence[tuple[float, float]]) -> tuple[float, float]:
    low, high = ends[0]
    for a, b in itertools.islice(ends, 1, None):
        low, high = 0.9 * low + 0.1 * a, 0.9 * high + 0.1 * b
    return low, high


def _percentile(counts: Array, low: float, high: float) -> tuple[float, float]:
    """All but one in ten thousand, half of them at each end."""
    share = np.cumsum(counts) / counts.sum()
    edges = np.linspace(low, high, _BINS + 1)
    first = int(np.searchsorted(share, 0.5e-4))
    last = int(np.searchsorted(share, 1.0 - 0.5e-4))
    return float(edges[first]), float(edges[min(last + 1, _BINS)])


def _least(cost: Callable[[float, float], float], low: float, high: float) -> tuple[float, float]:
    choices = [(low * share, high * share) for share in _SHARES]
    return min(choices, key=lambda ends: cost(*ends))


def _mse(counts: Array, low: float, high: float) -> tuple[float, float]:
    """The range whose steps leave the least squared error."""
    centres = (np.arange(_BINS) + 0.5) * ((high - low) / _BINS) + low

    def cost(a: float, b: float) -> float:
        step, zero = (float(v) for v in format_of(a, b))
        back = (np.clip(np.rint(centres / step) + zero, 0, 255) - zero) * step
        return float((counts * (back - centres) ** 2).sum())

    return _least(cost, low, high)


def _entropy(counts: Array, low: float, high: float) -> tuple[float, float]:
    """The range whose 256 steps tell most about what was seen (Kullback-Leibler).

    Zeros are exact in every range, so that they say nothing: behind a relu half of all numbers
    would lie in one bin, and the best range would be the one whose first step is shortest. As in
    NVIDIA's calibrators they count no more than their neighbours.
    """
    centres = (np.arange(_BINS) + 0.5) * ((high - low) / _BINS) + low
    middle = min(int(-low / (high - low) * _BINS), _BINS - 1)
    counts = counts.copy()
    beside = [i for i in (middle - 1, middle + 1) if 0 <= i < _BINS]
    counts[middle] = min(counts[middle], counts[beside].max())

    def cost(a: float, b: float) -> float:
        inside = (centres >= a) & (centres <= b)
        p = np.where(inside, counts, 0).astype(float)
        places = np.flatnonzero(inside)
        p[places[0]] += counts[centres < a].sum()  # what is cut off lies at the ends
        p[places[-1]] += counts[centres > b].sum()
        level = np.minimum(((centres - a) / (b - a) * _LEVELS).astype(int), _LEVELS - 1)[places]
        mass = np.bincount(level, np.where(inside, counts, 0)[places], _LEVELS)
        filled = np.bincount(level, counts[places] > 0, _LEVELS)
        q = np.zeros(_BINS)
        q[places] = np.where(counts[places] > 0, (mass / np.maximum(filled, 1))[level], 0)
        p, q = p / p.sum(), q / max(q.sum(), 1e-30)
        there = p > 0
        return float((p[there] * np.log(p[there] / np.maximum(q[there], 1e-12))).sum())

    return _least(cost, low, high)


_NARROWED: dict[str, Callable[[Array, float, float], tuple[float, float]]] = {
    "percentile": _percentile,
    "mse": _mse,
    "entropy": _entropy,
}
