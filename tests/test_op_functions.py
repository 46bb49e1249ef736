"""Functions of ``ops`` in functional models: one operation each, in Keras's order and files."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

import handmill
from handmill import layers, ops

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 8)).astype("float32")

FUNCTIONS = {
    "Absolute": lambda lib, x: abs(x),
    "Add": lambda lib, x: 1.0 + x,
    "ArgMax": lambda lib, x: lib.ops.one_hot(lib.ops.argmax(x, axis=1), 8),
    "Average": lambda lib, x: lib.ops.average(x, axis=1, weights=np.arange(8, dtype="float32")),
    "BinaryCrossentropy": lambda lib, x: lib.ops.binary_crossentropy(
        lib.ops.sigmoid(x), lib.ops.sigmoid(-x)
    ),
    "Cast": lambda lib, x: lib.ops.cast((x > 0) & (x < 1), "float32"),
    "Clip": lambda lib, x: lib.ops.clip(x, -1, 1),
    "Concatenate": lambda lib, x: lib.ops.concatenate([x, 2 * x], axis=-1),
    "Cumsum": lambda lib, x: lib.ops.cumsum(x, axis=1),
    "Divide": lambda lib, x: x / 3,
    "Einsum": lambda lib, x: lib.ops.einsum("ab,cb->ac", x, x),
    "FloorDivide": lambda lib, x: x // 2.0,
    "FullLike": lambda lib, x: lib.ops.full_like(x, 3.0),
    "Gelu": lambda lib, x: lib.activations.gelu(x),
    "GetItem": lambda lib, x: x[:, 2:, None],
    "GetItem of an ellipsis": lambda lib, x: x[..., 1],
    "GetItem of two": lambda lib, x: x[:2, 1:-1:2],
    "LayerNorm": lambda lib, x: lib.ops.layer_normalization(x),
    "Logsumexp": lambda lib, x: lib.ops.logsumexp(x, axis=-1),
    "Matmul": lambda lib, x: x @ lib.ops.transpose(x),
    "Matmul of a constant": lambda lib, x: lib.ops.matmul(x, np.ones((8, 2), "float32")),
    "Mean": lambda lib, x: lib.ops.mean(x[:, None], axis=(1, 2), keepdims=True),
    "Mod": lambda lib, x: x % 2.0,
    "Moments": lambda lib, x: lib.ops.moments(x, axes=[1])[1],
    "Normalize": lambda lib, x: lib.ops.normalize(x, axis=1),
    "Pad": lambda lib, x: lib.ops.pad(x, ((0, 0), (1, 1)), constant_values=2.0),
    "Power": lambda lib, x: x**2,
    "ReLU": lambda lib, x: lib.activations.relu(x, negative_slope=0.1, max_value=1.5),
    "Repeat": lambda lib, x: lib.ops.repeat(x, 2, axis=1),
    "Reshape": lambda lib, x: lib.ops.reshape(x, (-1, 2, 4)),
    "Resize": lambda lib, x: lib.ops.image.resize(lib.ops.reshape(x, (-1, 2, 2, 2)), (4, 4)),
    "Slice": lambda lib, x: lib.ops.slice(x, (0, 1), (1, 3)),
    "Softmax": lambda lib, x: lib.ops.nn.softmax(x),
    "Split": lambda lib, x: lib.ops.split(x, 2, axis=1)[1],
    "Square": lambda lib, x: lib.ops.square(x) - x,
    "Stack": lambda lib, x: lib.ops.stack([x, x], axis=1),
    "Take": lambda lib, x: lib.ops.take(x, [1, 2], axis=1),
    "Tensordot": lambda lib, x: lib.ops.tensordot(x, np.ones((8, 2), "float32"), axes=1),
    "TopK": lambda lib, x: lib.ops.top_k(x, 2)[0],
    "Unstack": lambda lib, x: lib.ops.unstack(x, axis=1)[3],
    "Var": lambda lib, x: lib.ops.var(x, axis=1),
    "Where": lambda lib, x: lib.ops.where(x > 0, x, 0.1 * x),
    "mean_squared_error": lambda lib, x: lib.losses.mean_squared_error(x, 2 * x),
    "categorical_crossentropy": lambda lib, x: lib.losses.categorical_crossentropy(
        lib.ops.softmax(x), lib.ops.softmax(-x)
    ),
}


def model_of(library, name):
    x = library.Input((8,))
    return library.Model(x, FUNCTIONS[name](library, x))


def outputs(model):
    return np.asarray(model.predict(X, verbose=0))


QUICK = ("Einsum", "GetItem", "LayerNorm", "Mean", "Pad", "ReLU", "Stack", "TopK")


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in FUNCTIONS]
)
def test_a_model_of_functions_is_one_again(tmp_path, name):
    model = model_of(handmill, name)
    want = outputs(model)
    for path in (tmp_path / "m.keras", tmp_path / "m.hmill"):
        if path.suffix == ".keras":
            pytest.importorskip("h5py")
        model.save(path)
        np.testing.assert_array_equal(outputs(handmill.models.load_model(path)), want)
    np.testing.assert_array_equal(outputs(handmill.models.clone_model(model)), want)


def test_arguments_of_any_name(tmp_path):
    x = handmill.Input((8,))
    model = handmill.Model(x, handmill.ops.rearrange(x, "b (h w) -> b w h", h=2))
    model.save(tmp_path / "m.hmill")
    again = handmill.models.load_model(tmp_path / "m.hmill")
    for one in (model, handmill.models.clone_model(model), again):
        assert one.output_shape == (None, 4, 2)
        np.testing.assert_array_equal(outputs(one), X.reshape(-1, 2, 4).transpose(0, 2, 1))


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_models_of_functions_travel_both_ways(tmp_path, keras, name):
    pytest.importorskip("h5py")
    path = str(tmp_path / "m.keras")
    ours, theirs = model_of(handmill, name), model_of(keras, name)
    want = outputs(theirs)
    np.testing.assert_allclose(outputs(ours), want, rtol=1e-5, atol=1e-5)
    ours.save(path)
    np.testing.assert_allclose(outputs(keras.models.load_model(path)), want, rtol=1e-5, atol=1e-5)
    theirs.save(path)
    np.testing.assert_allclose(outputs(handmill.models.load_model(path)), want, 1e-5, 1e-5)


def test_a_function_is_one_operation_with_the_name_of_keras():
    x = handmill.Input((8,))
    y = ops.normalize(x[:, None] - ops.logaddexp(x, x)[:, None], axis=-1)
    names = [operation.name.rstrip("_0123456789") for operation in handmill.Model(x, y).operations]
    assert sorted(names) == sorted(
        ["input_layer", "get_item", "logaddexp", "get_item", "subtract", "normalize"]
    )


def test_the_order_of_layers_does_not_depend_on_how_functions_are_computed():
    x = handmill.Input((8,))
    gate = layers.Dense(2, name="gate")(x)
    experts = ops.stack([layers.Dense(3, name=name)(x) for name in ("a", "b")], axis=1)
    model = handmill.Model(x, ops.sum(gate[:, :, None] * experts, axis=1))
    assert [layer.name for layer in model.layers][1:] == ["gate", "a", "b"]


def test_the_description_is_that_of_keras():
    x = handmill.Input((8,), name="x")
    model = handmill.Model(x, ops.mean(x, axis=1, keepdims=True))
    (entry,) = model.get_config()["layers"][1:]
    assert entry["module"] == "keras.src.ops.numpy"
    assert entry["class_name"] == entry["registered_name"] == "Mean"
    assert entry["config"] == {"name": entry["name"], "axis": 1, "keepdims": True}
    assert sorted(entry) == [
        "class_name", "config", "inbound_nodes", "module", "name", "registered_name"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    (
        ({"class_name": "Import"}, "Unknown operation: 'Import'"),
        ({"class_name": "__class__"}, "Unknown operation"),
        ({"class_name": "Shape", "module": "keras.src.ops.core"}, "Unknown operation: 'Shape'"),
        ({"config": {"name": "m", "surprise": 1}}, "the argument 'surprise'"),
    ),
)
def test_descriptions_that_no_function_fits(change, words):
    x = handmill.Input((8,), name="x")
    config = json.loads(json.dumps(handmill.Model(x, ops.mean(x, axis=1)).get_config()))
    config["layers"][1].update(change)
    with pytest.raises((ValueError, TypeError), match=words):
        handmill.Model.from_config(config)


def test_sizes_that_a_call_decides_are_filled_in(tmp_path):
    x = handmill.Input((None, 4))
    rows, length = ops.shape(x)[0], ops.shape(x)[1]
    model = handmill.Model(x, ops.reshape(x, (rows, length * 2, 2)))
    model.save(tmp_path / "m.hmill")
    again = handmill.models.load_model(tmp_path / "m.hmill")
    for size in (3, 5):
        assert again.predict(np.ones((2, size, 4)), verbose=0).shape == (2, 2 * size, 2)


def test_a_file_of_the_time_when_operators_were_written_down_is_read(tmp_path):
    """Before, a file named handmill's own operators."""
    x = handmill.Input((8,), name="x")
    model = handmill.Model(x, ops.square(x), name="m")
    model.save(tmp_path / "new.hmill")
    with zipfile.ZipFile(tmp_path / "new.hmill") as new:
        members = {name: new.read(name) for name in new.namelist()}
    config = json.loads(members["config.json"])
    entry = config["config"]["layers"][1]
    name = entry["name"]
    entry.update(module="keras.layers", class_name="OpLayer", registered_name=None)
    entry["config"] = {"name": name, "op": "square", "attrs": {}}
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(tmp_path / "old.hmill", "w") as old:
        for member, content in members.items():
            old.writestr(member, content)
    loaded = handmill.models.load_model(tmp_path / "old.hmill")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), X * X)


def test_summaries_and_messages_name_the_class_of_keras():
    x = handmill.Input((8,))
    lines = []
    handmill.Model(x, ops.mean(x, axis=1)).summary(print_fn=lines.append)
    assert "(Mean)" in "\n".join(map(str, lines))
    with pytest.raises(ValueError, match=r"\(Matmul\)"):
        ops.matmul(x, np.ones((7, 2), "float32"))
