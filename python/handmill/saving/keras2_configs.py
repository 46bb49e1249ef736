"""Descriptions of models as Keras 2 wrote them, in the words of Keras 3."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from handmill.saving.objects import MODULES, ROOT_CLASSES

_BY_ARGUMENT = (
    ("initializer", "initializers"),
    ("regularizer", "regularizers"),
    ("constraint", "constraints"),
    ("learning_rate", "optimizers.schedules"),
)
"""How the name of an argument ends -> the module of the object that it is."""

_DROPPED = {
    "InputLayer": ("ragged", "sparse", "optional"),
    "BatchNormalization": ("fused", "virtual_batch_size", "adjustment", "_use_v2_behavior"),
    "Embedding": ("input_length",),
    "Lambda": ("function_type", "module", "output_shape_type", "output_shape_module"),
}
"""Arguments that Keras 3 no longer has, by class; refused where they ask for something."""

_MAY_BE_LOST = {"fused", "_use_v2_behavior", "input_length", *_DROPPED["Lambda"]}
"""Those that change no number, or belong to code that is refused."""


def in_words_of_keras3(config: Any, argument: str = "layers") -> Any:
    """Returns the description of a model, or of a part of it.

    Args:
        config: the description; one of Keras 3 is returned as it is.
        argument: the name of the argument that the part is.

    Raises:
        ValueError: for what Keras 3 has no words for.
    """
    if isinstance(config, list):
        return [in_words_of_keras3(item, argument) for item in config]
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "__tuple__":
        return in_words_of_keras3(config.get("items"), argument)
    if "class_name" not in config or "config" not in config:
        return {key: in_words_of_keras3(item, key) for key, item in config.items()}
    return _object(config, argument)


def _object(config: Mapping[str, Any], argument: str) -> dict[str, Any]:
    name, inner = config["class_name"], config["config"]
    made = {key: value for key, value in config.items() if key not in ("config", "inbound_nodes")}
    if isinstance(name, str) and "module" not in config:
        made["module"] = _module_of(name, argument)
    if name == "Sequential" and isinstance(inner, list):
        inner = {"name": None, "layers": inner}
    if not isinstance(inner, dict):
        made["config"] = inner
    else:
        found = {key: in_words_of_keras3(value, key) for key, value in inner.items()}
        made["config"] = _arguments(str(name), found)
        if "input_layers" in found:
            made["config"]["layers"] = _calls(inner["layers"], found["layers"])
            if any("batch_input_shape" in layer["config"] for layer in inner["layers"]):
                for ends in ("input_layers", "output_layers"):  # one tensor came without a list
                    made["config"][ends] = _alone(found[ends])
    return made


def _module_of(name: str, argument: str) -> str:
    if name in ROOT_CLASSES:
        return "keras"
    for end, module in _BY_ARGUMENT:
        if argument.endswith(end):
            return f"keras.{module}"
    kinds = [argument] if argument in MODULES else []
    for module in (*kinds, "layers", "initializers", "regularizers", "constraints"):
        if name in importlib.import_module(MODULES[module]).__dir__():
            return f"keras.{module}"
    return f"keras.{argument}"


def _arguments(name: str, config: dict[str, Any]) -> dict[str, Any]:
    policy = config.get("dtype")
    if isinstance(policy, dict) and "class_name" in policy:
        config["dtype"] = policy["config"]["name"]
    if name == "InputLayer" and "batch_input_shape" in config:
        config["batch_shape"] = config.pop("batch_input_shape")
    if name == "LeakyReLU" and "alpha" in config:
        config["negative_slope"] = config.pop("alpha")
    if name == "Lambda" and isinstance(config.get("function"), list):
        config["function"] = {"class_name": "__lambda__", "config": {}}
    if isinstance(config.get("axis"), list) and len(config["axis"]) == 1:
        config["axis"] = config["axis"][0]
    for key in _DROPPED.get(name, ()):
        if config.pop(key, None) and key not in _MAY_BE_LOST:
            raise ValueError(f"{name}({key}=...) of Keras 2 is not supported")
    return config


def _calls(layers: Sequence[Any], entries: list[Any]) -> list[Any]:
    """Gives the layers of a functional model their calls: ``args`` and ``kwargs`` of tensors."""
    for old, new in zip(layers, entries, strict=True):
        nodes = old.get("inbound_nodes", [])
        new["inbound_nodes"] = [n if isinstance(n, dict) else _call(n) for n in nodes]
        new.setdefault("name", new["config"].get("name"))
    return entries


def _call(node: Any) -> dict[str, Any]:
    """A call: ``[[layer, call, output, kwargs], ...]``, or one such tensor alone."""
    tensors = [node] if _is_tensor(node) else list(node)
    kwargs: dict[str, Any] = {}
    for tensor in tensors:
        if not _is_tensor(tensor):
            raise ValueError(f"a layer of Keras 2 is called on {tensor!r:.80}, which is no tensor")
        kwargs.update(tensor[3] if len(tensor) > 3 else {})
    arguments = [_tensor(tensor) for tensor in tensors]
    return {"args": [arguments if len(arguments) > 1 else arguments[0]], "kwargs": kwargs}


def _alone(places: Any) -> Any:
    return places[0] if isinstance(places, list) and len(places) == 1 else places


def _is_tensor(x: Any) -> bool:
    return isinstance(x, list) and len(x) in (3, 4) and isinstance(x[0], str)


def _tensor(place: Sequence[Any]) -> dict[str, Any]:
    return {"class_name": "__keras_tensor__", "config": {"keras_history": list(place[:3])}}


def compile_config_of(training: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what ``compile`` was given, as Keras 3 writes it.

    Args:
        training: the ``training_config`` of a file.
    """
    optimizer = training["optimizer_config"]
    made = None
    if optimizer is not None:
        made = _object({**optimizer, "module": "keras.optimizers"}, "optimizers")
        made["config"] = _optimizer_arguments(made["config"])
    return {
        "optimizer": made,
        "loss": _losses(in_words_of_keras3(training.get("loss"), "losses")),
        "loss_weights": training.get("loss_weights"),
        "metrics": _metrics(training.get("metrics")),
        "weighted_metrics": _metrics(training.get("weighted_metrics")),
    }


