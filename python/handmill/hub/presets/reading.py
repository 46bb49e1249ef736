"""Models from folders: strictly, or not at all."""

from __future__ import annotations

import importlib
import inspect
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from handmill.errors import warn_caller
from handmill.hub.presets.folder import CONFIG, folder_of, read_settings, read_weights
from handmill.hub.presets.layout import Layout, Part
from handmill.hub.presets.settings import Settings
from handmill.ir.op import Array
from handmill.runtime.variable import Variable, limited_bytes, stored_values

_SHOWN = 12
_HEADROOM = 64 << 20  # for what a folder does not hold: the head of a new task, small variables


def layouts() -> dict[str, Layout]:
    """The layouts that are known, by what config.json calls the family."""
    rooms = ("bert_layout", "gpt2_layout", "llama_layout")
    found = [importlib.import_module(f"handmill.hub.presets.{room}").LAYOUT for room in rooms]
    return {layout.model_type: layout for layout in found}


def model_from_folder(cls: Any, preset: Any, load_weights: bool, given: dict[str, Any]) -> Any:
    """Makes a model from a folder; see ``FromPreset.from_preset``."""
    folder = folder_of(preset)
    settings = Settings(read_settings(folder / CONFIG), os.fspath(folder / CONFIG))
    layout = _layout_of(settings)
    cls, backbone_cls = _classes(cls, layout)
    tensors = _named(read_weights(folder), layout, os.fspath(folder)) if load_weights else {}
    own, of_backbone = _shared_out(cls, backbone_cls, given)
    arguments = layout.arguments(settings, frozenset(of_backbone))
    if cls is not backbone_cls:
        own = {**layout.tasks[str(_known(cls, layout))].arguments(settings), **own}
    settings.finish()
    _settle_head(cls, backbone_cls, layout, tensors, arguments)
    budget = sum(math.prod(a.shape) for a in tensors.values()) * 8 + _HEADROOM
    if not load_weights:
        return _made(cls, backbone_cls, arguments | of_backbone, own)
    with limited_bytes(budget), stored_values() as undrawn:
        model = _made(cls, backbone_cls, arguments | of_backbone, own)
    pairs = _matched(model, layout, tensors, os.fspath(folder))
    stored = set()
    for variable, array in pairs:
        variable.assign(array)
        stored.add(id(variable))
    for variable, draw in undrawn:
        if id(variable) not in stored:
            variable.assign(draw())
    return model


def _layout_of(settings: Settings) -> Layout:
    known = layouts()
    family = settings.get("model_type")
    if family not in known:
        raise ValueError(
            f"{settings.name}: models of the type {family!r} are not known here; known: "
            f"{', '.join(known)}"
        )
    return known[family]


def _known(cls: Any, layout: Layout) -> str | None:
    """The name of the class, or of the one that it comes from, that a layout knows."""
    names = {layout.backbone, *layout.tasks}
    return next((base.__name__ for base in cls.__mro__ if base.__name__ in names), None)


def _classes(cls: Any, layout: Layout) -> tuple[Any, Any]:
    """The class of the model, and that of its backbone.

    Raises:
        ValueError: if the folder holds another family.
    """
    models = importlib.import_module("handmill.hub.models")
    backbone = getattr(models, layout.backbone)
    if _known(cls, layout) is None:
        family = [getattr(models, name) for name in (layout.backbone, *layout.tasks)]
        fitting = [own for own in family if issubclass(own, cls)]
        if len(fitting) != 1:
            raise ValueError(
                f"{cls.__name__} cannot be made from a folder with a model of the type "
                f"{layout.model_type!r}, which is read by {', '.join(c.__name__ for c in family)}"
            )
        cls = fitting[0]
    return cls, cls if _known(cls, layout) == layout.backbone else backbone


