"""Layers as config dictionaries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from handmill.saving.objects import deserialize_keras_object, serialize_keras_object


def serialize(layer: Any) -> Any:
    """Returns a layer as a config dictionary."""
    return serialize_keras_object(layer)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Makes a layer from its config dictionary, without its weights."""
    return deserialize_keras_object(config, custom_objects, kind="layer")
