"""Models in which each layer feeds the next."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from handmill import dtype_policies, ops
from handmill.ir.trace import mask_of, with_mask
from handmill.layers.arguments import is_shape
from handmill.layers.core.input_layer import InputLayer
from handmill.layers.layer import Layer
from handmill.layers.placement import put_below
from handmill.layers.preprocessing.strings import StringLayer, as_strings
from handmill.layers.symbolic import KerasTensor, LayerGraph
from handmill.models.graph_config import layer_config
from handmill.models.host_part import host_part
from handmill.models.model import Model
from handmill.models.trainer import Trainer


class Sequential(Model):
    """A stack of layers.

    Weights are made at once if the first element is an ``Input`` (or the first layer has
    ``input_shape=``), otherwise at the first call on data.

    Args:
        layers: the layers, first to last.
        trainable: whether optimizers update the weights.
        name: the model's name.

    Example:
        >>> import handmill
        >>> from handmill.layers import Dense
        >>> model = handmill.Sequential([handmill.Input((4,)), Dense(3), Dense(2)])
        >>> model.output_shape
        (None, 2)
    """

    def __init__(
        self, layers: Sequence[Any] | None = None, trainable: bool = True, name: str | None = None
    ) -> None:
        self._graph: LayerGraph | None = None
        Layer.__init__(self, trainable=trainable, name=name)
        Trainer.__init__(self)
        self._layers: list[Layer] = []
        for layer in layers or ():
            self.add(layer, rebuild=False)
        self._maybe_rebuild()

    _undescribed = frozenset({"_graph"})  # it follows from the layers
    _input_was_made = False
    """Whether the input has the shape of the first data, which no ``Input`` asked for."""

    def add(self, layer: Any, rebuild: bool = True) -> None:
        """Appends a layer.

        Args:
            layer: a layer, or the result of ``Input``.
            rebuild: whether the model is built anew at once.

        Raises:
            ValueError: for what is not a layer, for a name that is taken, and for a layer that does
                not fit; the model stays as it was.
        """
        if isinstance(layer, KerasTensor):
            origin = layer.history.operation
            if not isinstance(origin, InputLayer):
                raise ValueError(
                    "Only the result of Input() can be added to a Sequential model as a tensor. "
                    f"Received: {layer!r}"
                )
            layer = origin
        if not isinstance(layer, Layer):
            raise ValueError(
                "Only instances of `handmill.Layer` can be added to a Sequential model. "
                f"Received: {layer} (of type {type(layer)})"
            )
        if any(layer.name == other.name for other in self._layers):
            raise ValueError(
                "All layers added to a Sequential model should have unique names. Name "
                f"'{layer.name}' is already the name of a layer in this model. Update the `name` "
                "argument to pass a unique name."
            )
        if isinstance(layer, InputLayer) and self._layers:
            raise ValueError(
                f"Sequential model '{self.name}' has already been configured to use input shape "
                f"{getattr(self._layers[0], 'batch_shape', None)}. You cannot add a different "
                "Input layer to it."
            )
        count, graph, built = len(self._layers), self._graph, self.built
        shape = layer._input_shape_argument
        if not self._layers and shape is not None and not isinstance(layer, InputLayer):
            self._layers.append(InputLayer(batch_shape=shape, dtype=layer.dtype))
        self._layers.append(layer)
        try:
            if rebuild:
                self._maybe_rebuild()
            else:
                self._reset()
        except BaseException:  # a layer that does not fit does not stay
            del self._layers[count:]
            self._graph, self.built = graph, built
            raise

    def pop(self, rebuild: bool = True) -> Layer:
        """Removes the last layer and returns it."""
        if not self.layers:
            raise ValueError(f"Sequential model '{self.name}' has no layers to remove.")
        layer = self._layers.pop()
        self._reset()
        if rebuild:
            self._maybe_rebuild()
        return layer

    def _reset(self) -> None:
        self._graph = self._host = None
        self.built = False

    def _maybe_rebuild(self) -> None:
        self._reset()
        if len(self._layers) > 1 and isinstance(self._layers[0], InputLayer):
            self.build()
        elif self._layers and isinstance(self._layers[0], Model):
            inner = self._layers[0]
            if inner._graph is not None and len(inner.inputs) == 1:
                self.build(inner.input_shape)

    def build(self, input_shape: Any = None) -> None:
        """Makes the weights of all layers.

        Args:
            input_shape: with None for the batch size; not needed after an ``Input``.
        """
        if not self._layers:
            raise ValueError(
                f"Sequential model {self.name} cannot be built because it has no layers. Call "
                "`model.add(layer)`."
            )
        if not isinstance(self._layers[0], InputLayer):
            if input_shape is None:
                raise ValueError("You must provide an `input_shape` argument.")
            if not is_shape(input_shape):
                return  # nested inputs, which `call` hands from layer to layer
            layers = [self._input_layer(tuple(input_shape)), *self._layers]
        else:
            if input_shape is not None:
                _check_shape(self, self._layers[0].batch_shape, input_shape)
            layers = self._layers
        x = inputs = layers[0].output
        for layer in layers[1:]:
            try:
                x = layer._call_symbolically((x,), {})
            except NotImplementedError:
                return  # a layer that cannot tell what it returns before it is called
            except TypeError as error:
                _check_arguments(layer, error)
                raise
        self._input_was_made |= layers is not self._layers
        self._layers[:] = layers
        self._graph = LayerGraph(inputs, x)
        self._host = host_part(self._graph)
        self._build_shapes = inputs.shape
        for layer in self._layers[1:]:
            put_below(self, layer)

    def _input_layer(self, shape: tuple[Any, ...]) -> InputLayer:
        first = self._layers[0]
        if isinstance(first, Model) and first._graph is not None:
            return InputLayer(batch_shape=shape, dtype=first.inputs[0].dtype)
        return InputLayer(batch_shape=shape)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Calls the layers, one after the other."""
        if self._graph is not None:
            return super().call(inputs, training, mask)
        if not self.layers:
            self.build()
        for layer in self.layers:
            inputs = layer(inputs)
        return inputs

    def _fitted(self, value: Any, tensor: KerasTensor) -> Any:
        other_sizes = value is not None and len(value.shape) == len(tensor.spec.shape)
        if not (self._input_was_made and other_sizes):
            return super()._fitted(value, tensor)
        # Another size is for the layers to refuse.
        return with_mask(ops.cast(value, tensor.dtype), mask_of(value))

    def _as_numbers(self, x: Any) -> Any:
        first = self._layers[0] if self._layers and self._graph is None else None
        arrays = isinstance(first, StringLayer) and isinstance(x, np.ndarray | list)
        if isinstance(first, StringLayer) and arrays and first.takes_strings(x):
            shape = as_strings(x, first.describe()).shape
            self._layers.insert(0, InputLayer(batch_shape=(None, *shape[1:]), dtype="string"))
            self.build()
        return super()._as_numbers(x)

    @property
    def layers(self) -> list[Layer]:
        """The layers, without the input."""
        layers = vars(self).get("_layers", [])
        return list(layers[1:] if layers and isinstance(layers[0], InputLayer) else layers)

    @layers.setter
    def layers(self, value: Any) -> None:
        raise AttributeError(
            "`Sequential.layers` attribute is reserved and should not be used. Use `add()` and "
            "`pop()` to change the layers in this model."
        )

    @property
    def operations(self) -> list[Layer]:
        """The layers, without the input."""
        return self.layers

    def _flatten_layers(self) -> Iterator[Layer]:
        yield from vars(self).get("_layers", [])

    @property
    def input_shape(self) -> Any:
        """The shape of the input."""
        return self._needed_graph("input shape").inputs[0].shape

    @property
    def output_shape(self) -> Any:
        """The shape of the output."""
        return self._needed_graph("output shape").outputs[0].shape

    def get_config(self) -> dict[str, Any]:
        """The architecture, as plain data."""
        config: dict[str, Any] = {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": dtype_policies.serialize(self.dtype_policy),
            "layers": [layer_config(layer) for layer in self._layers],
        }
        if self._graph is not None:
            config["build_input_shape"] = list(self._graph.inputs[0].shape)
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> Any:
        """Makes a model from its config, with new weights.

        Raises:
            ValueError: if the config is not that of a Sequential model.
        """
        from handmill.saving.objects import deserialize_keras_object

        if "name" not in config or not isinstance(config.get("layers"), list | tuple):
            raise ValueError(
                "A Sequential model configuration must be a dictionary containing the 'name' and "
                f"'layers' keys, the layers as a list. Received: keys {sorted(map(str, config))}"
            )
        model = cls(name=config["name"], trainable=config.get("trainable", True))
        for layer in config["layers"]:
            if not isinstance(layer, dict) or "config" not in layer:
                raise ValueError(
                    f"The config of a layer of the Sequential model {config['name']!r} is "
                    "malformed. Expected a dictionary containing a 'config' key. "
                    f"Received: {str(layer)[:200]}"
                )
            made = deserialize_keras_object(layer, custom_objects, kind="layer")
            model.add(made, rebuild=False)
        model._maybe_rebuild()
        shape = config.get("build_input_shape")
        if not model.built and shape is not None:
            model.build(tuple(shape))
        return model


def _check_arguments(layer: Layer, error: TypeError) -> None:
    """Refuses a layer that needs more than one argument.

    Raises:
        ValueError: if it does.
    """
    needed = [
        p.name
        for p in inspect.signature(layer.call).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(needed) > 1:
        raise ValueError(
            "Layers added to a Sequential model can only have a single positional argument, the "
            f"input tensor. Layer {type(layer).__name__} {layer.name!r} has multiple positional "
            f"arguments: {needed}; use handmill.Model(inputs, outputs)"
        ) from error


def _check_shape(model: Sequential, known: tuple[Any, ...], given: Any) -> None:
    """Refuses an input shape that contradicts the ``Input`` of a model.

    Raises:
        ValueError: if it does.
    """
    fits = isinstance(given, list | tuple) and len(given) == len(known)
    if not fits or any(
        None not in (size, wanted) and size != wanted
        for size, wanted in zip(given, known, strict=True)
    ):
        raise ValueError(
            f"Sequential model '{model.name}' has already been configured to use input shape "
            f"{known}. You cannot build it with input_shape {given}"
        )
