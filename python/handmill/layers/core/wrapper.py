"""The base of layers that hold another layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from handmill.layers.layer import Layer
from handmill.saving.objects import deserialize_keras_object, serialize_keras_object


class Wrapper(Layer):
    """Base of layers that change what one other layer does: subclasses define ``call``.

    Args:
        layer: the layer inside.
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if ``layer`` is no layer.
    """

    def __init__(self, layer: Layer, **kwargs: Any) -> None:
        if not isinstance(layer, Layer):
            raise ValueError(
                f"Layer {layer!r} supplied to {type(self).__name__} isn't a supported layer "
                "type. Please ensure wrapped layer is a valid Keras layer: an instance of "
                "handmill.layers.Layer. "
                f"Received: layer={layer!r} (of type {type(layer).__name__})"
            )
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape: Any = None) -> None:
        """Builds the layer inside for the same input."""
        if not self.layer.built:
            self.layer.build(input_shape)
            self.layer.built = True

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "layer": serialize_keras_object(self.layer)}

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> Any:
        """Makes a layer, and the layer inside, from its config.

        Args:
            config: what :meth:`get_config` returned.
            custom_objects: name -> class of the user's, for the layer inside.
        """
        layer = deserialize_keras_object(config["layer"], custom_objects, kind="layer")
        return super().from_config({**config, "layer": layer})
