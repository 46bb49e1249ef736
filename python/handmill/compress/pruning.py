"""Pruning: weights that are zero, and stay so while the model is trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill.arguments import finite_number
from handmill.compress.choice import SCOPES, Granularity, choose, granularity_of
from handmill.compress.schedules import Schedule, checked_sparsity
from handmill.layers.arguments import unique
from handmill.layers.layer import Layer, all_layers
from handmill.optimizers.masks import mask_of, owner_of, remove_masks, set_mask
from handmill.runtime.variable import Variable

_KERNELS = ("kernel", "recurrent_kernel", "pointwise_kernel")


@dataclass(frozen=True)
class Pruning:
    """What :func:`prune` did.

    Attributes:
        rows: (path of a weight, its elements, how many of them are zero).
        lasting: whether training keeps the zeros: the model was compiled.
    """

    rows: tuple[tuple[str, int, int], ...]
    lasting: bool

    @property
    def sparsity(self) -> float:
        """The part of the weights considered that is zero."""
        total = sum(size for _, size, _ in self.rows)
        return sum(zeros for *_, zeros in self.rows) / total if total else 0.0

    def __str__(self) -> str:
        width = max(len(path) for path, *_ in self.rows)
        lines = [f"{'weight':{width}}  elements     zeros"]
        for path, size, zeros in self.rows:
            lines.append(f"{path:{width}}  {size:8}  {zeros:8}  {zeros / max(size, 1):6.1%}")
        lines.append(
            "Zeros make a file smaller only when it is zipped, and nothing faster but predictions "
            "by float32 matrices of which half of the blocks of 16 outputs are zero (granularity "
            '"block"): compress.shrink() removes channels, and gains time and bytes.'
        )
        if not self.lasting:
            lines.append(
                "The model is not compiled: training would fill the zeros. Compile it, and prune "
                "it then, or train it with callbacks.Prune."
            )
        return "\n".join(lines)


def prune(
    model: Any,
    schedule: Any = None,
    granularity: str = "weight",
    scope: str | None = None,
    layers: Sequence[Any] | Callable[[Any], bool] | None = None,
) -> Pruning:
    """Sets the smallest weights of kernels to zero, for good.

    If the model is compiled, its optimizer keeps them at zero from now on: the mask is a part of
    the compiled update, after momentum, weight decay and constraints, and of the state that
    ``.hmill`` files and resumed runs hold. Exactly ``n - max(round(n * (1 - sparsity)), 1)`` of the
    n weights of all kernels are zero; of equally large ones the first stay. Biases,
    normalizations, embeddings and depthwise kernels are left alone.

    Args:
        model: a built model; its weights are changed.
        schedule: a sparsity from 0 to less than 1, or a schedule such as
            :class:`PolynomialDecay`, whose sparsity at the optimizer's current step is taken
            (``callbacks.Prune`` follows it while the model is trained). Not needed for ``"n:m"``.
        granularity: what becomes zero together: ``"weight"``; ``"block"``, 16 outputs at one input,
            which inference with float32 matrices passes over once half of them are zero, with the
            same results; ``"channel"``, an output with all its inputs; ``"2:4"``, two in each four
            inputs of an output, or other numbers: no instruction of a CPU gains by that.
        scope: how kernels share what goes. ``"erk"``, the default: small ones, such as that of the
            last layer, lose less than large ones, by the sum of their sizes over their product
            (Erdos-Renyi-Kernel: Evci et al., ICML 2020). ``"layer"``, as in TF-MOT: each has that
            sparsity. ``"global"``: those with small weights lose more; something stays of each.
        layers: the layers to prune, by name or as objects, or a function that is asked for each;
            default: all with kernels.

    Returns:
        A :class:`Pruning`: elements and zeros of each kernel.

    Raises:
        ValueError: for arguments out of range, a model that is not built or has no kernels, weights
            that are NaN or infinite; nothing is changed then.

    Example:
        >>> import handmill
        >>> model = handmill.Sequential([handmill.Input((8,)), handmill.layers.Dense(4)])
        >>> model.compile("adam", "mse")
        >>> handmill.compress.prune(model, 0.75).rows[0][1:]
        (32, 24)
    """
    chosen = granularity_of(granularity)
    sparsity = _sparsity_now(model, schedule, chosen)
    kernels = kernels_of(model, layers)
    arrays = finite_arrays(kernels)
    if scope not in (None, *SCOPES):
        raise ValueError(f"`scope` must be one of {SCOPES}. Received: {scope!r}")
    if scope in ("global", "erk") and chosen.kind == "n:m":
        raise ValueError(f"granularity {granularity!r} holds in each group: leave `scope` out")
    masks = choose(arrays, sparsity, chosen, scope or "erk")
    return apply_masks(model, kernels, masks)


def apply_masks(model: Any, kernels: Sequence[Variable], masks: Sequence[Any]) -> Pruning:
    """Sets weights to zero where masks are False; the optimizer, if there is one, keeps them so."""
    optimizer = model.optimizer if model.compiled else None
    rows = []
    owners = [] if optimizer is None else owners_of(model, kernels)
    for place, (kernel, mask) in enumerate(zip(kernels, masks, strict=True)):
        if optimizer is None:
            kernel.assign(np.where(mask, kernel.numpy(), 0.0))
        else:
            set_mask(owners[place], kernel, mask)
        rows.append((kernel.path, mask.size, int(mask.size - np.count_nonzero(mask))))
    return Pruning(tuple(rows), optimizer is not None)


def owners_of(model: Any, kernels: Sequence[Variable]) -> list[Any]:
    """The optimizers that update kernels, built if they were not."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return [owner_of(model.optimizer, kernel) for kernel in kernels]


