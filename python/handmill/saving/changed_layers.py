"""Layers inside code of the user's that were quantized or adapted after it made them.

The description of a class is its arguments, which make its layers as they were at first; what was
done to them since stands beside it in the file.
"""

from __future__ import annotations

from typing import Any

from handmill.errors import FileFormatError
from handmill.runtime.watch import is_ours

KEY = "changed_layers"


def changes_of(model: Any) -> list[dict[str, Any]]:
    """What was done to layers that only code of the user's makes, and LoRA inside any layer.

    Args:
        model: a built model.

    Returns:
        For each such layer its place among all, its class, and how it is quantized or adapted.
    """
    from handmill import quantizers
    from handmill.layers.layer import all_layers
    from handmill.layers.quantizable import all_inside, resolved_config

    places = {id(layer): i for i, layer in enumerate(dict.fromkeys(all_layers(model)))}
    found = []
    by_code = dict.fromkeys(_made_by_code(model))
    # The configs of our own layers tell how layers inside are quantized, not of LoRA in them.
    inside = [part for layer in all_layers(model) for part in all_inside(layer)]
    for layer in dict.fromkeys([*by_code, *inside]):
        change: dict[str, Any] = {}
        if layer in by_code and layer.quantization_mode is not None:
            config = getattr(layer, "quantization_config", None)
            config = config or resolved_config(layer.quantization_mode, None)
            change["quantized"] = quantizers.serialize(config)
        if layer in by_code and getattr(layer, "quantize_aware", None) is not None:
            change["quantize_aware"] = quantizers.serialize(layer.quantize_aware)
        if getattr(layer, "lora_enabled", False):
            change["lora"] = [layer.lora_rank, layer.lora_alpha]
        if change:
            found.append({"place": places[id(layer)], "class": type(layer).__name__, **change})
    return found


def change_again(model: Any, changes: Any, path: Any) -> None:
    """Does to the layers of a model what :func:`changes_of` tells, where it is not done yet.

    Args:
        model: the model that the description made, built; its weights are not read yet.
        changes: from the file.
        path: of the file.

    Raises:
        FileFormatError: if the model has no such layers.
    """
    if not changes:
        return
    from handmill import quantizers
    from handmill.layers.layer import all_layers

    every: list[Any] = list(dict.fromkeys(all_layers(model)))
    for change in changes:
        place = change["place"]
        if type(place) is not int or not 0 <= place < len(every):
            raise FileFormatError(f"{path}: {KEY} names layer {place!r} of {len(every)}")
        layer = every[place]
        if type(layer).__name__ != change["class"]:
            raise FileFormatError(
                f"{path}: layer {place} of model {model.name!r} was a {change['class']} when the "
                f"file was written, and is a {type(layer).__name__} now: has its class changed?"
            )
        if "quantized" in change and layer.quantization_mode is None:
            config = quantizers.deserialize(change["quantized"])
            layer.quantize_to(config, layer._check_quantizable(config, False))
        if "quantize_aware" in change and layer.quantize_aware is None:
            layer.simulate(quantizers.deserialize(change["quantize_aware"]))
        if "lora" in change and not layer.lora_enabled:
            layer.enable_lora(*change["lora"][:1], lora_alpha=change["lora"][1])


def _made_by_code(model: Any) -> list[Any]:
    """The layers inside classes that are the user's, and no functional or sequential models."""
    found: dict[Any, None] = {}

    def walk(layer: Any, inside: bool) -> None:
        if inside:
            found[layer] = None
        described = is_ours(type(layer)) or getattr(layer, "_graph", None) is not None
        for part in layer._flatten_layers():
            walk(part, inside or not described)

    walk(model, False)
    return list(found)
