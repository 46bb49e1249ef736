"""One layer in models of handmill and of Keras: the same numbers from the same weights."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import handmill

STEPS = 3


def plain(config: Any) -> Any:
    """A config as JSON reads it: tuples are lists."""
    return json.loads(json.dumps(config))


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def same_weights(
    theirs: Any, ours: Any, seed: int = 3, between: tuple[float, float] = (0.3, 1.2)
) -> None:
    """Gives both models the same weights, which must be of the same names, shapes and order."""
    for a, b in zip(theirs.weights, ours.weights, strict=True):
        assert (a.name, tuple(a.shape), a.trainable) == (b.name, b.shape, b.trainable)
    rng = np.random.default_rng(seed)
    weights = [rng.uniform(*between, w.shape).astype("float32") for w in ours.get_weights()]
    theirs.set_weights(weights)
    ours.set_weights(weights)


def weights_of(model: Any) -> list[np.ndarray]:
    """The weights of a model of Keras."""
    return [np.asarray(w.value) for w in model.weights]


def functional(
    library: Any, make: Callable[[Any], Any], shapes: Sequence[Any], dtype: str, before: bool
) -> Any:
    """Inputs, a dense layer on each so that gradients reach it, and the layer."""
    inputs = [library.Input(shape, dtype=dtype) for shape in shapes]
    tensors: list[Any] = list(inputs)
    if before:
        tensors = [
            library.layers.Dense(shape[-1])(x) for x, shape in zip(inputs, shapes, strict=True)
        ]
    outputs = make(library)(tensors if len(tensors) > 1 else tensors[0])
    return library.Model(inputs if len(inputs) > 1 else inputs[0], outputs)


def check_layer(
    keras: Any,
    make: Callable[[Any], Any],
    x: Any,
    shapes: Any = None,
    *,
    before: bool = True,
    trains: bool = True,
    rtol: float = 2e-5,
    atol: float = 2e-6,
    saved: Path | None = None,
    host: bool = False,
    between: tuple[float, float] = (0.3, 1.2),
) -> Any:
    """Holds a layer against Keras's: weights, config, numbers, training, executors, file.

    Args:
        keras: Keras.
        make: makes the layer from either library.
        x: an array, or one for each input.
        shapes: the shapes of the inputs without the batch size; None in them for lengths that
            differ. Default: those of ``x``.
        before: whether a dense layer stands before it.
        trains: whether it has gradients to train with.
        rtol: how far numbers may be apart.
        atol: the same.
        saved: a path to save the model under, and to load it again.
        host: whether operators of the layer have no kernel yet.
        between: what the weights are drawn from; several products in a row want small ones.

    Returns:
        The model of handmill.
    """
    arrays = list(x) if isinstance(x, list | tuple) else [x]
    shapes = [a.shape[1:] for a in arrays] if shapes is None else shapes
    x = arrays if len(arrays) > 1 else arrays[0]
    dtype = arrays[0].dtype.name
    theirs, ours = (functional(k, make, shapes, dtype, before) for k in (keras, handmill))
    # What Keras leaves open may be known here.
    known = zip(ours.output_shape, theirs.output_shape, strict=True)
    assert all(b is None or a == b for a, b in known), (ours.output_shape, theirs.output_shape)
    same_weights(theirs, ours, between=between)
    their_layer, our_layer = theirs.layers[-1], ours.layers[-1]
    check_config(keras, their_layer, our_layer)
    want = np.asarray(theirs.predict(x, verbose=0))
    found = ours.predict(x, verbose=0)
    assert found.dtype == want.dtype
    np.testing.assert_allclose(found, want, rtol=rtol, atol=atol)
    with handmill.use_backend("numpy"):
        np.testing.assert_allclose(ours.predict(x, verbose=0), found, rtol=rtol, atol=atol)
    np.testing.assert_allclose(ours(x), found, rtol=rtol, atol=atol)
    if saved is not None:
        ours.save(saved)
        again = handmill.models.load_model(saved)
        np.testing.assert_array_equal(again.predict(x, verbose=0), found)
    if not trains:
        return ours
    y = normal(*want.shape, seed=9)
    for model, library in ((theirs, keras), (ours, handmill)):
        model.compile(library.optimizers.SGD(0.05), "mse")
    for _ in range(STEPS):
        loss = float(theirs.train_on_batch(x, y))
        np.testing.assert_allclose(float(ours.train_on_batch(x, y)), loss, rtol=10 * rtol)
    for a, b in zip(ours.get_weights(), weights_of(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=20 * rtol, atol=20 * atol)
    program, _ = ours.step_to_compare(x, y)
    plan = program.plan(*arrays, y)
    assert any(s["host"] for s in plan.summary()) == host
    return ours


def check_config(keras: Any, theirs: Any, ours: Any) -> None:
    """Both libraries write the same config, and make the layer from that of the other."""

    def config_of(layer: Any) -> Any:
        found = plain(layer.get_config())
        if "layer" in found:  # built or not, for a batch of this size or another
            found["layer"].pop("build_config", None)
        return found

    config, want = config_of(ours), config_of(theirs)
    want["name"] = config["name"]  # numbered anew in each process
    if "layer" in want:
        want["layer"]["config"]["name"] = config["layer"]["config"]["name"]
    assert config == want
    again = type(ours).from_config(plain(want))
    assert config_of(again) == config
    serialized = plain(handmill.layers.serialize(ours))
    assert config_of(handmill.layers.deserialize(serialized)) == config
    assert type(keras.layers.deserialize(serialized)) is getattr(keras.layers, type(ours).__name__)


def check_policy(keras: Any, make: Callable[[Any], Any], x: Any, rtol: float = 0.02) -> None:
    """With the policy ``mixed_bfloat16`` the output is bfloat16 and that of Keras, nearly."""
    found = []
    for library in (keras, handmill):
        layer = make(library, "mixed_bfloat16")
        layer.build(x.shape)
        layer.set_weights([np.full(w.shape, 0.75, "float32") for w in layer.weights])
        assert all(w.dtype == "float32" for w in layer.weights)
        y = layer(x)
        assert handmill.ops.dtype(np.asarray(y)) == "bfloat16"
        found.append(np.asarray(y).astype("float32"))
    np.testing.assert_allclose(found[1], found[0], rtol=rtol, atol=rtol * np.abs(found[0]).max())


def errors_of(keras: Any, call: Callable[[Any], Any]) -> tuple[str, str]:
    """What Keras and handmill say of a call that both refuse with an error of the same kind."""
    texts = []
    kinds = []
    for library in (keras, handmill):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                call(library)
        except Exception as error:
            kinds.append(error)
            texts.append(str(error))
        else:
            raise AssertionError(f"{library.__name__} refuses nothing")
    assert isinstance(kinds[1], type(kinds[0])), kinds
    return texts[0], texts[1]
