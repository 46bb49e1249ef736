"""Layers one after the other, as one layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from handmill import tree
from handmill.ir.trace import mask_of
from handmill.layers.layer import Layer
from handmill.layers.preprocessing.images.composition import AffineRun, with_runs
from handmill.saving.objects import deserialize_keras_object, serialize_keras_object


class Pipeline(Layer):
    """Applies layers one after the other; other than ``Sequential``, it is no model.

    What differs between training and inference is as in training, unless the call or the model
    around says otherwise: a pipeline usually prepares data.

    With ``sample_once`` neighbours among RandomRotation, RandomShear, RandomTranslation, RandomZoom
    and RandomFlip, of one ``fill_mode``, ``fill_value`` and ``interpolation``, sample images once,
    where their functions of places, one after the other, come to: what is drawn stays the same, but
    pixels are blended once instead of several times, so images stay sharper, and what one layer
    moves over the border comes back with another. That is also faster. A dictionary of images and
    what belongs to them is changed layer by layer even so, and so is what a subclass does.

    Args:
        layers: the layers, in their order.
        name: default: ``pipeline``, numbered.
        sample_once: whether neighbours that move pixels are one sampling.

    Raises:
        ValueError: for something that is no layer.

    Example:
        >>> import numpy as np
        >>> from handmill import layers
        >>> prepare = layers.Pipeline([layers.Rescaling(0.5), layers.Flatten()])
        >>> prepare(np.array([[[2.0], [4.0]]], "float32"))
        array([[1., 2.]], dtype=float32)
    """

    _convert_input_args = False

    def __init__(
        self, layers: Sequence[Layer], name: str | None = None, sample_once: bool = False
    ) -> None:
        if not isinstance(layers, Sequence):
            raise TypeError(
                "Pipeline: `layers` must be a list of layers. Received: "
                f"{layers!r} (of type {type(layers).__name__})"
            )
        wrong = [layer for layer in layers if not isinstance(layer, Layer)]
        if wrong:
            raise ValueError(
                "Pipeline: `layers` must be a list of layers. Received: "
                f"{wrong[0]!r} (of type {type(wrong[0]).__name__})"
            )
        super().__init__(name=name)
        self._pipeline_layers = list(layers)
        self.sample_once = bool(sample_once)

    @property
    def layers(self) -> list[Layer]:
        """The layers, in their order."""
        return self._pipeline_layers

    def build(self, input_shape: Any) -> None:
        """Builds the layers, each for what the one before gives."""
        left = list(self._pipeline_layers)
        while any(not layer.built for layer in left):
            layer = left.pop(0)
            if not layer.built:
                layer.build(input_shape)
                layer.built = True
            if left:
                input_shape = layer.compute_output_shape(input_shape)

    def call(self, inputs: Any, training: bool = True, mask: Any = None) -> Any:
        """Computes the output."""
        outputs = inputs
        at_once = self.sample_once and not isinstance(inputs, Mapping)
        for layer in with_runs(self.layers) if at_once else self.layers:
            if isinstance(layer, AffineRun):
                outputs = layer(outputs, training)
                continue
            given = {"mask": mask, "training": training}
            outputs = layer(
                outputs, **{n: v for n, v in given.items() if n in layer._call_parameters}
            )
            mask = tree.map_structure(mask_of, outputs)
        return outputs

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        config = {"name": self.name, "layers": serialize_keras_object(list(self._pipeline_layers))}
        return config | ({"sample_once": True} if self.sample_once else {})

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Makes a pipeline, and its layers, from its config.

        Raises:
            ValueError: if the config holds no list of layers.
        """
        layers = config.get("layers")
        if not isinstance(layers, list | tuple):
            raise ValueError(
                f"{cls.__name__}: the config must contain a list of `layers`. Received: "
                f"layers={layers!r}"
            )
        made = [deserialize_keras_object(layer, kind="layer") for layer in layers]
        return cls(**{**config, "layers": made})
