"""Copies of models, and models from JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from handmill.saving.objects import deserialize_keras_object, serialize_keras_object


def clone_model(
    model: Any, input_tensors: None = None, clone_function: Callable[[Any], Any] | None = None
) -> Any:
    """Returns a model of the same architecture with new weights.

    Args:
        model: a functional or sequential model.
        input_tensors: not supported; must be None.
        clone_function: not supported; must be None.
    """
    if input_tensors is not None or clone_function is not None:
        raise ValueError("`input_tensors` and `clone_function` are not supported yet")
    config = serialize_keras_object(model)
    config["config"] = json.loads(json.dumps(config["config"]))
    return type(model).from_config(config["config"])


def model_from_json(json_string: str, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Makes a model, with new weights, from what ``model.to_json()`` returned.

    Args:
        json_string: the text.
        custom_objects: name -> class of the user's.
    """
    return deserialize_keras_object(json.loads(json_string), custom_objects, kind="model")