def _shared_out(
    cls: Any, backbone_cls: Any, given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the caller gives to the task, and to the backbone.

    Raises:
        TypeError: for an argument that neither has.
    """
    of_backbone = set(inspect.signature(backbone_cls).parameters) - {"kwargs"}
    if cls is backbone_cls:
        of_task: set[str] = set()
        of_backbone |= {"name", "trainable"}
    else:
        of_task = set(inspect.signature(cls).parameters) - {"kwargs", "backbone"} | {"name"}
    if unknown := [name for name in given if name not in of_task | of_backbone]:
        raise TypeError(
            f"{cls.__name__}.from_preset() got unexpected arguments {unknown}; known: "
            f"{', '.join(sorted(of_task | of_backbone))}"
        )
    own = {name: value for name, value in given.items() if name in of_task}
    return own, {name: value for name, value in given.items() if name not in own}


def _made(cls: Any, backbone_cls: Any, arguments: Mapping[str, Any], own: Mapping[str, Any]) -> Any:
    backbone = backbone_cls(**arguments)
    return backbone if cls is backbone_cls else cls(backbone, **own)


def _named(tensors: Mapping[str, Array], layout: Layout, where: str) -> dict[str, Array]:
    """Tensors by their names without the prefix, as newer files spell them.

    Raises:
        ValueError: if two tensors get one name.
    """
    prefix = layout.prefix
    is_prefixed = any(name.startswith(prefix) for name in tensors)
    found: dict[str, Array] = {}
    for name, array in tensors.items():
        # What has no prefix where others have it keeps its name, and is then left over.
        short = name.removeprefix(prefix) if is_prefixed else name
        if is_prefixed and short == name and not name.startswith(layout.heads):
            short = f"/{name}"
        for old, new in layout.renamed.items():
            short = f"{short.removesuffix(old)}{new}" if short.endswith(old) else short
        if layout.ignored.fullmatch(short):
            continue
        if short in found:
            raise ValueError(f"{where} holds the tensor {short!r} twice")
        found[short] = array
    return found


def _settle_head(
    cls: Any,
    backbone_cls: Any,
    layout: Layout,
    tensors: dict[str, Array],
    arguments: dict[str, Any],
) -> None:
    """Drops a head that is the table of vectors again; unties one that is not."""
    head = "lm_head.weight"
    if "tie_word_embeddings" not in arguments:
        return
    if cls is backbone_cls:
        arguments["tie_word_embeddings"] = (
            True  # a backbone's folder has no matrix for the way back
        )
        return
    if arguments["tie_word_embeddings"] and head in tensors:
        vectors = tensors.get(layout.embedding)
        if vectors is not None and np.array_equal(vectors, tensors[head]):
            del tensors[head]
        else:
            arguments["tie_word_embeddings"] = False


def parts_of(model: Any, layout: Layout) -> Iterator[tuple[str, Part]]:
    """The tensors of a model: beginning of the name in a file, and the part."""
    name = _known(type(model), layout)
    if name == layout.backbone:
        yield from (("", part) for part in layout.parts(model))
        return
    task = layout.tasks[str(name)]
    for part in layout.parts(model.backbone):
        if not part.name.startswith(task.lacks or ("/",)):
            yield layout.prefix, part
    yield from (("", part) for part in task.parts(model))


def _matched(
    model: Any, layout: Layout, tensors: Mapping[str, Array], where: str
) -> list[tuple[Variable, Array]]:
    """Each weight with its content.

    Raises:
        ValueError: naming every tensor that is missing, left over or of another shape.
    """
    parts = [part for _, part in parts_of(model, layout)]
    new = _new_parts(parts, layout, tensors)
    if new:
        warn_caller(
            f"{where} does not hold {', '.join(sorted(new))}: {model.describe()} begins with new "
            "weights there, and has to be trained",
            UserWarning,
        )
    pairs: list[tuple[Variable, Array]] = []
    problems: list[str] = []
    used = set()
    for part in parts:
        if part.name in new:
            continue
        used.add(part.name)
        array = tensors.get(part.name)
        if array is None:
            problems.append(f"{part.name} is missing, expected shape {part.shape}")
        elif tuple(array.shape) != part.shape:
            turned = tuple(array.shape) == part.shape[::-1]
            hint = "; it looks transposed" if turned else ""
            problems.append(f"{part.name} has shape {tuple(array.shape)}, not {part.shape}{hint}")
        elif not (array.dtype.kind == "f" or array.dtype.name == "bfloat16"):
            problems.append(f"{part.name} holds {array.dtype.name}, not floats")
        else:
            pairs += part.take_apart(array)
    left = _left_over(tensors.keys() - used, model, layout)
    problems += [
        f"{name.removeprefix('/')} is left over, with shape {tuple(tensors[name].shape)}"
        for name in left
    ]
    if problems:
        more = len(problems) - _SHOWN
        raise ValueError(
            f"{where} does not fit {model.describe()}: {len(problems)} of its tensors.\n  "
            + "\n  ".join(problems[:_SHOWN])
            + (f"\n  ... and {more} more" if more > 0 else "")
        )
    return pairs


def _new_parts(parts: list[Part], layout: Layout, tensors: Mapping[str, Array]) -> set[str]:
    """Names of parts that a folder of another task lacks as a whole: a head, a pooler."""
    groups: dict[str, list[str]] = {}
    for part in parts:
        for beginning in (*layout.heads, *layout.optional):
            if part.name.startswith(beginning) and beginning != "lm_head.":
                groups.setdefault(beginning, []).append(part.name)
    return {
        name
        for names in groups.values()
        for name in names
        if not any(other in tensors for other in names)
    }


def _left_over(names: set[str], model: Any, layout: Layout) -> list[str]:
    """Tensors that neither the model nor another task of the family has."""
    others = (*layout.heads, *layout.optional)
    own = {part.name for _, part in parts_of(model, layout)}
    mine = {b for b in others if any(name.startswith(b) for name in own)}
    return sorted(n for n in names if not n.startswith(tuple(b for b in others if b not in mine)))
