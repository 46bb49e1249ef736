"""Masks of pruned weights: part of every update, so that no momentum brings a weight back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from handmill import ops
from handmill.ir.op import Array
from handmill.runtime.variable import Variable

if TYPE_CHECKING:
    from handmill.optimizers.base import Optimizer

MASKED = "masked"
"""Key of a config, there only where something is pruned: the positions of variables with masks."""


def owner_of(optimizer: Any, variable: Variable) -> Optimizer:
    """The optimizer that updates a variable: of wrappers, the one inside.

    Raises:
        ValueError: if none does.
    """
    inner = getattr(optimizer, "inner_optimizer", None)
    for one in [inner] if inner is not None else getattr(optimizer, "optimizers", [optimizer]):
        if id(variable) in one._index:
            return one  # type: ignore[no-any-return]
    raise ValueError(
        f"the optimizer does not train {variable.path!r}: it is frozen, or not its own"
    )


def prunes(optimizer: Any) -> bool:
    """Whether an optimizer, or one inside of it, keeps weights at zero."""
    inner = getattr(optimizer, "inner_optimizer", None)
    several = [inner] if inner is not None else getattr(optimizer, "optimizers", [optimizer])
    return any(getattr(one, "_masked", None) for one in several)


def mask_of(optimizer: Optimizer, variable: Variable) -> Variable | None:
    """The mask of a variable, None if it has none."""
    return optimizer._masks.get(optimizer._get_variable_index(variable))


def set_mask(optimizer: Optimizer, variable: Variable, kept: Array) -> None:
    """Lets a variable differ from zero at some places only, from now on.

    Args:
        optimizer: the one that updates the variable; built.
        variable: what is pruned; its own content is set to zero elsewhere, too.
        kept: bool, of its shape.

    Raises:
        ValueError: for a mask of another shape or dtype, or a table of which rows are updated.
    """
    if kept.shape != variable.shape or kept.dtype != np.bool_:
        raise ValueError(
            f"a mask of {variable.path!r} must be bool of shape {variable.shape}, received "
            f"{kept.dtype} of shape {kept.shape}"
        )
    if variable.sparse_rows:
        raise ValueError(
            f"{variable.path!r} is updated row by row, a mask concerns all of it: make the layer "
            "without sparse_rows=True"
        )
    mask = mask_of(optimizer, variable)
    if mask is None:
        mask = _added(optimizer, optimizer._get_variable_index(variable))
    mask.assign(kept)
    pruned = [variable]
    if optimizer.use_ema:
        pruned.append(optimizer.slot(optimizer._model_variables_moving_average, variable))
    for one in pruned:
        one.assign(np.where(kept, one.numpy(), np.zeros((), one.numpy().dtype)))


def remove_masks(optimizer: Optimizer) -> None:
    """Forgets all masks; weights stay as they are."""
    gone = {id(mask) for mask in optimizer._masks.values()}
    optimizer._variables = [v for v in optimizer._variables if id(v) not in gone]
    optimizer._masks, optimizer._masked = {}, []


def hand_on_masks(model: Any, made: Any, variables: Sequence[Variable] | None = None) -> None:
    """Lets another optimizer keep at zero what a model's own one keeps at zero.

    Args:
        model: its optimizer may be None.
        made: what trains the model from now on, or None; it is built if something is pruned.
        variables: what it trains; default: what the model trains.
    """
    former = getattr(model, "optimizer", None)
    if made is None or made is former or not prunes(former):
        return
    own = list(model.trainable_variables)
    if not made.built:
        made.build(own if variables is None else list(variables))
    for variable in own:
        try:
            before, now = owner_of(former, variable), owner_of(made, variable)
        except ValueError:  # not trained by both of them
            continue
        mask = mask_of(before, variable)
        if mask is not None:
            set_mask(now, variable, mask.numpy())


def copy_masks(model: Any, copy: Any) -> list[str]:
    """Lets a copy of a model keep the weights at zero that the model's optimizer keeps at zero.

    Args:
        model: a compiled model.
        copy: a model of the same layers, compiled likewise and built, or neither.

    Returns:
        The paths of those weights of the model whose masks fit none of the copy's.
    """
    if not prunes(model.optimizer):
        return []
    left = []
    own, others = list(model.trainable_variables), list(copy.trainable_variables)
    alike = copy.compiled and copy.built and len(own) == len(others)
    for place, variable in enumerate(own):
        try:
            mask = mask_of(owner_of(model.optimizer, variable), variable)
        except ValueError:  # frozen after it was compiled
            continue
        if mask is None:
            continue
        if alike and others[place].shape == variable.shape:
            set_mask(owner_of(copy.optimizer, others[place]), others[place], mask.numpy())
        else:
            left.append(variable.path)
    return left


def build_masks(optimizer: Optimizer) -> None:
    """Makes the masks that a config names; they leave everything as it is until they are read.

    Raises:
        ValueError: for positions that no variable has.
    """
    for place in optimizer._masked:
        if place >= len(optimizer._trainable_variables):
            raise ValueError(f"`{MASKED}` names variable {place}, which there is not")
        _added(optimizer, place)


def _added(optimizer: Optimizer, place: int) -> Variable:
    variable = optimizer._trainable_variables[place]
    name = f"{variable.path.replace('/', '_')}_mask"
    mask = optimizer._track(Variable(np.ones(variable.shape, np.bool_), trainable=False, name=name))
    optimizer._masks = {**optimizer._masks, place: mask}
    optimizer._masked = list(optimizer._masks)
    return mask


def keep_zeros(optimizer: Optimizer, variables: Sequence[Variable]) -> None:
    """Ends a traced update: what masks exclude is zero, in the running means too."""
    for variable in variables:
        mask = mask_of(optimizer, variable)
        if mask is None:
            continue
        written = [variable]
        if optimizer.use_ema:
            written.append(optimizer.slot(optimizer._model_variables_moving_average, variable))
        for one in written:
            one.assign(ops.where(mask.value, one.value, ops.zeros_like(one.value)))


def masks_config(optimizer: Optimizer) -> dict[str, Any]:
    """The part of a config; empty where nothing is pruned."""
    return {MASKED: list(optimizer._masked)} if optimizer._masked else {}


def checked_positions(found: Any) -> list[int]:
    """What a config says of masks.

    Raises:
        ValueError: for anything but different positions.
    """
    if found is None:
        return []
    if (
        not isinstance(found, list)
        or not all(type(place) is int and place >= 0 for place in found)
        or len(set(found)) < len(found)
    ):
        raise ValueError(f"`{MASKED}` should hold positions of variables. Received: {found!r:.200}")
    return found
