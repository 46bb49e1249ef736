"""Shrinking: channels, neurons and heads are taken out, and a smaller ordinary model is left."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill.arguments import whole_number
from handmill.compress.choice import largest
from handmill.compress.pruning import finite_arrays
from handmill.compress.quantization_aware import refuse_adapted
from handmill.compress.rebuilding import cloned, rebuilt
from handmill.compress.schedules import checked_sparsity
from handmill.compress.structure import Group, Structure, structure_of
from handmill.ir.op import Array

_IMPORTANCES = ("l2", "l1", "bn", "random", "taylor")
_NEAR = 1e-4  # of the largest output: sums of the same terms, in another order


@dataclass(frozen=True)
class Shrinking:
    """What :func:`shrink` did.

    Attributes:
        model: the smaller model.
        rows: (first weight of a group, units before, units after, why not more).
        parameters: their number before, and after.
    """

    model: Any
    rows: tuple[tuple[str, int, int, str], ...]
    parameters: tuple[int, int]

    def __str__(self) -> str:
        width = max([len(row[0]) for row in self.rows], default=0)
        lines = [f"{'units of':{width}}  before  after"]
        for name, before, after, why in self.rows:
            lines.append(f"{name:{width}}  {before:6}  {after:5}  {why}".rstrip())
        before, after = self.parameters
        lines.append(f"parameters: {before:,} -> {after:,} ({after / max(before, 1):.0%})")
        return "\n".join(lines)


def shrink(
    model: Any,
    ratio: float,
    importance: str = "l2",
    round_to: int = 16,
    x: Any = None,
    y: Any = None,
    keep: Sequence[str] = (),
    seed: int = 0,
) -> Any:
    """Returns a smaller model, without the least important channels, neurons and heads.

    What belongs together goes together: the outputs of a layer, its biases and normalizations, the
    inputs of the layers that read them; where tensors are added, those of all of them. Which these
    are is read off the operators of the traced model. The result is a new ordinary model (it is
    trained, saved, exported as any other) that computes what ``model`` computes with the removed
    units set to zero; this is checked before it is returned. State of the optimizer is cut
    likewise, so that training goes on. Outputs stay, as do the features of a normalization that
    goes over them, and what ``keep`` names.

    Args:
        model: a built functional or sequential model; it stays as it is.
        ratio: the part of the units to remove, from 0 to less than 1. Half of the channels is
            about a quarter of the parameters.
        importance: by what units are ranked: ``"l2"``: squares of all weights of the unit, those
            that read it too, each kernel relative to its mean; ``"l1"``; ``"bn"``: the scale of
            its normalization (l2 where there is none); ``"taylor"``: weight times gradient on
            ``x`` and ``y``; ``"random"``.
        round_to: numbers of channels that stay are rounded up to multiples of it (half of it
            below twice as many), since vectors have 16 numbers; 1: not at all.
        x: inputs, for ``"taylor"``.
        y: targets, for ``"taylor"``.
        keep: names of layers, or paths of weights, that stay as they are.
        seed: of ``"random"``.

    Returns:
        The smaller model. :func:`shrink_report` gives it with a table.

    Raises:
        ValueError: for arguments out of range, a model that cannot be made anew or has nothing
            that can go (each reason is named), weights that are not finite.

    Example:
        >>> import handmill
        >>> from handmill import layers
        >>> model = handmill.Sequential([
        ...     handmill.Input((8,)), layers.Dense(64, "relu"), layers.Dense(3)])
        >>> [w.shape for w in handmill.compress.shrink(model, 0.5).weights]
        [(8, 32), (32,), (32, 3), (3,)]
    """
    return shrink_report(model, ratio, importance, round_to, x, y, keep, seed).model


def shrink_report(
    model: Any,
    ratio: float,
    importance: str = "l2",
    round_to: int = 16,
    x: Any = None,
    y: Any = None,
    keep: Sequence[str] = (),
    seed: int = 0,
) -> Shrinking:
    """As :func:`shrink`, with what happened to each group of units.

    Args:
        model: see :func:`shrink`, as all that follow.
        ratio: the part of the units to remove.
        importance: by what units are ranked.
        round_to: what numbers of channels are rounded up to.
        x: inputs, for ``"taylor"``.
        y: targets, for ``"taylor"``.
        keep: what stays.
        seed: of ``"random"``.

    Example:
        >>> import handmill
        >>> from handmill import layers
        >>> model = handmill.Sequential([
        ...     handmill.Input((8,)), layers.Dense(64, "relu", name="a"), layers.Dense(3)])
        >>> handmill.compress.shrink_report(model, 0.5).parameters
        (771, 387)
    """
    ratio = checked_sparsity("`ratio`", ratio)
    round_to = whole_number("`round_to`", round_to, 1)
    if importance not in _IMPORTANCES:
        raise ValueError(f"`importance` must be one of {_IMPORTANCES}. Received: {importance!r}")
    refuse_adapted(model, "shrink")
    structure = structure_of(model)
    if whole := [w.path for w in structure.weights if w.dtype in ("int8", "uint8")]:
        raise ValueError(f"{whole[0]!r} is quantized: shrink the float model, and quantize then")
    finite_arrays([w for w in structure.weights if w.dtype.startswith(("float", "bfloat"))])
    squares = _sizes(model, structure, importance, x, y)
    _check_keep(structure, keep)
    generator = np.random.default_rng(seed)
    gone: list[Array] = []
    rows = []
    for group in structure.groups:
        held = next((k for k in keep if _names(structure, group, k)), None)
        if held is not None:
            rows.append((group.name, group.size, group.size, f"kept, as asked for: {held}"))
            continue
        if not len(group.units):
            rows.append((group.name, group.size, group.size, f"kept: {group.reason}"))
            continue
        stay = _count(group, ratio, round_to)
        scores = (
            generator.random(len(group.units))
            if importance == "random"
            else _scores(structure, group, squares, importance)
        )
        removed = group.units[~largest(scores, stay)]
        gone.append(removed)
        why = group.reason and f"some must stay: {group.reason}"
        after = group.size - len(removed)
        if ratio and not why and after > math.ceil((1 - ratio) * group.size):
            why = "rounded up" if after > 1 else "one stays"
        rows.append((group.name, group.size, after, why))
    if not gone:
        reasons = "; ".join(f"{name}: {why}" for name, _, _, why in rows)
        raise ValueError(f"no unit of model {model.name!r} can be removed. {reasons}")
    removed = np.concatenate(gone)
    kept = structure.kept(removed)
    made = rebuilt(model, structure.weights, kept, structure.outputs(removed))
    _prove(model, made, structure, removed)
    sizes = tuple(sum(int(np.prod(w.shape)) for w in m.weights) for m in (model, made))
    return Shrinking(made, tuple(rows), sizes)  # type: ignore[arg-type]


def _count(group: Group, ratio: float, round_to: int) -> int:
    """How many of the units that can go stay."""
    stay = max(1, math.ceil((1.0 - ratio) * group.size - 1e-9))
    step = round_to if group.size * group.width >= 2 * round_to else max(1, round_to // 2)
    stay = math.ceil(math.ceil(stay * group.width / step) * step / group.width)
    return max(0, min(stay, group.size) - (group.size - len(group.units)))


def _names(structure: Structure, group: Group, name: str) -> bool:
    return any(_has(structure.weights[n].path, name) for n, _ in group.places)


def _has(path: str, name: str) -> bool:
    return f"/{name}/" in f"/{path}/"


def _check_keep(structure: Structure, keep: Sequence[str]) -> None:
    if isinstance(keep, str) or not all(isinstance(k, str) for k in keep):
        raise TypeError(f"`keep` must be a list of names. Received: {keep!r}")
    for name in keep:
        if not any(_has(w.path, name) for w in structure.weights):
            paths = [w.path for w in structure.weights[:8]]
            raise ValueError(f"`keep`: no weight has {name!r} in its path; there are {paths}")


def _sizes(model: Any, structure: Structure, importance: str, x: Any, y: Any) -> list[Array]:
    """What counts of each element of each weight."""
    arrays = [np.asarray(w.numpy(), np.float64) for w in structure.weights]
    if importance == "taylor":
        if x is None or y is None or not model.compiled:
            raise ValueError("importance='taylor' needs `x`, `y` and a compiled model")
        return _taylor(model, structure, arrays, x, y)
    return [np.abs(a) if importance == "l1" else np.square(a) for a in arrays]


def _taylor(model: Any, structure: Structure, arrays: list[Array], x: Any, y: Any) -> list[Array]:
    from handmill.runtime.tape import GradientTape

    with GradientTape() as tape:
        loss = model.compute_loss(x=x, y=y, y_pred=model(x, training=False))
    trained = list(model.trainable_variables)
    found = dict(zip(map(id, trained), tape.gradient(loss, trained), strict=True))
    gradients = [found.get(id(w)) for w in structure.weights]
    return [
        np.zeros_like(a) if g is None else np.square(a * np.asarray(g))
        for a, g in zip(arrays, gradients, strict=True)
    ]


def _scores(structure: Structure, group: Group, squares: Sequence[Array], importance: str) -> Array:
    if importance == "bn":
        scales = tuple(p for p in group.places if structure.weights[p[0]].name == "gamma")
        if scales:
            only = Group(group.name, group.units, group.size, scales, group.width, "")
            return structure.scores(only, squares)
    return structure.scores(group, squares)


def masked(model: Any, structure: Structure, removed: Array) -> Any:
    """A copy of the model whose removed units are zero."""
    made = cloned(model)
    for new, old, axes in zip(made.weights, structure.weights, structure.numbers, strict=True):
        array = old.numpy().copy()
        for axis, ids in enumerate(axes):
            index = [slice(None)] * array.ndim
            index[axis] = np.isin(ids, removed)  # type: ignore[call-overload]
            array[tuple(index)] = 0
        new.assign(array)
    return made


def _prove(model: Any, made: Any, structure: Structure, removed: Array) -> None:
    """Compares the smaller model with the one whose units are zero.

    Raises:
        ValueError: if they differ by more than roundings.
    """
    from handmill import tree

    inputs = drawn_inputs(model)
    fed = inputs[0] if len(inputs) == 1 else inputs
    want = tree.flatten(masked(model, structure, removed).predict(fed, verbose=0))
    got = tree.flatten(made.predict(fed, verbose=0))
    for a, b in zip(want, got, strict=True):
        scale = float(np.max(np.abs(a), initial=0.0)) or 1.0
        if a.shape != b.shape or not np.max(np.abs(a - b), initial=0.0) <= _NEAR * scale:
            raise ValueError(
                f"the smaller model does not compute what {model.name!r} does without the removed "
                "units: sizes are used in a way that the operators do not show. Leave the layers "
                "concerned out with `keep`"
            )


def drawn_inputs(model: Any) -> list[Array]:
    """Four rows for each input of a model, drawn from a fixed seed; whole numbers are 0 or 1."""
    generator = np.random.default_rng(0)
    found = []
    for tensor in model.inputs:
        shape = (4, *(64 if size is None else int(size) for size in tensor.shape[1:]))
        whole = tensor.dtype.startswith(("int", "uint", "bool"))
        drawn = generator.integers(0, 2, shape) if whole else generator.normal(size=shape)
        found.append(drawn.astype("float32" if not whole else tensor.dtype))
    return found
