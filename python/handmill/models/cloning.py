"""Copies of models, and models from JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from handmill import tree
from handmill.errors import warn_caller
from handmill.layers.core.input_layer import Input, InputLayer
from handmill.layers.op_function import OpFunction
from handmill.layers.operation import OpLayer
from handmill.layers.symbolic import KerasTensor
from handmill.models.model import Functional, Model
from handmill.models.sequential import Sequential
from handmill.optimizers.masks import copy_masks
from handmill.saving.objects import (
    CustomObjectScope,
    deserialize_keras_object,
    is_own,
    serialize_keras_object,
)


def clone_model(
    model: Any,
    input_tensors: Any = None,
    clone_function: Callable[[Any], Any] | None = None,
    call_function: Callable[..., Any] | None = None,
    recursive: bool = False,
) -> Any:
    """Returns a model of the same architecture with new weights.

    Weights that :func:`handmill.compress.prune` keeps at zero are kept at zero in the copy of a
    compiled model too; where that cannot be, a warning names them.

    Args:
        model: a functional or sequential model; another one is made anew from its config.
        input_tensors: tensors to start from instead of new inputs, nested like those of the model.
        clone_function: makes the new layer from the old one, for each layer but inputs; by
            default from its config. It may return the layer itself, to share it.
        call_function: called as ``call_function(layer, *args, **kwargs)`` to apply a new layer, so
            that others can be put before or after it. For functional models.
        recursive: whether models inside are cloned in the same way, layer by layer.

    Raises:
        ValueError: for arguments that do not go with the kind of model.

    Example:
        >>> import handmill
        >>> from handmill import layers
        >>> model = handmill.Sequential([handmill.Input((4,)), layers.Dense(3)])
        >>> handmill.models.clone_model(model).output_shape
        (None, 3)
    """
    return _Cloning(clone_function, call_function, recursive).clone(model, input_tensors)


class _Cloning:
    """One clone_model: what layers became, so that shared ones stay shared."""

    def __init__(self, make: Any, call: Any, recursive: bool) -> None:
        self.make = make
        self.call = call
        self.recursive = recursive
        self.made: dict[int, Any] = {}

    def clone(self, model: Any, inputs: Any) -> Any:
        if isinstance(model, Sequential):
            if self.call is not None:
                raise ValueError(
                    "`call_function` argument is not supported with Sequential models: their "
                    "layers are only listed. Use it with functional models. Received: "
                    f"call_function={self.call}"
                )
            return self._sequential(model, inputs)
        if isinstance(model, Model) and model._graph is not None:
            plain = self.make is None and inputs is None and self.call is None
            if plain and not self.recursive and type(model).get_config is not Model.get_config:
                # It says itself what it is made of, as in Keras: no graph tells that.
                return _compiled_like(model, self._from_config(model))
            return self._functional(model, inputs)
        for name, given in (
            ("clone_function", self.make), ("input_tensors", inputs), ("call_function", self.call)
        ):  # fmt: skip
            if given is not None:
                raise ValueError(
                    f"Argument `{name}` is only supported for Sequential models or Functional "
                    f"models. Received model of type '{type(model).__name__}', with {name}={given}"
                )
        return self._from_config(model)

    @staticmethod
    def _from_config(model: Any) -> Any:
        config = serialize_keras_object(model)
        return type(model).from_config(json.loads(json.dumps(config["config"])))

    def layer(self, layer: Any) -> Any:
        """The new layer for an old one."""
        if id(layer) not in self.made:
            if isinstance(layer, OpFunction):
                made = layer.copy()
            elif isinstance(layer, OpLayer):
                made = type(layer).from_config(layer.get_config())
            elif self.recursive and _holds_layers(layer):
                inner = _Cloning(self.make, self.call, True)
                if isinstance(layer, Sequential):
                    inner.call = None  # of the models around; in this one layers are listed
                inner.made = self.made
                made = inner.clone(layer, None)
            elif self.make is not None:
                made = self.make(layer)
            else:
                made = type(layer).from_config(json.loads(json.dumps(layer.get_config())))
                if hasattr(layer, "get_vocabulary"):  # what was learned from data is no weight
                    learned = json.loads(json.dumps(layer.get_build_config()))
                    made.build_from_config(learned or {})
            self.made[id(layer)] = made
        return self.made[id(layer)]

    def _sequential(self, model: Sequential, inputs: Any) -> Any:
        layers = [self.layer(layer) for layer in model.layers]
        first = model._layers[0] if model._layers else None
        if inputs is not None:
            found = tree.flatten(inputs)
            if len(found) != 1:
                raise ValueError("Argument `input_tensors` must contain a single tensor.")
            if not isinstance(found[0], KerasTensor):
                raise ValueError(
                    "Argument `input_tensors` must be a KerasTensor. Received invalid value: "
                    f"input_tensors={inputs}"
                )
            made_by = found[0].history.operation
            is_input = isinstance(made_by, InputLayer)
            layers.insert(0, found[0] if is_input else InputLayer(input_tensor=found[0]))
        elif isinstance(first, InputLayer):
            layers.insert(0, InputLayer.from_config(first.get_config()))
        clone = Sequential(layers, name=model.name, trainable=model.trainable)
        return _compiled_like(model, clone)

    def _functional(self, model: Any, inputs: Any) -> Any:
        graph = model._graph
        if inputs is None:
            inputs = tree.map_structure(
                lambda t: Input(batch_shape=t.shape, dtype=t.dtype, name=t.name),
                graph.inputs_struct,
            )
        else:
            for tensor in tree.flatten(inputs):
                if not isinstance(tensor, KerasTensor):
                    raise ValueError(
                        "All entries in `input_tensors` must be KerasTensors. Received invalid "
                        f"values: inputs_tensors={inputs}"
                    )
            try:
                tree.assert_same_structure(inputs, graph.inputs_struct)
            except ValueError as error:
                raise ValueError(
                    "`input_tensors` must have the same structure as model.input\n"
                    f"Reference structure: {graph.inputs_struct}\nReceived structure: {inputs}"
                ) from error
        outputs = graph.run(tree.flatten(inputs), self._applied)
        cls = type(model) if _is_made_of_tensors(type(model)) else Functional
        clone = cls(inputs, outputs, name=model.name)
        clone._trainable = model._trainable  # of this model alone: layers bring their own
        return _compiled_like(model, clone)

    def _applied(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        made = self.layer(layer)
        if self.call is None or isinstance(layer, OpLayer | OpFunction):
            return made(*args, **kwargs)
        return self.call(made, *args, **kwargs)


def _is_made_of_tensors(cls: Any) -> bool:
    """Whether a class of models is called with inputs and outputs: no class has another way."""
    return not any("__init__" in vars(base) for base in cls.__mro__[: cls.__mro__.index(Model)])


def _holds_layers(layer: Any) -> bool:
    """Whether ``layer`` is a model whose layers are known, be it built or not."""
    return isinstance(layer, Sequential) or (isinstance(layer, Model) and layer._graph is not None)


def _compiled_like(model: Any, clone: Any) -> Any:
    if model.compiled:
        try:
            config = json.loads(json.dumps(model.get_compile_config()))
            with CustomObjectScope(_functions_of(model)):
                clone.compile_from_config(config)
            if clone.built and clone.optimizer is not None:
                clone.optimizer.build(clone.trainable_variables)
        except (TypeError, ValueError) as error:
            warn_caller(f"clone_model: the copy is not compiled: {error}", UserWarning)
        if left := copy_masks(model, clone):
            warn_caller(
                "clone_model: the copy does not keep the zeros of pruned weights, as it is not "
                "compiled and built alike, or has weights of other shapes: "
                f"{', '.join(left[:5])}{', ...' * (len(left) > 5)}. Prune the built copy",
                UserWarning,
            )
    return clone


def _functions_of(model: Any) -> dict[str, Any]:
    """The losses and metrics of the user's, under the names that a config has for them."""
    objective = model.objective
    given = (objective.loss, objective.loss_metrics, objective.weighted_metrics)
    found = [x for x in tree.flatten(list(given)) if x is not None and not isinstance(x, str)]
    things = [x if hasattr(x, "__name__") else type(x) for x in found]
    return {thing.__name__: thing for thing in things if not is_own(thing)}


def model_from_json(json_string: str, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Makes a model, with new weights, from what ``model.to_json()`` returned.

    Args:
        json_string: the text.
        custom_objects: name -> class of the user's.
    """
    return deserialize_keras_object(json.loads(json_string), custom_objects, kind="model")
