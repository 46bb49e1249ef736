"""Files of Keras 2 and of Keras 3's older saver: a model, or its weights, in one HDF5 file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from handmill.errors import FileFormatError, warn_caller
from handmill.ir.op import Array
from handmill.runtime.variable import Variable, limited_bytes, stored_values
from handmill.saving.changed_layers import KEY
from handmill.saving.file_range import FileRange, assign_stored
from handmill.saving.hdf5 import Reader, Writer
from handmill.saving.hmill import SMALL_VARIABLES, damage, description_of, needs_weights
from handmill.saving.json_data import from_json, to_json
from handmill.saving.keras2_configs import compile_config_of, in_words_of_keras3
from handmill.saving.keras_format import WRITTEN_AS
from handmill.saving.keras_weights import Changes
from handmill.saving.objects import CustomObjectScope, deserialize_keras_object, shared_objects
from handmill.saving.pieces import Content, Pieces
from handmill.saving.weights import refuse_own_formats

_WEIGHTS = "model_weights"


def content_of(model: Any, include_optimizer: bool = True) -> Pieces:
    """Returns a model as a file, as Keras 3 writes one with this suffix.

    Args:
        model: the model.
        include_optimizer: whether the optimizer, and what ``compile`` was given, are in it.

    Raises:
        ValueError: if the model has no weights yet.
        TypeError: if something in the model is code and not data.
    """
    needs_weights(model)
    refuse_own_formats(model)
    config = description_of(model)
    if KEY in config:
        raise ValueError(
            f"layers of model {model.name!r} that code of yours makes were quantized or adapted "
            "since, which .h5 files cannot hold: save it as .hmill or .keras"
        )
    compiled = config.pop("compile_config", None)
    notes = {
        "keras_version": WRITTEN_AS,
        "backend": "jax",  # one of Keras's own, of which it asks nothing here
        "model_config": to_json(config, f"the description of model {model.name!r}").decode(),
    }
    if compiled is not None and include_optimizer:
        training = {key: value for key, value in compiled.items() if key != "optimizer"}
        training["optimizer_config"] = compiled["optimizer"]
        notes["training_config"] = to_json(training, "training_config").decode()
    writer = Writer()
    writer.group("", {}, notes)
    layers = list(model.layers)
    writer.texts(_WEIGHTS, "layer_names", [layer.name for layer in layers])
    for layer in layers:
        _write(writer, f"{_WEIGHTS}/{layer.name}", _weights_of(layer))
    inside = {id(v) for layer in layers for v in layer.weights}
    own = [v for v in model.variables_to_store() if id(v) not in inside]
    _write(writer, f"{_WEIGHTS}/top_level_model_weights", own)
    if model.optimizer is not None and include_optimizer:
        _write(writer, "optimizer_weights", model.optimizer.variables_to_store())
    return writer.content()


def _write(writer: Writer, group: str, variables: Sequence[Variable]) -> None:
    arrays: dict[str, Array] = {}
    for variable in variables:
        taken = variable.path in arrays
        arrays[f"{variable.path}_{len(arrays)}" if taken else variable.path] = variable.read()
    writer.group(group, arrays, {})
    writer.texts(group, "weight_names", list(arrays))


def holds_weights(content: Content, name: str) -> bool:
    """Whether a file has the weights of layers by name, as Keras 2 wrote them."""
    with Reader(content, name) as reader:
        return reader.has(_WEIGHTS) or bool(reader.texts("", "layer_names"))


def model_of(
    content: Content | FileRange,
    name: str,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
) -> Any:
    """Returns the model in a file.

    Raises:
        FileFormatError: if it is damaged, or holds weights alone.
        ValueError: for a class that is not known.
    """
    with (
        Reader(content, name) as reader,
        CustomObjectScope(custom_objects or {}),
        limited_bytes(len(content) + SMALL_VARIABLES),
    ):
        text = reader.text("", "model_config")
        if text is None:
            raise FileFormatError(
                f"{name} describes no model. A file of weights is read into a model by "
                "model.load_weights(filepath)."
            )
        config = from_json(text.encode(), f"{name}: model_config")
        with damage(name, "architecture"), stored_values(), shared_objects():
            model = deserialize_keras_object(in_words_of_keras3(config), kind="model")
        if not hasattr(model, "variables") or not hasattr(model, "objective"):
            raise FileFormatError(f"{name} does not describe a model")
        assign_stored(_pairs(reader, _WEIGHTS, model, name, False, False))
        training = reader.text("", "training_config")
        if not compile or training is None:
            return model
        with damage(name, "training_config"):
            config = from_json(training.encode(), f"{name}: training_config")
            model.compile_from_config(compile_config_of(config))
            _restore_optimizer(model, reader, name)
    return model


def load_weights(
    model: Any, content: Content, name: str, skip_mismatch: bool, by_name: bool
) -> None:
    """Assigns the weights of layers, in order or by name.

    Raises:
        FileFormatError: if the file is damaged; no weight is changed then.
        ValueError: if it does not fit; no weight is changed then.
    """
    with Reader(content, name) as reader:
        group = _WEIGHTS if reader.has(_WEIGHTS) else ""
        assign_stored(_pairs(reader, group, model, name, skip_mismatch, by_name))


def _weights_of(layer: Any) -> list[Variable]:
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def _stored(reader: Reader, group: str) -> list[Array]:
    return [reader.array(f"{group}/{name}") for name in reader.texts(group, "weight_names")]


def _pairs(reader: Reader, group: str, model: Any, name: str, skip: bool, by_name: bool) -> Changes:
    prefix = f"{group}/" if group else ""
    stored = {n: _stored(reader, prefix + n) for n in reader.texts(group, "layer_names")}
    if not stored and model.weights:
        raise FileFormatError(f"{name} names no layers")
    found: list[tuple[str, list[Variable], list[Array]]] = []
    if by_name:
        named = {layer.name: layer for layer in model.layers}
        found = [(n, _weights_of(named[n]), a) for n, a in stored.items() if n in named]
    else:
        full = [(n, arrays) for n, arrays in stored.items() if arrays]
        layers = [layer for layer in model.layers if layer.weights]
        if len(full) != len(layers):
            raise ValueError(
                f"{name} holds {len(full)} layers with weights, but the model has {len(layers)}: "
                f"{[layer.name for layer in layers][:8]}"
            )
        for (_, arrays), layer in zip(full, layers, strict=True):
            found.append((layer.name, _weights_of(layer), arrays))
    if arrays := _stored(reader, f"{prefix}top_level_model_weights"):
        own = model.variables_to_store()
        found.append((model.name, own, arrays))
    return [pair for entry in found for pair in _fitting(*entry, name, skip)]


def _fitting(
    layer: str, variables: Sequence[Variable], arrays: Sequence[Array], name: str, skip: bool
) -> Iterator[tuple[Variable, Array]]:
    if len(variables) != len(arrays):
        problem = f"has {len(variables)} weights, but {len(arrays)} are stored"
        _refuse_or_warn(f"{name}: layer {layer!r} {problem}", skip)
        return
    for variable, array in zip(variables, arrays, strict=True):
        if variable.shape == array.shape:
            yield variable, array
        else:
            _refuse_or_warn(
                f"{name}: weight {variable.path!r} of layer {layer!r} has shape {variable.shape}, "
                f"but the stored one has shape {array.shape}",
                skip,
            )


def _refuse_or_warn(message: str, skip: bool) -> None:
    if not skip:
        raise ValueError(message)
    warn_caller(f"{message}; it was skipped", UserWarning)


def _restore_optimizer(model: Any, reader: Reader, name: str) -> None:
    """Assigns what is stored of the optimizer, where it is what Keras 3 stores.

    Optimizers of Keras 2 kept other variables in another order.
    """
    if model.optimizer is None or not reader.has("optimizer_weights"):
        return
    arrays = _stored(reader, "optimizer_weights")
    optimizer = model.optimizer
    if arrays and not optimizer.built:
        optimizer.build(model.trainable_variables)
    variables = optimizer.variables_to_store()
    if [v.shape for v in variables] == [a.shape for a in arrays]:
        assign_stored(list(zip(variables, arrays, strict=True)))
    elif arrays:
        warn_caller(
            f"{name}: the stored state of the optimizer ({len(arrays)} arrays) is not that of "
            f"{type(optimizer).__name__} ({len(variables)} variables); it starts anew",
            UserWarning,
        )
