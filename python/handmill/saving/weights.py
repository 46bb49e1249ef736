"""The variables of a model as named arrays, and back."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from handmill.errors import warn_caller
from handmill.ir.op import Array
from handmill.runtime.variable import Variable
from handmill.saving.file_range import assign_stored
from handmill.saving.objects import is_own
from handmill.saving.stored_variables import ASSET_HOOKS, check_stored
from handmill.saving.tensors import tensor_names


def learns_elsewhere(model: Any) -> bool:
    """Whether another thread trains the model.

    What is written is copied then: the checksum and the bytes of a file must be of one moment.
    """
    learner = getattr(model, "_fitting", 0)
    return bool(learner) and learner != threading.get_ident()


def named(variables: Sequence[Variable], copied: bool = False) -> dict[str, Array]:
    """Views of variables, or copies, under names that sort in order: number, then path."""
    names = tensor_names(v.path for v in variables)
    read = [v.numpy() if copied else v.read() for v in variables]
    return dict(zip(names, read, strict=True))


_HOOKS = ("save_own_variables", "load_own_variables", *ASSET_HOOKS)


def refuse_own_formats(model: Any) -> None:
    """Refuses layers that say themselves what a file holds of them: nobody would ask them.

    Raises:
        NotImplementedError: naming the layer and its method.
    """
    parts = [model.optimizer, model]
    seen: set[int] = set()
    while parts:
        part = parts.pop()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        parts += part._flatten_layers() if part is not model.optimizer else ()
        for hook in _HOOKS:
            method = getattr(type(part), hook, None)
            if method is not None and not is_own(method):
                raise NotImplementedError(
                    f"{type(part).__name__}.{hook} would not be called: files hold every variable "
                    "of a layer under its path, and nothing else. Keep what must be saved in "
                    "variables (add_weight) or in get_config, and remove the method; or save to "
                    "`.keras` or `.weights.h5`, where it is called."
                )


def refuse_lost_vocabularies(model: Any, config: Any) -> None:
    """Refuses layers that learned a vocabulary which the description of the model leaves out.

    Raises:
        NotImplementedError: naming the layer.
    """
    stored: set[str] = set()
    parts = [config]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            if _holds_vocabulary(part.get("build_config")):
                stored.add(part["config"].get("name"))
            parts += part.values()
        elif isinstance(part, list | tuple):
            parts += part
    layers = [model]
    while layers:
        layer = layers.pop()
        if layer.name in stored:
            continue
        if hasattr(layer, "get_vocabulary") and _holds_vocabulary(layer.get_build_config()):
            raise NotImplementedError(
                f"{layer.describe()} has learned a vocabulary, and it is an attribute of code of "
                "yours, which no file holds: the loaded model would not know it. Pass "
                "vocabulary= when the layer is made, or put the layer before the model, in a "
                "Sequential or functional model around both."
            )
        layers += layer._flatten_layers()


def _holds_vocabulary(build: Any) -> bool:
    """Whether a layer's ``build_config``, or one inside it, holds a vocabulary."""
    return isinstance(build, dict) and (
        "vocabulary" in build or any(map(_holds_vocabulary, build.values()))
    )


def _one_quantized(variables: Sequence[Variable], arrays: Sequence[tuple[str, Array]]) -> str:
    """A hint where either the file or the model has integers for weights."""
    own, theirs = ({t for t in found if t in ("int8", "uint8")} for found in (
        [v.dtype for v in variables], [str(a.dtype) for _, a in arrays]
    ))  # fmt: skip
    if theirs and not own:
        return ". The file holds quantized weights: quantize the model in the same way before"
    if own and not theirs:
        return ". The file holds float weights: load them before the model is quantized"
    return ""


def assign(
    variables: Sequence[Variable], arrays: Sequence[tuple[str, Array]], path: str, skip: bool
) -> None:
    """Assigns arrays in order, after every shape was checked."""
    if len(variables) != len(arrays):
        raise ValueError(
            f"{path} holds {len(arrays)} tensors, but the model has {len(variables)} variables: "
            f"{[v.path for v in variables][:8]}{_one_quantized(variables, arrays)}"
        )
    pairs = []
    for variable, (name, array) in zip(variables, arrays, strict=True):
        if variable.shape == array.shape:
            check_stored(variable, array)
            pairs.append((variable, array))
        elif not skip:
            raise ValueError(
                f"{path}: tensor {name!r} has shape {array.shape}, but variable {variable.path!r} "
                f"has shape {variable.shape}"
            )
        else:
            warn_caller(
                f"{path}: tensor {name!r} of shape {array.shape} was skipped; variable "
                f"{variable.path!r} has shape {variable.shape}",
                UserWarning,
            )
    assign_stored(pairs)
