"""Models: layers put together, with training, evaluation and prediction."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from handmill import console, ops, tree
from handmill.console import say
from handmill.errors import ShapeError, warn_caller
from handmill.ir.dims import BATCH, SymbolicDim, as_none, same
from handmill.ir.trace import dtype_of, mask_of, with_mask
from handmill.layers.arguments import as_tuples
from handmill.layers.core.input_layer import InputLayer
from handmill.layers.layer import Layer
from handmill.layers.op_function import OpFunction
from handmill.layers.operation import OpLayer
from handmill.layers.symbolic import KerasTensor, LayerGraph
from handmill.models.host_part import host_part
from handmill.models.trainer import Trainer


class Model(Trainer, Layer):
    """A model: made of symbolic inputs and outputs, or a subclass with a ``call`` method.

    Args:
        inputs: one tensor made by ``Input``, or a list or dict of them.
        outputs: one tensor computed from them, or a list or dict.
        name: the model's name.
        trainable: whether optimizers update the weights.

    Raises:
        ValueError: if outputs cannot be computed from inputs.

    Example:
        >>> import handmill
        >>> x = handmill.Input((4,))
        >>> y = handmill.layers.Dense(2)(x)
        >>> handmill.Model(x, y).count_params()
        10
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls is Model and _is_functional(args, kwargs):
            return super().__new__(Functional, *args, **kwargs)
        return super().__new__(cls, *args, **kwargs)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._graph: LayerGraph | None = None
        if _is_functional(args, kwargs):
            arguments = dict(zip(("inputs", "outputs", "name"), args, strict=False))
            arguments.update(kwargs)
            inputs, outputs = arguments.pop("inputs"), arguments.pop("outputs")
            Layer.__init__(self, **arguments)
            Trainer.__init__(self)
            self._set_graph(inputs, outputs)
        else:
            if args:
                raise ValueError(
                    f"{type(self).__name__}() takes symbolic inputs and outputs, or keyword "
                    f"arguments; got {args!r}"
                )
            Layer.__init__(self, **kwargs)
            Trainer.__init__(self)

    def _set_graph(self, inputs: Any, outputs: Any) -> None:
        for name, given in (("inputs", inputs), ("outputs", outputs)):
            if not tree.flatten(given):
                raise ValueError(
                    f"A functional model needs at least one of its `{name}`. "
                    f"Received: {name}={given}"
                )
            for tensor in tree.flatten(given):
                if not isinstance(tensor, KerasTensor):
                    raise ValueError(
                        f"All `{name}` values must be KerasTensors. Received: {name}={given} "
                        f"including invalid value {tensor!r} of type {type(tensor)}"
                    )
        if any(not isinstance(t.history.operation, InputLayer) for t in tree.flatten(inputs)):
            inputs, outputs = _from_inner_tensors(inputs, outputs)
        self._graph = LayerGraph(inputs, outputs)
        self._host = host_part(self._graph)
        self.built = True
        self._build_shapes = tree.map_structure(lambda t: t.shape, inputs)

    # Structure.

    @property
    def operations(self) -> list[Layer]:
        """The layers and operators of a functional model, in order."""
        return list(self._graph.operations) if self._graph is not None else self.layers

    @property
    def layers(self) -> list[Layer]:
        """The layers directly inside."""
        if self._graph is None:
            return list(super()._flatten_layers())
        return [x for x in self._graph.operations if not isinstance(x, OpLayer | OpFunction)]

    @layers.setter
    def layers(self, value: Any) -> None:
        raise AttributeError(
            "`Model.layers` attribute is reserved and should not be used. Please use another name."
        )

    def _flatten_layers(self) -> Iterator[Layer]:
        if self._graph is None:
            yield from super()._flatten_layers()
            return
        seen = set()
        for layer in (*self._graph.operations, *super()._flatten_layers()):
            if id(layer) not in seen:
                seen.add(id(layer))
                yield layer

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """Returns a layer by name or by position.

        Raises:
            ValueError: if there is none; the message lists the names.
        """
        if index is not None and name is not None:
            raise ValueError(
                f"Provide only a layer name or a layer index. Received: index={index}, name={name}."
            )
        layers = self.layers
        if index is not None:
            if not -len(layers) <= index < len(layers):
                raise ValueError(
                    f"Was asked to retrieve layer at index {index} but model only has "
                    f"{len(layers)} layers."
                )
            return layers[index]
        if name is None:
            raise ValueError("Provide either a layer name or layer index at `get_layer`.")
        for layer in layers:
            if layer.name == name:
                return layer
        raise ValueError(
            f"No such layer: {name}. Existing layers are: {[layer.name for layer in layers]}."
        )

    @property
    def inputs(self) -> list[KerasTensor]:
        """The symbolic inputs, as a flat list."""
        return self._needed_graph("inputs").inputs

    @property
    def outputs(self) -> list[KerasTensor]:
        """The symbolic outputs, as a flat list."""
        return self._needed_graph("outputs").outputs

    @property
    def input(self) -> Any:
        """The symbolic inputs, nested as they were given."""
        return self._needed_graph("input").inputs_struct

    @property
    def output(self) -> Any:
        """The symbolic outputs, nested as they were given."""
        return self._needed_graph("output").outputs_struct

    @property
    def input_shape(self) -> Any:
        """The shape of the input, or a list of them."""
        shapes = tree.map_structure(lambda t: t.shape, self.input)
        return shapes[0] if isinstance(shapes, list) and len(shapes) == 1 else shapes

    @property
    def output_shape(self) -> Any:
        """The shape of the output, or a list of them."""
        shapes = tree.map_structure(lambda t: t.shape, self.output)
        return shapes[0] if isinstance(shapes, list) and len(shapes) == 1 else shapes

    @property
    def input_names(self) -> list[str]:
        """The names of the inputs, as a flat list."""
        return [t.history.operation.name for t in self.inputs]

    @property
    def output_names(self) -> list[str]:
        """The names of the layers that make the outputs, as a flat list."""
        return [t.history.operation.name for t in self.outputs]

    def names_of_outputs(self, y_pred: Any) -> list[Any]:
        """Returns a name for each output, in flat order; None for those that nothing names."""
        if isinstance(y_pred, dict) and all(not tree.is_nested(v) for v in y_pred.values()):
            return tree.ordered_keys(y_pred)
        count = len(tree.flatten(y_pred))
        if self._graph is not None and len(self.outputs) == count:
            return self.output_names
        return [None] * count

    def _needed_graph(self, what: str) -> LayerGraph:
        if self._graph is None:
            raise AttributeError(
                f"{type(self).__name__} {self.name!r} has no defined {what} yet: it was not built "
                "from symbolic inputs. Call it on data, or start with an Input."
            )
        return self._graph

    # Computation.

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Computes the outputs of a functional model; subclasses define their own."""
        if self._graph is None:
            raise NotImplementedError(
                f"Model {type(self).__name__} does not have a `call` method implemented."
            )
        if self._host is not None and self._host.made(tree.flatten(inputs)):
            return _unpacked(self._host.rest.run(tree.flatten(inputs), _call_layer))
        values = self._standardized(inputs)
        given = [None] * len(values) if mask is None else self._flat_inputs(mask)
        values = [
            value if value is None else with_mask(value, own)
            for value, own in zip(values, given, strict=True)
        ]
        return _unpacked(self._graph.run(values, _call_layer))

    def _call_symbolically(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._host is None:
            found = super()._call_symbolically(args, kwargs)
            if self._graph is None or type(self).call is not Model.call:
                return found
            # Tensors stay nested as the outputs are declared.
            return tree.pack_sequence_as(self._graph.outputs_struct, tree.flatten(found))
        # Its layers become layers of the model around it, whose data they then come before.
        return self._needed_graph("inputs").run(tree.flatten(args[0]), _call_layer)

    def _carry_masks(self, inputs: Any, outputs: Any, previous: Any) -> None:
        if self._graph is None:  # else its layers have done so
            super()._carry_masks(inputs, outputs, previous)

    def _converted(self, x: Any) -> Any:
        return super()._converted(x) if self._graph is None else x  # inputs know their dtypes

    def _standardized(self, inputs: Any) -> list[Any]:
        """Returns the inputs as a flat list of values of the ranks and dtypes declared."""
        graph = self._needed_graph("inputs")
        wanted = graph.inputs_struct
        if isinstance(inputs, dict) and not isinstance(wanted, dict):
            names = [t.history.operation.name for t in graph.inputs]
            if missing := [name for name in names if name not in inputs]:
                raise ValueError(
                    f"Missing data for input {missing[0]!r}. You passed a data dictionary with "
                    f"keys {sorted(inputs)}. Expected the following keys: {names}"
                )
        elif isinstance(wanted, dict) and not isinstance(inputs, dict):
            self._check_number(len(tree.flatten(inputs)))
            is_ordered = list(wanted) == sorted(wanted)
            _tell_of_structure(wanted, inputs, refuses=not is_ordered)
        elif isinstance(wanted, dict) and inputs.keys() != wanted.keys():
            if missing := [key for key in wanted if key not in inputs]:
                raise ValueError(
                    f"Missing data for input {missing[0]!r}. You passed a data dictionary with "
                    f"keys {sorted(inputs)}. Expected the following keys: {sorted(wanted)}"
                )
            _tell_of_structure(wanted, inputs)
        flat = self._flat_inputs(inputs)
        self._check_number(len(flat))
        return [
            self._fitted(value, tensor) for value, tensor in zip(flat, graph.inputs, strict=True)
        ]

    def _check_number(self, received: int) -> None:
        graph = self._needed_graph("inputs")
        if received == len(graph.inputs):
            return
        if isinstance(graph.inputs_struct, dict):
            expected = f"named input(s) with keys {list(graph.inputs_struct)}"
        else:
            expected = f"{len(graph.inputs)} inputs ({', '.join(self.input_names)})"
        hint = ""
        if len(graph.inputs) == 1:
            hint = "\n  hint: a list holds one array for each input; np.stack(x) joins samples"
        raise ValueError(
            f"Model {self.name!r} expects {expected}, but received {received} inputs.{hint}"
        )

    def _flat_inputs(self, given: Any) -> list[Any]:
        """What is nested like the inputs, or a dict by their names, as a flat list."""
        graph = self._needed_graph("inputs")
        if isinstance(given, dict) and not isinstance(graph.inputs_struct, dict):
            return [given.get(t.history.operation.name) for t in graph.inputs]
        return list(_leaves_by_key(graph.inputs_struct, given))

    def _fitted(self, value: Any, tensor: KerasTensor) -> Any:
        if value is None:
            if tensor.history.operation.optional:
                return None
            raise ValueError(
                f"The input {tensor.name!r} of model {self.name!r} is not optional, but None was "
                "passed. Pass an array, or make the input with Input(..., optional=True)."
            )
        shape, wanted, mask = tuple(value.shape), tensor.spec.shape, mask_of(value)
        if len(shape) == len(wanted) + 1 and shape[-1] == 1:
            value = ops.reshape(value, shape[:-1])
        elif len(shape) == len(wanted) - 1 and wanted[-1] == 1:
            value = ops.reshape(value, (*shape, 1))
        shape = tuple(value.shape)
        fits = len(shape) == len(wanted) and all(
            d == BATCH or isinstance(w, SymbolicDim) or same(d, w)
            for d, w in zip(shape, wanted, strict=True)
        )
        if not fits:
            shown = as_none(shape)
            number = [t is tensor for t in self.inputs].index(True)
            path = tree.flatten_with_path(self._needed_graph("inputs").inputs_struct)[number][0]
            raise ShapeError(
                f"Input {number} of model \"{self.name}\", with name '{tensor.name}' and path "
                f"'{'.'.join(map(str, path))}', is incompatible with the model: expected "
                f"shape={tensor.shape}, found shape={shown}{_shape_hint(shown, tensor.shape)}"
            )
        if dtype_of(value) != tensor.dtype:
            value = ops.cast(value, tensor.dtype)
        return with_mask(value, mask)

    def build_from_config(self, config: Mapping[str, Any]) -> None:
        """Builds a subclassed model for the input shape stored in ``config``."""
        shape = config.get("input_shape")
        if shape is None or self.built:
            return
        if type(self).build is Layer.build:
            self.compute_output_shape(as_tuples(shape))
        else:
            super().build_from_config(config)

    # Description.

    def summary(
        self,
        line_length: int | None = None,
        positions: Sequence[float] | None = None,
        print_fn: Callable[[str], Any] | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Sequence[str] | None = None,
    ) -> None:
        """Prints a table of the layers, their output shapes and their numbers of weights.

        Args:
            line_length: the width of the table; default: as wide as its contents, at least 65.
            positions: where columns end, as fractions of the width.
            print_fn: called with the text; default: ``print``.
            expand_nested: whether the layers of inner models are listed.
            show_trainable: whether a column says which layers are trained.
            layer_range: names of the first and the last layer listed.
        """
        from handmill.models.summary import in_ascii, summary_text

        text = summary_text(self, line_length, expand_nested, show_trainable, layer_range)
        if print_fn is None:
            from handmill.callbacks.progbar import can_write

            say(text if can_write(console.stream(), text) else in_ascii(text))
        else:
            print_fn(text)

    def to_json(self, **kwargs: Any) -> str:
        """Returns the architecture as JSON; ``models.model_from_json`` reads it."""
        from handmill.saving.objects import serialize_keras_object

        return json.dumps(serialize_keras_object(self), **kwargs)

    def get_config(self) -> dict[str, Any]:
        """The architecture, as plain data."""
        if self._graph is not None and _calls_the_graph(self):
            from handmill.models.graph_config import graph_config

            return graph_config(self)
        return super().get_config()

    get_config.collects_arguments = True  # type: ignore[attr-defined]

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> Any:
        """Makes a model from its config, with new weights."""
        if "layers" in config and "input_layers" in config:
            from handmill.models.graph_config import model_from_graph_config
            from handmill.saving.objects import CustomObjectScope

            if any("module" not in layer for layer in config["layers"]):
                from handmill.saving.keras2_configs import in_words_of_keras3

                whole = {"class_name": "Functional", "config": config}
                config = in_words_of_keras3(whole)["config"]
            with CustomObjectScope(custom_objects or {}):
                return model_from_graph_config(cls, config)
        return super().from_config(config)

    # State.

    def get_state_tree(self, value_format: str = "backend_tensor") -> dict[str, Any]:
        """Returns all variables of the model, its optimizer and its metrics, nested by path.

        Args:
            value_format: ``"backend_tensor"`` for read-only views, ``"numpy_array"`` for copies.

        Raises:
            ValueError: for another format, or if two variables have one path.
        """
        from handmill.layers.stateless import as_tree

        return {name: as_tree(v, value_format) for name, v in self._state_parts().items()}

    def set_state_tree(self, state_tree: Mapping[str, Any]) -> None:
        """Assigns what :meth:`get_state_tree` returned, or a part of it.

        Raises:
            ValueError: for what the model does not have, or another shape; nothing is assigned.
        """
        from handmill.layers.stateless import pairs_of_tree

        parts = self._state_parts()
        pairs = []
        for name, values in state_tree.items():
            if name not in parts:
                raise ValueError(f"Unknown variable name: {name}. Known: {list(parts)}")
            pairs += pairs_of_tree(parts[name], values, name)
        for variable, value in pairs:
            variable.assign(value)

    def _state_parts(self) -> dict[str, list[Any]]:
        return {
            "trainable_variables": self.trainable_variables,
            "non_trainable_variables": self.non_trainable_variables,
            "optimizer_variables": self.optimizer.variables if self.optimizer is not None else [],
            "metrics_variables": self.metrics_variables,
        }

    def quantize(  # type: ignore[override]
        self, mode: Any = None, config: Any = None, filters: Any = None, **kwargs: Any
    ) -> Any:
        """Replaces the weights of layers that can be quantized by integers, in place.

        ``"int8"`` covers Dense, EinsumDense (and so the projections of attention), Embedding,
        ReversibleEmbedding and both kernels of SimpleRNN, GRU and LSTM: a quarter of the bytes, and
        8-bit products whose results have the same bits on every CPU. Convolutions, depthwise and
        separable ones too, need data (:class:`handmill.quantizers.Int8StaticQuantizationConfig`).
        ``"int4"`` makes files smaller still. All else stays as it is, and is named in the report.
        Quantized weights are no longer trained. Layers that were trained for it
        (:func:`handmill.compress.quantize_aware`) become what training simulated, and the others
        stay as they are unless ``filters`` choose them.

        Args:
            mode: ``"int8"`` or ``"int4"``; default: that of ``config``.
            config: a :class:`handmill.quantizers.Int8QuantizationConfig` or its like.
            filters: which layers: a regular expression that the name fits, a list of them, or a
                function of the layer; default: all.
            **kwargs: ``type_check=False`` includes layers of subclasses, whose computation may be
                another; ``verbose=True`` prints the report.

        Returns:
            What was quantized and what was not, with reasons
            (:class:`handmill.models.quantization.QuantizationReport`).

        Raises:
            ValueError: if the model is not built, a weight is not finite, the mode is unknown, or a
                layer was trained for another one; nothing is changed then.
            RuntimeError: while the model is trained.

        Example:
            >>> import handmill
            >>> from handmill import layers
            >>> model = handmill.Sequential([layers.Input((64,)), layers.Dense(10)])
            >>> report = model.quantize("int8")
            >>> report.bytes_before, report.bytes_after
            (2600, 720)
        """
        from handmill.models.quantization import quantize

        type_check, verbose = kwargs.pop("type_check", True), kwargs.pop("verbose", False)
        if kwargs:
            raise ValueError(
                f"Unrecognized keyword arguments passed to {type(self).__name__}: {kwargs}"
            )
        return quantize(self, mode, config, filters, verbose, type_check)

    # Files.

    def save(
        self, filepath: Any, overwrite: bool = True, zipped: bool | None = None, **kwargs: Any
    ) -> None:
        """Writes architecture, weights, optimizer and counters to a file.

        The file appears complete or not at all.

        Args:
            filepath: a path that ends in ``.hmill``; for Keras 3 in ``.keras``, or in ``.h5``
                for its older format (these need h5py).
            overwrite: whether an existing file may be replaced.
            zipped: False writes the members of a ``.keras`` file as a folder.
            **kwargs: ``include_optimizer=False``, for ``.h5`` files.

        Raises:
            ValueError: for another suffix.
            ImportError: for files of Keras without h5py.
        """
        from handmill.saving.model_file import save_model

        save_model(self, filepath, overwrite=overwrite, zipped=zipped, **kwargs)

    def save_weights(
        self,
        filepath: Any,
        overwrite: bool = True,
        max_shard_size: float | None = None,
        **kwargs: Any,
    ) -> None:
        """Writes the weights to a file.

        Args:
            filepath: a path that ends in ``.weights.hmill`` or ``.safetensors``, or in
                ``.weights.h5`` for Keras 3, with the state of the optimizer (needs h5py); with
                ``max_shard_size`` one that ends in ``.weights.json``.
            overwrite: whether an existing file may be replaced.
            max_shard_size: writes several files, each with at most so many gigabytes of weights.
            **kwargs: ``objects_to_skip``: layers that a ``.weights.h5`` file leaves out.
        """
        from handmill.saving.model_file import save_weights

        save_weights(self, filepath, overwrite, max_shard_size, **kwargs)

    def load_weights(self, filepath: Any, skip_mismatch: bool = False, **kwargs: Any) -> None:
        """Reads weights that :meth:`save_weights` or :meth:`save` wrote, here or in Keras.

        Args:
            filepath: the file; of several files the index, which ends in ``.weights.json``.
            skip_mismatch: whether weights of another shape are left out instead of refused.
            **kwargs: ``by_name=True`` finds layers by their names, for ``.h5`` files of Keras 2;
                ``objects_to_skip``: layers that keep what they have, for ``.weights.h5`` files.
        """
        from handmill.saving.model_file import load_weights

        load_weights(self, filepath, skip_mismatch=skip_mismatch, **kwargs)

    def export(
        self,
        filepath: Any,
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        input_signature: Any = None,
        **kwargs: Any,
    ) -> None:
        """Writes the model, for inference, in a format that others run.

        Args:
            filepath: the file; an existing one is replaced once the new one is complete.
            format: ``"onnx"``, or ``"c"``: one file of C99 with weights and plain loops, which
                needs nothing but ``math.h``, for dense and convolutional networks. Keras's default
                and its other formats, which belong to other frameworks, are not written.
            verbose: whether to print where the file was written.
            input_signature: for models that do not know their inputs: nested as these are, for
                each anything with ``shape`` (None for sizes that differ from call to call) and
                ``dtype``, such as ``InputSpec``.
            **kwargs: for ``"onnx"`` ``opset_version`` (13 to 25, default 17: what most runtimes
                read), ``inputs_as_nchw`` (whether inputs of images take channels behind the batch,
                default False), ``verify`` (whether onnxruntime, which must be installed, shall
                compute what the model does before the file is written, default False). For
                ``"c"`` ``name`` (of the function, default: the model's).

        Raises:
            ValueError: for a format that is not written; for layers that have no form in it, all
                of which are named. Nothing is written then.

        Example:
            >>> import os, tempfile
            >>> import handmill as keras
            >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
            >>> path = os.path.join(tempfile.mkdtemp(), "model.onnx")
            >>> model.export(path, format="onnx")
            >>> os.path.getsize(path) > 0
            True
        """
        from handmill.exchange.export import export_model

        export_model(self, filepath, format, verbose, input_signature, kwargs)


class _MadeOfTensors(type(Model)):  # type: ignore[misc]
    """The type of Functional: models of other classes made of tensors are instances too."""

    def __instancecheck__(cls, instance: Any) -> bool:
        if super().__instancecheck__(instance):
            return True
        if cls is not Functional or not isinstance(instance, Model):
            return False
        # The graph of a Sequential follows from its layers.
        return instance._graph is not None and "_graph" not in instance._undescribed


class Functional(Model, metaclass=_MadeOfTensors):
    """The class of ``Model(inputs, outputs)``."""


def _shape_hint(found: tuple[Any, ...], wanted: tuple[Any, ...]) -> str:
    """Says how to mend a shape, where that is known."""
    if len(found) == len(wanted) and found[1:] == tuple(wanted[1:]):
        return (
            f"\n  hint: the batch size was fixed to {wanted[0]}; Input(shape=...) without "
            "batch_size takes any number of rows"
        )
    if len(found) > 1 and None not in (*found[1:], *wanted[1:]):
        size = math.prod(wanted[1:])
        if math.prod(found[1:]) == size:
            return f"\n  hint: x.reshape({(-1, *wanted[1:])})"
    if len(found) == len(wanted) - 1:
        return "\n  hint: a single sample x is passed as x[None], a batch of one"
    if len(found) == len(wanted) == 4 and {found[3], wanted[3]} <= {1, 3, 4}:
        return _image_hint(found[1:], wanted[1:])
    return ""


def _image_hint(found: tuple[Any, ...], wanted: tuple[Any, ...]) -> str:
    """Says how images come to another size, or another number of channels."""
    hints = []
    height, width = wanted[:2]
    if None not in (*found, height, width) and found[:2] != (height, width):
        hints.append(
            f"resize the images: layers.Resizing({height}, {width}), or image_size= and "
            "target_size= where files are read"
        )
    if found[2] != wanted[2]:
        mode = {1: "grayscale", 3: "rgb", 4: "rgba"}[wanted[2]]
        hints.append(f"read files with color_mode={mode!r}")
    return f"\n  hint: {'; '.join(hints)}" if hints else ""


def _tell_of_structure(wanted: Any, given: Any, refuses: bool = False) -> None:
    """Warns of inputs that are nested in another way, or refuses them.

    Raises:
        ValueError: if it is not known which is which.
    """
    expected = tree.map_structure(lambda t: t.history.operation.name, wanted)
    received = tree.map_structure(
        lambda x: "None" if x is None else f"Tensor(shape={as_none(tuple(x.shape))})", given
    )
    text = (
        "The structure of `inputs` doesn't match the expected structure.\n"
        f"Expected: {expected}\nReceived: inputs={received}"
    )
    if refuses:
        raise ValueError(text)
    warn_caller(text, UserWarning)


def _leaves_by_key(wanted: Any, given: Any) -> Iterator[Any]:
    """The leaves of ``given``; those of dicts by the keys, and in the order, of ``wanted``."""
    if isinstance(wanted, dict) and isinstance(given, dict) and given.keys() >= wanted.keys():
        for key in tree.ordered_keys(wanted):
            yield from _leaves_by_key(wanted[key], given[key])
    elif isinstance(wanted, list | tuple) and isinstance(given, list | tuple):
        for i, item in enumerate(given):
            yield from _leaves_by_key(wanted[i] if i < len(wanted) else None, item)
    else:
        yield from tree.flatten(given)


def _call_layer(layer: Any, *args: Any, **kwargs: Any) -> Any:
    return layer(*args, **kwargs)


def _is_functional(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return (
        (len(args) in (2, 3) and not isinstance(args[0], str))
        or (len(args) == 1 and "outputs" in kwargs)
        or ("inputs" in kwargs and "outputs" in kwargs)
    )


def _unpacked(outputs: Any) -> Any:
    """The outputs of a functional model: what is in a list or tuple of one entry, as in Keras."""
    return outputs[0] if isinstance(outputs, list | tuple) and len(outputs) == 1 else outputs


def _calls_the_graph(model: Model) -> bool:
    return type(model).call is Model.call and type(model).__init__ is Model.__init__


def _from_inner_tensors(inputs: Any, outputs: Any) -> tuple[Any, Any]:
    """Repeats the calls between tensors inside a model, from new inputs on."""
    from handmill.layers.core.input_layer import Input

    flat = tree.flatten(inputs)
    replaced: dict[int, KerasTensor] = {}
    starts = []
    for tensor in flat:
        if isinstance(tensor.history.operation, InputLayer):
            start = tensor
        else:
            start = Input(batch_shape=tensor.shape, dtype=tensor.dtype)
        replaced[id(tensor)] = start
        starts.append(start)

    def filled(x: Any) -> Any:
        return replaced[id(x)] if isinstance(x, KerasTensor) else x

    waiting = list(tree.flatten(outputs))  # a stack of our own: thousands of calls in a row
    while waiting:
        tensor = waiting[-1]
        operation, index, _ = tensor.history
        node = operation._inbound_nodes[index]
        missing = [t for t in node.input_tensors if id(t) not in replaced]
        if id(tensor) in replaced or node.is_input:
            replaced.setdefault(id(tensor), tensor)
            waiting.pop()
        elif missing:
            waiting += missing
        else:
            kwargs = tree.map_structure(filled, node.kwargs) if node.kwargs else {}
            made = tree.flatten(operation(*tree.map_structure(filled, node.args), **kwargs))
            for old, new in zip(node.output_tensors, made, strict=True):
                replaced[id(old)] = new
    return tree.pack_sequence_as(inputs, starts), tree.map_structure(filled, outputs)