def strip_pruning(model: Any) -> None:
    """Lets the optimizer forget which weights are pruned; they keep their values.

    Further training may fill the zeros. Files then hold nothing that Keras does not know.

    Args:
        model: a compiled model.

    Example:
        >>> import handmill
        >>> model = handmill.Sequential([handmill.Input((8,)), handmill.layers.Dense(4)])
        >>> model.compile("adam", "mse")
        >>> report = handmill.compress.prune(model, 0.75)
        >>> handmill.compress.strip_pruning(model)
        >>> "masked" in model.optimizer.get_config()
        False
    """
    optimizer = model.optimizer
    inner = getattr(optimizer, "inner_optimizer", None)
    several = [inner] if inner is not None else getattr(optimizer, "optimizers", [optimizer])
    for one in several:
        if one is not None:
            remove_masks(one)


def masks_in_force(model: Any, kernels: Sequence[Variable]) -> list[Any]:
    """The masks that training keeps, as arrays; None for a kernel without one."""
    masks = [mask_of(o, k) for o, k in zip(owners_of(model, kernels), kernels, strict=True)]
    return [None if mask is None else mask.numpy() for mask in masks]


def finite_arrays(kernels: Sequence[Variable]) -> list[Any]:
    """The contents of kernels.

    Raises:
        ValueError: if a number is NaN or infinite.
    """
    arrays = [kernel.numpy() for kernel in kernels]
    for kernel, array in zip(kernels, arrays, strict=True):
        if not np.isfinite(array).all():
            raise ValueError(
                f"{kernel.path!r} holds NaN or infinite numbers, which have no order: train the "
                "model again, or load weights from before"
            )
    return arrays


def kernels_of(model: Any, layers: Any = None) -> list[Variable]:
    """The trainable kernels of a model, each once.

    Raises:
        ValueError: if there are none, or ``layers`` names something else.
        TypeError: for a ``layers`` that is no list and no function.
    """
    if not getattr(model, "built", False):
        raise ValueError(
            f"model {getattr(model, 'name', model)!r} must be built before it is pruned: start it "
            "with an Input, or call it on a batch"
        )
    trained = {id(v) for v in model.trainable_variables}
    variables = (v for layer in _chosen(model, layers) for v in layer._own_variables())
    found: list[Variable] = unique(
        [v for v in variables if v.name in _KERNELS and id(v) in trained and len(v.shape) > 1]
    )
    if not found:
        raise ValueError(
            "there are no kernels to prune, cluster or factorize: layers that are frozen, "
            "quantized or have no matrix product are left out, and graphs of ONNX files. Do it "
            "before you quantize or freeze"
        )
    return found


def _chosen(model: Any, layers: Any) -> list[Layer]:
    every = list(all_layers(model))
    if layers is None:
        return every
    if callable(layers):
        return [layer for layer in every if layers(layer)]
    if not isinstance(layers, list | tuple):
        raise TypeError(
            "`layers` must be a list of layers or names, or a function of a layer. Received: "
            f"{layers!r}"
        )
    found = []
    for wanted in layers:
        fitting = [x for x in every if x is wanted or x.name == wanted]
        if not fitting:
            names = [x.name for x in every[1:]]
            raise ValueError(f"the model has no layer {wanted!r}; there are {names}")
        found += [inner for x in fitting for inner in all_layers(x)]
    return found


def _sparsity_now(model: Any, schedule: Any, granularity: Granularity) -> float:
    if granularity.kind == "n:m":
        own = granularity.zeros / granularity.group
        given = None if schedule is None else _sparsity_now(model, schedule, Granularity("weight"))
        if given is not None and given != own:
            raise ValueError(
                f"granularity '{granularity.zeros}:{granularity.group}' has a sparsity of {own:g}: "
                f"leave `schedule` out. Received: {given:g}"
            )
        return own
    if schedule is None:
        raise ValueError("`schedule` must be a sparsity from 0 to less than 1, or a schedule")
    if callable(schedule):
        at: Schedule = schedule
        step = model.optimizer.iterations if getattr(model, "compiled", False) else 0
        return checked_sparsity("the sparsity that `schedule` gives", at(int(np.asarray(step))))
    return checked_sparsity("`schedule`", finite_number("`schedule`", schedule))
