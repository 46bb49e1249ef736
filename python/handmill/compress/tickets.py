"""Lottery tickets: the part of a network that, trained alone from its start, is as good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill.arguments import whole_number
from handmill.compress.choice import largest
from handmill.compress.pruning import apply_masks, finite_arrays, kernels_of
from handmill.compress.schedules import checked_sparsity
from handmill.ir.op import Array
from handmill.strategy.clones import copy_of, untouched


@dataclass(frozen=True)
class Ticket:
    """What :func:`lottery_ticket` found.

    Attributes:
        model: the sparse model, trained from the weights of its first epochs.
        rows: for each round the part of the weights that was left, and the loss of the last epoch.
    """

    model: Any
    rows: tuple[tuple[float, float], ...]

    def __str__(self) -> str:
        lines = ["weights left  loss"]
        lines += [f"{left:12.1%}  {loss:.4g}" for left, loss in self.rows]
        return "\n".join(lines)


def lottery_ticket(
    model: Any,
    x: Any,
    y: Any,
    rounds: int = 5,
    epochs: int = 10,
    rewind_epoch: int = 1,
    rate: float = 0.2,
    batch_size: int = 32,
) -> Ticket:
    """Trains, removes a part of the smallest weights, goes back, and trains again (Frankle, 2019).

    Each round removes ``rate`` of the weights that are left, the smallest of all kernels together,
    of the last kernel half as many; then weights and optimizer are what they were after
    ``rewind_epoch`` epochs, and the rest is trained alone.

    Args:
        model: a compiled functional or sequential model; it stays as it is, and so do seeds.
        x: inputs (rows, ...).
        y: targets.
        rounds: how often weights are removed; 5 rounds leave a third.
        epochs: of each training.
        rewind_epoch: the epoch to which weights go back; 0: the first weights.
        rate: the part that is removed in a round, from 0 to less than 1.
        batch_size: rows of a step.

    Returns:
        A :class:`Ticket`.

    Raises:
        ValueError: for arguments out of range, a model that cannot be copied.

    Example:
        >>> import numpy as np, handmill
        >>> model = handmill.Sequential([handmill.Input((8,)), handmill.layers.Dense(4)])
        >>> model.compile("adam", "mse")
        >>> x = np.ones((32, 8), "float32")
        >>> ticket = handmill.compress.lottery_ticket(model, x, x[:, :4], rounds=2, epochs=2)
        >>> [round(left, 3) for left, _ in ticket.rows]
        [1.0, 0.906, 0.812]
    """
    rounds = whole_number("`rounds`", rounds, 1)
    epochs = whole_number("`epochs`", epochs, 1)
    rewind = whole_number("`rewind_epoch`", rewind_epoch, 0)
    rate = checked_sparsity("`rate`", rate)
    if rewind >= epochs:
        raise ValueError(
            f"`rewind_epoch` must be less than `epochs`. Received: {rewind_epoch} and {epochs}"
        )
    if not getattr(model, "compiled", False):
        raise ValueError("lottery_ticket() needs a compiled model: call model.compile() before")
    with untouched():
        made = copy_of(model)
        kernels = kernels_of(made)
        masks = [np.ones(k.shape, np.bool_) for k in kernels]
        apply_masks(made, kernels, masks)  # before the state that is gone back to is taken
        settings = {"batch_size": batch_size, "verbose": 0}
        if rewind:
            made.fit(x, y, epochs=rewind, **settings)
        state = [*made.weights, *made.optimizer.variables]
        start = [v.numpy() for v in state]
        rows = []
        for number in range(rounds + 1):
            if number:
                masks = _fewer(finite_arrays(kernels), masks, rate)
                for variable, array in zip(state, start, strict=True):
                    variable.assign(array)
                apply_masks(made, kernels, masks)
            history = made.fit(x, y, epochs=epochs - rewind, **settings).history
            left = sum(int(m.sum()) for m in masks) / sum(m.size for m in masks)
            rows.append((left, float(history["loss"][-1])))
    return Ticket(made, tuple(rows))


def _fewer(arrays: list[Array], masks: list[Array], rate: float) -> list[Array]:
    """Masks without a part of what was left: the smallest of all but the last, half of the last."""
    *others, last = [np.abs(a[m]) for a, m in zip(arrays, masks, strict=True)]
    kept = [largest(last, max(1, round(last.size * (1 - rate / 2))))]
    if others:
        sizes = [o.size for o in others]
        marks = largest(np.concatenate(others), max(1, round(sum(sizes) * (1 - rate))))
        kept = [*np.split(marks, np.cumsum(sizes)[:-1]), *kept]
    found = []
    for mask, stays in zip(masks, kept, strict=True):
        if not stays.any():  # a kernel without a weight lets nothing through
            stays[0] = True
        smaller = mask.copy()
        smaller[mask] = stays
        found.append(smaller)
    return found