_NOT_ARGUMENTS = ("is_legacy_optimizer", "jit_compile")


def _optimizer_arguments(config: dict[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in config.items() if key not in _NOT_ARGUMENTS}
    if "lr" in found:
        found["learning_rate"] = found.pop("lr")
    if found.get("epsilon", 0) is None:
        del found["epsilon"]
    if decay := found.pop("decay", None):
        found["learning_rate"] = {
            "module": "keras.optimizers.schedules",
            "class_name": "InverseTimeDecay",
            "config": {
                "initial_learning_rate": found["learning_rate"],
                "decay_steps": 1,
                "decay_rate": decay,
            },
        }
    return found


def _losses(config: Any) -> Any:
    if isinstance(config, list):
        return [_losses(item) for item in config]
    if not isinstance(config, dict):
        return config
    if "class_name" not in config:
        return {key: _losses(item) for key, item in config.items()}
    if not isinstance(config["config"], dict):  # a function, by its name
        return config
    inner = {k: v for k, v in config["config"].items() if k not in ("fn", "axis")}
    if inner.get("reduction") in ("auto", "none"):
        inner["reduction"] = {"auto": "sum_over_batch_size", "none": None}[inner["reduction"]]
    return {**config, "config": inner}


def _metrics(config: Any) -> Any:
    if isinstance(config, list):
        if len(config) == 1 and isinstance(config[0], list):  # of the one output
            config = config[0]
        return [_metrics(item) for item in config]
    if not isinstance(config, dict):
        return config
    if "class_name" not in config:
        return {key: _metrics(item) for key, item in config.items()}
    if not isinstance(config["config"], dict):
        return config
    if config["class_name"] == "MeanMetricWrapper":
        name, function = config["config"].get("name"), config["config"].get("fn")
        known = importlib.import_module("handmill.metrics.registry").TABLE
        return name if name in (*known, "accuracy", "acc") else function
    return in_words_of_keras3(config, "metrics")
