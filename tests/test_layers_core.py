"""Layers of the folder core: EinsumDense, Embedding, Lambda, Wrapper, Masking, Identity."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers, ops
from layer_parity import (
    check_config,
    check_layer,
    check_policy,
    errors_of,
    normal,
    same_weights,
    weights_of,
)

pytestmark = pytest.mark.filterwarnings("ignore::handmill.TrainingWarning")

IDS = np.random.default_rng(2).integers(0, 7, (6, 5)).astype("int32")

EINSUM = {
    "dense": (("ab,bc->ac",), {"output_shape": 3, "bias_axes": "c"}, (4,), (6, 4)),
    "steps": (("abc,cd->abd",), {"output_shape": (None, 3), "bias_axes": "d"}, (5, 4), (6, 5, 4)),
    "fixed": (("abc,cd->abd",), {"output_shape": (5, 3), "activation": "tanh"}, (5, 4), (6, 5, 4)),
    "lengths": (("abc,cd->abd",), {"output_shape": (None, 3)}, (None, 4), (6, 5, 4)),
    "left": (("...x,xy->...y",), {"output_shape": 3, "bias_axes": "y"}, (5, 5, 4), (6, 5, 5, 4)),
    "right": (
        ("ab...,bc->ac...",),
        {"output_shape": 3, "bias_axes": "c"},
        (5, 2, 4),
        (6, 5, 2, 4),
    ),
    "heads": (
        ("abc,cde->abde",),
        {"output_shape": (None, 2, 3), "bias_axes": "de"},
        (5, 4),
        (6, 5, 4),
    ),
    "heads_joined": (
        ("abcd,cde->abe",),
        {"output_shape": (None, 3), "bias_axes": "e"},
        (5, 2, 4),
        (6, 5, 2, 4),
    ),
    "other_order": (
        ("abc,bde->aed",),
        {"output_shape": (3, 2), "bias_axes": "e"},
        (5, 4),
        (6, 5, 4),
    ),
    "penalties": (
        ("ab,bc->ac",),
        {
            "output_shape": 3,
            "bias_axes": "c",
            "kernel_regularizer": "l2",
            "bias_regularizer": "l1",
            "kernel_constraint": "max_norm",
            "bias_constraint": "non_neg",
            "activity_regularizer": "l2",
        },
        (4,),
        (6, 4),
    ),
}


@pytest.mark.peers
@pytest.mark.parametrize("name", EINSUM)
def test_einsum_dense_is_that_of_keras(keras: Any, name: str, tmp_path: Any) -> None:
    args, given, shape, size = EINSUM[name]
    check_layer(
        keras,
        lambda k: k.layers.EinsumDense(*args, **given),
        normal(*size),
        [shape],
        saved=tmp_path / "model.hmill",
    )


def test_the_kernel_of_einsum_dense_has_the_scale_of_its_inputs() -> None:
    layer = layers.EinsumDense("abc,cde->abde", (None, 50, 40))
    layer.build((None, 5, 30))
    limit = np.sqrt(6 / (30 + 2000))
    kernel = layer.kernel.numpy()
    assert 0.99 * limit < np.abs(kernel).max() <= limit
    assert layer.kernel_initializer.input_axes is None


@pytest.mark.peers
@pytest.mark.parametrize(
    ("equation", "given", "shape"),
    (
        ("ab,bc", {"output_shape": 3}, (2, 4)),
        ("ab,bc->ad", {"output_shape": 3}, (2, 4)),
        ("ab,bd->ab", {"output_shape": 4}, (2, 4)),
        ("abc,cd->abd", {"output_shape": (7, 3)}, (2, 5, 4)),
        ("ab,bc->ac", {"output_shape": 3, "bias_axes": "b"}, (2, 4)),
    ),
)
def test_equations_that_are_none(keras: Any, equation: str, given: Any, shape: Any) -> None:
    def call(k: Any) -> None:
        k.layers.EinsumDense(equation, **given).build(shape)

    errors_of(keras, call)


def test_einsum_dense_needs_sizes_for_its_kernel() -> None:
    with pytest.raises(ValueError, match=r"kernel .* has no fixed size"):
        layers.EinsumDense("abc,cd->abd", (None, 3))(handmill.Input((5, None)))


EMBEDDINGS: dict[str, Any] = {
    "plain": {},
    "regularized": {"embeddings_regularizer": "l2", "embeddings_constraint": "max_norm"},
    "activity": {"activity_regularizer": "l2"},
    "initializer": {"embeddings_initializer": "ones"},
}


@pytest.mark.peers
@pytest.mark.parametrize("name", EMBEDDINGS)
@pytest.mark.parametrize("shape", ((5,), (None,)), ids=("fixed", "lengths"))
def test_embedding_is_that_of_keras(keras: Any, name: str, shape: Any, tmp_path: Any) -> None:
    given = EMBEDDINGS[name]
    check_layer(
        keras,
        lambda k: k.layers.Embedding(7, 4, **given),
        IDS,
        [shape],
        before=False,
        saved=tmp_path / "model.hmill",
    )


@pytest.mark.peers
def test_masks_of_embeddings_reach_losses_and_metrics(keras: Any) -> None:
    results = []
    for library in (keras, handmill):
        model = library.Sequential(
            [
                library.Input((5,), dtype="int32"),
                library.layers.Embedding(7, 4, mask_zero=True),
                library.layers.Dense(2),
            ]
        )
        rng = np.random.default_rng(0)
        model.set_weights([rng.normal(size=w.shape) for w in model.weights])
        model.compile(library.optimizers.SGD(0.1), "mse", metrics=["mae"])
        y = normal(6, 5, 2)
        losses = model.fit(IDS, y, batch_size=3, epochs=2, shuffle=False, verbose=0).history["loss"]
        losses += model.evaluate(IDS, y, verbose=0)  # on JAX, metrics of Keras have no mask in fit
        results.append((losses, [np.asarray(w.value) for w in model.weights]))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=2e-5)
    for a, b in zip(results[1][1], results[0][1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ("int32", "int64", "uint8", "int8", "float32", "float64", "bool"))
def test_numbers_of_any_dtype_are_taken(dtype: str) -> None:
    layer = layers.Embedding(7, 4)
    ids = (IDS % 2).astype(dtype)
    np.testing.assert_array_equal(layer(ids), layer.embeddings.numpy()[IDS % 2])


def test_floats_that_cannot_tell_the_numbers_apart_are_refused() -> None:
    layer = layers.Embedding((1 << 24) + 1, 1, embeddings_initializer="zeros")
    with pytest.raises(ValueError, match=r"float32, which cannot hold .*dtype='int32'"):
        layer(np.array([[1.0]], "float32"))
    assert layer(np.array([[1 << 24]])).shape == (1, 1, 1)
    assert layers.Embedding(256, 2)(handmill.Input((3,), dtype="bfloat16")).shape == (None, 3, 2)
    with pytest.raises(ValueError, match="bfloat16, which cannot hold"):
        layers.Embedding(257, 2)(handmill.Input((3,), dtype="bfloat16"))


@pytest.mark.parametrize("wrong", (-1, 7, 2**31 - 1))
@pytest.mark.parametrize("backend", ("native", "numpy"))
def test_a_number_outside_is_refused_before_anything_is_written(wrong: int, backend: str) -> None:
    with handmill.use_backend(backend):
        model = handmill.Sequential(
            [
                handmill.Input((5,), dtype="int32"),
                layers.Embedding(7, 4),
                layers.Flatten(),
                layers.Dense(1),
            ]
        )
        model.compile("adam", "mse")
        ids = IDS.copy()
        ids[4, 3] = wrong
        before = [v.numpy() for v in model.variables]
        place = ", at place 3 of its row"
        text = rf"embedding index {wrong} is not an integer from 0 to 6{place} .*row 4"
        with pytest.raises(ValueError, match=text):
            model.fit(ids, normal(6, 1), batch_size=6, shuffle=False, verbose=0)
        for old, variable in zip(before, model.variables, strict=True):
            np.testing.assert_array_equal(variable.numpy(), old)
        with pytest.raises(ValueError, match=text):
            model.predict(ids, verbose=0)
        with pytest.raises(ValueError, match=r"embedding index 1\.5"):
            layers.Embedding(7, 4)(np.array([[1.0, 1.5]], "float32"))


REVERSIBLE: dict[str, Any] = {
    "tied": {},
    "own": {"tie_weights": False},
    "capped": {"logit_soft_cap": 0.5, "embeddings_regularizer": "l2"},
    "dtype": {"reverse_dtype": "float32"},
}


@pytest.mark.peers
@pytest.mark.parametrize("name", REVERSIBLE)
def test_reversible_embedding_is_that_of_keras(keras: Any, name: str, tmp_path: Any) -> None:
    labels = np.roll(IDS, 1, axis=1)
    models = []
    for library in (keras, handmill):
        inputs = library.Input((None,), dtype="int32")
        layer = library.layers.ReversibleEmbedding(7, 4, **REVERSIBLE[name])
        outputs = layer(library.layers.Dense(4)(layer(inputs)), reverse=True)
        model = library.Model(inputs, outputs)
        loss = library.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(library.optimizers.SGD(0.1), loss)
        models.append((model, layer))
    (theirs, their_layer), (ours, our_layer) = models
    same_weights(theirs, ours)
    check_config(keras, their_layer, our_layer)
    assert ours.output_shape == tuple(theirs.output_shape) == (None, None, 7)
    want = theirs.predict(IDS, verbose=0)
    np.testing.assert_allclose(ours.predict(IDS, verbose=0), want, rtol=2e-5, atol=2e-6)
    for _ in range(3):
        loss = float(theirs.train_on_batch(IDS, labels))
        np.testing.assert_allclose(ours.train_on_batch(IDS, labels), loss, rtol=1e-4)
    for a, b in zip(ours.get_weights(), weights_of(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    ours.save(tmp_path / "model.hmill")
    again = handmill.models.load_model(tmp_path / "model.hmill")
    np.testing.assert_array_equal(again.predict(IDS, verbose=0), ours.predict(IDS, verbose=0))


def test_the_mask_of_a_reversible_embedding_ends_where_it_is_reversed() -> None:
    inputs = handmill.Input((5,), dtype="int32")
    layer = layers.ReversibleEmbedding(7, 4, mask_zero=True)
    vectors = layer(inputs)
    assert vectors.mask is not None
    assert layer(vectors, reverse=True).mask is None


def test_embeddings_start_from_given_vectors() -> None:
    table = normal(7, 4)
    for weights in (table, [table]):
        layer = layers.Embedding(7, 4, weights=weights)
        np.testing.assert_array_equal(layer(IDS), table[IDS])
    with pytest.raises(ValueError, match="not compatible"):
        layers.Embedding(8, 4, weights=table)


@pytest.mark.parametrize("threads", (1, 2))
def test_equal_numbers_add_up_in_one_order(threads: int) -> None:
    found = []
    for count in (1, threads):
        before = handmill.config.num_threads()
        handmill.config.set_num_threads(count)
        try:
            model = handmill.Sequential(
                [
                    handmill.Input((400,), dtype="int32"),
                    layers.Embedding(50, 8, weights=normal(50, 8)),
                ]
            )
            model.compile(handmill.optimizers.SGD(0.1), "mse")
            ids = np.random.default_rng(1).integers(0, 50, (32, 400)).astype("int32")
            model.train_on_batch(ids, normal(32, 400, 8))
            found.append(model.get_weights()[0])
        finally:
            handmill.config.set_num_threads(before)
    np.testing.assert_array_equal(*found)


@pytest.mark.peers
@pytest.mark.parametrize(
    "arguments", ((0, 3), (3, -1), (True, 3), (2.5, 3), (3, None)), ids=map(str, range(5))
)
def test_sizes_of_embeddings_are_positive(keras: Any, arguments: Any) -> None:
    errors_of(keras, lambda k: k.layers.Embedding(*arguments))


@pytest.mark.parametrize(
    "make",
    (
        lambda **given: layers.Embedding(7, 4, **given),
        lambda **given: layers.Dense(4, **given),
        lambda **given: layers.EinsumDense("ab,bc->ac", 4, **given),
    ),
    ids=("embedding", "dense", "einsum"),
)
def test_arguments_that_do_nothing_yet_are_refused(make: Any) -> None:
    text = "`quantization_config` says how a quantized layer computes"
    with pytest.raises(ValueError, match=text):
        make(quantization_config=2)


def test_input_length_of_older_scripts_is_left_out_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="input_length"):
        layer = layers.Embedding(7, 4, input_length=5)
    assert layer(IDS).shape == (6, 5, 4)


def test_bfloat16(keras: Any) -> None:
    x = normal(6, 5, 4)
    check_policy(keras, lambda k, d: k.layers.EinsumDense("abc,cd->abd", (None, 3), dtype=d), x)
    layer = layers.Embedding(7, 4, dtype="mixed_bfloat16")
    assert ops.dtype(layer(IDS)) == "bfloat16"
    assert layer.embeddings.dtype == "float32"
    np.testing.assert_array_equal(
        layer(IDS).astype("float32"),
        np.asarray(ops.cast(layer.embeddings.numpy()[IDS], "bfloat16")).astype("float32"),
    )


@handmill.saving.register_keras_serializable(package="tests")
def twice(x: Any) -> Any:
    return ops.multiply(x, 2.0)


@pytest.mark.peers
@pytest.mark.parametrize(
    "name", ("square", "arguments", "shape", "whole_shape", "reduced", "two_inputs")
)
def test_lambda_is_that_of_keras(keras: Any, name: str) -> None:
    def make(library: Any) -> Any:
        o, layer = library.ops, library.layers.Lambda
        return {
            "square": lambda: layer(lambda x: x**2),
            "arguments": lambda: layer(lambda x, by: x * by, arguments={"by": 3.0}),
            "shape": lambda: layer(lambda x: x[:, :2], output_shape=(2, 4)),
            "whole_shape": lambda: layer(lambda x: x[:, 0], output_shape=lambda s: (s[0], s[2])),
            "reduced": lambda: layer(lambda x: o.mean(x, axis=1)),
            "two_inputs": lambda: layer(lambda t: o.abs(t[0] - t[1])),
        }[name]()

    x = [normal(6, 5, 4), normal(6, 5, 4, seed=1)] if name == "two_inputs" else normal(6, 5, 4)
    arrays = x if isinstance(x, list) else [x]
    outputs = []
    for library in (keras, handmill):
        inputs = [library.Input((5, 4)) for _ in arrays]
        layer = make(library)
        model = library.Model(inputs, layer(inputs if len(inputs) > 1 else inputs[0]))
        outputs.append((model.output_shape, np.asarray(model.predict(arrays, verbose=0))))
        shape = (None, 5, 4)
        found = layer.compute_output_shape([shape, shape] if len(inputs) > 1 else shape)
        assert tuple(found) == tuple(model.output_shape)
    assert outputs[0][0] == outputs[1][0]
    np.testing.assert_allclose(outputs[1][1], outputs[0][1], rtol=1e-6)


def test_lambda_hands_on_training_and_masks() -> None:
    x = normal(2, 3, 2)
    x[0, 1:] = 0
    inputs = handmill.Input((3, 2))

    def seen(y: Any, mask: Any = None, training: Any = None) -> Any:
        return ops.cast(mask, "float32") + (10.0 if training else 0.0)

    with pytest.warns(UserWarning, match="does not support masking"):
        model = handmill.Model(inputs, layers.Lambda(seen)(layers.Masking()(inputs)))
    mask = (x != 0).any(-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(model(x), mask)
        np.testing.assert_array_equal(model(x, training=True), mask + 10.0)
    kept = layers.Lambda(lambda y: y * 1.0, mask=lambda y, mask: mask)
    assert kept(layers.Masking()(inputs)).mask is not None
    with pytest.warns(UserWarning, match="does not support masking"):
        assert layers.Lambda(lambda y: y * 1.0)(layers.Masking()(inputs)).mask is None


def test_a_mask_can_be_given_to_lambda_as_it_is() -> None:
    layer = layers.Lambda(lambda x: x * 2.0, mask=np.array([[True, False, True]]))
    inputs = handmill.Input((3, 2))
    tensor = layer(inputs)
    assert tensor.mask is not None
    seen = layers.Lambda(lambda x, mask=None: ops.cast(mask, "float32"), mask=lambda x, mask: mask)
    model = handmill.Model(inputs, seen(tensor))
    np.testing.assert_array_equal(model(normal(1, 3, 2)), [[1, 0, 1]])


def test_a_wrong_declared_shape_is_named() -> None:
    with pytest.raises(ValueError, match=r"declares the shape \(None, 7\).*returned \(None, 3\)"):
        layers.Lambda(lambda x: x, output_shape=(7,))(handmill.Input((3,)))


def test_models_with_named_functions_are_saved_and_those_with_lambdas_are_not(
    tmp_path: Any,
) -> None:
    def model_of(function: Any, **given: Any) -> Any:
        inputs = handmill.Input((3,))
        return handmill.Model(inputs, layers.Lambda(function, **given)(inputs))

    x = normal(2, 3)
    model = model_of(twice)
    model.save(tmp_path / "named.hmill")
    again = handmill.models.load_model(tmp_path / "named.hmill")
    np.testing.assert_array_equal(again(x), 2 * x)
    np.testing.assert_array_equal(handmill.models.clone_model(model)(x), 2 * x)
    for wrong in (model_of(lambda x: x), model_of(twice, output_shape=lambda s: s)):
        with pytest.raises(TypeError, match=r"Lambda.*lambda is code.*register_keras_serializ"):
            wrong.save(tmp_path / "code.hmill")
        assert not (tmp_path / "code.hmill").exists()


@pytest.mark.peers
def test_code_in_configs_of_keras_is_never_run(keras: Any) -> None:
    config = keras.layers.Lambda(lambda x: x).get_config()
    assert config["function"]["class_name"] == "__lambda__"
    with pytest.raises(ValueError, match="never runs from a file"):
        layers.Lambda.from_config(config)
    with pytest.raises(ValueError, match="never run"):
        layers.Lambda.from_config(config, safe_mode=False)


def test_a_lambda_is_no_slower_a_plan_than_its_operators() -> None:
    x, y = normal(8, 4), normal(8, 4)
    counts = []
    for middle in (layers.Lambda(ops.relu), layers.Activation("relu")):
        model = handmill.Sequential([handmill.Input((4,)), layers.Dense(4), middle])
        model.compile("sgd", "mse")
        model.fit(x, y, verbose=0)
        program, _ = model.step_to_compare(x, y)
        counts.append([s["kernel"] for s in program.plan(x, y).summary()])
    assert counts[0] == counts[1]


class Doubled(layers.Wrapper):
    """Twice what the layer inside gives."""

    def call(self, inputs: Any) -> Any:
        return 2.0 * self.layer(inputs)


@pytest.mark.peers
def test_wrapper_is_that_of_keras(keras: Any, tmp_path: Any) -> None:
    class Theirs(keras.layers.Wrapper):
        def call(self, inputs: Any) -> Any:
            return 2.0 * self.layer(inputs)

    x, y = normal(6, 4), normal(6, 3)
    models = []
    for library, wrapper in ((keras, Theirs), (handmill, Doubled)):
        model = library.Sequential([library.Input((4,)), wrapper(library.layers.Dense(3))])
        model.set_weights([normal(4, 3), normal(3)])
        model.compile(library.optimizers.SGD(0.1), "mse")
        losses = [float(model.train_on_batch(x, y)) for _ in range(3)]
        models.append((model, losses))
    (theirs, want), (ours, found) = models
    np.testing.assert_allclose(found, want, rtol=1e-5)
    assert [w.name for w in ours.weights] == [w.name for w in theirs.weights]
    check_config(
        keras, keras.layers.Wrapper(keras.layers.Dense(2)), layers.Wrapper(layers.Dense(2))
    )
    ours.save(tmp_path / "model.hmill")
    again = handmill.models.load_model(
        tmp_path / "model.hmill", custom_objects={"Doubled": Doubled}
    )
    np.testing.assert_array_equal(again(x), ours(x))
    errors_of(keras, lambda k: k.layers.Wrapper(2))


@pytest.mark.peers
def test_identity_and_masking_are_those_of_keras(keras: Any) -> None:
    x = normal(6, 5, 4)
    x[1, 2:] = 0
    check_layer(keras, lambda k: k.layers.Identity(), x)
    check_layer(keras, lambda k: k.layers.Masking(), x, before=False, trains=False)
    check_layer(keras, lambda k: k.layers.Masking(0.5), x, [(None, 4)], before=False, trains=False)


def test_in_models_by_subclassing() -> None:
    class Net(handmill.Model):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = layers.Embedding(7, 4)
            self.scale = layers.Lambda(lambda x: x * 0.5)
            self.project = layers.EinsumDense("abc,cd->abd", (None, 3), bias_axes="d")

        def call(self, x: Any) -> Any:
            return self.project(self.scale(self.embedding(x)))

    net = Net()
    net.compile("sgd", "mse")
    net.fit(IDS, normal(6, 5, 3), verbose=0)
    table, kernel, bias = net.get_weights()
    want = np.einsum("abc,cd->abd", table[IDS] * 0.5, kernel) + bias
    np.testing.assert_allclose(net.predict(IDS, verbose=0), want, rtol=1e-5, atol=1e-6)
