"""Masks: which entries of a tensor count. They travel beside values, from layer to layer.

A mask is a bool value with a True for each entry that counts, usually of shape (batch, time). It
is attached to a value while a program is traced (``Value.mask``) and to a KerasTensor while a
functional model is put together. The rules are those of Keras 3: a layer is handed the mask of
its input in an argument ``mask`` (``NAME_mask`` where several tensors are passed) that was left
out; what it returns carries the mask that ``compute_mask`` gives; losses and metrics leave masked
entries of the predictions out.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from handmill import tree
from handmill.errors import warn_caller
from handmill.ir.graph import Value, current_graph
from handmill.ir.trace import as_value, mask_of, with_mask


def masks_of(structure: Any) -> Any:
    """The masks of nested values, nested like them."""
    return tree.map_structure(mask_of, structure)


def has_mask(masks: Any) -> bool:
    """Whether any of nested masks is there."""
    return any(mask is not None for mask in tree.flatten(masks))


def missing_masks(
    parameters: Sequence[str], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """The mask arguments of a call that its tensors' masks fill.

    Args:
        parameters: names of the parameters of ``call``, in order.
        args: what is passed by position.
        kwargs: what is passed by name.
    """
    given = {**dict(zip(parameters, args, strict=False)), **kwargs}
    by_position = set(parameters[: len(args)])
    tensors = {
        name: value
        for name, value in given.items()
        if any(isinstance(x, Value) or mask_of(x) is not None for x in tree.flatten(value))
    }
    single = len(tensors) == 1
    wanted = {"mask" if single else f"{name}_mask": value for name, value in tensors.items()}
    return {
        name: masks_of(value)
        for name, value in wanted.items()
        if name in parameters and name not in by_position and given.get(name) is None
    }


def carry(layer: Any, inputs: Any, outputs: Any, previous: Any) -> None:
    """Attaches masks to what a layer returned.

    Args:
        layer: the layer.
        inputs: its first argument.
        outputs: what it returned, nested values.
        previous: the mask that it was passed, or that of its first argument.
    """
    if not layer.supports_masking:
        if has_mask(previous):
            warn_caller(
                f"Layer '{layer.name}' (of type {type(layer).__name__}) was passed an input with a "
                "mask attached to it. However, this layer does not support masking and will "
                "therefore destroy the mask information. Downstream layers will not see the mask.",
            )
        return
    flat = tree.flatten(outputs)
    if all(mask_of(x) is not None for x in flat):
        return
    masks = layer.compute_mask(inputs, previous)
    if masks is None:
        return
    for value, mask in zip(flat, tree.flatten(masks), strict=False):
        if mask_of(value) is None:
            graph = current_graph()
            if graph is not None and mask is not None and not isinstance(mask, Value):
                mask = as_value(graph, np.asarray(mask, bool))
            with_mask(value, mask)


def is_mask_name(name: Any) -> bool:
    """Whether an argument or input of this name takes a mask of attention: ``padding_mask``, ...

    Not ``mask`` itself: a recurrent layer that is told to pass over a whole row keeps its state.
    """
    return isinstance(name, str) and name.endswith("_mask")


def blank_rows(name: str, mask: Any) -> str | None:
    """Says which rows of a mask (batch, ...) leave out all that they have; None if none does."""
    if not isinstance(mask, np.ndarray) or mask.ndim < 2 or not mask.size:
        return None
    if mask.dtype.kind not in "biu" and not np.isin(mask, (0, 1)).all():
        return None  # no mask, which is said elsewhere
    counts = mask.any(axis=tuple(range(1, mask.ndim)))
    if counts.all():
        return None
    blank = np.flatnonzero(~counts)
    others = "" if blank.size == 1 else f", the first of {blank.size} such rows of {len(mask)}"
    return (
        f"`{name}` is False (0) everywhere in row {int(blank[0])}{others}: there is nothing to "
        "attend to, and what attention gives there is 0. Masks are True (1) for what counts and "
        "False (0) for padding; is this one inverted?"
    )


_warned: weakref.WeakSet[Any] = weakref.WeakSet()


def warn_of_blank_rows(layer: Any, named: Iterable[tuple[Any, Any]]) -> None:
    """Warns once of each layer that is called on arrays with a mask that leaves out a whole row.

    Args:
        layer: the layer.
        named: names and what is passed by them.
    """
    for name, value in named:
        if is_mask_name(name) and layer not in _warned:
            problem = blank_rows(name, value)
            if problem is not None:
                _warned.add(layer)
                warn_caller(f"{layer.describe()}: {problem}")
