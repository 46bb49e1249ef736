"""What save() accepts load_model() reads: names, depth, tables, order and number of layers."""

from __future__ import annotations

import json
import threading
import time
import zipfile

import numpy as np
import pytest

import handmill as hm
from handmill import layers, models
from handmill.saving import (
    archive,
    deserialize_keras_object,
    json_data,
    serialize_keras_object,
    tensors,
)

pytestmark = pytest.mark.alone

NAMES = ("输出", "ünit", "(a)", ".x", " a", "π", "a", "Größe", "-", "._.", "a..b", "%s")


def net(name="logits"):
    return models.Sequential([layers.Input((4,)), layers.Dense(2, name=name)])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("file", ("m.hmill", "m.weights.hmill", "m.safetensors"))
def test_names_of_layers(tmp_path, name, file):
    model, path = net(name), tmp_path / file
    if file == "m.hmill":
        model.save(path)
        loaded = models.load_model(path)
        assert loaded.layers[0].name == name
    else:
        model.save_weights(path)
        loaded = net(name)
        loaded.load_weights(path)
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_files_whose_tensor_names_begin_with_two_points(tmp_path):
    """They were written before names were stripped; what was trained then is not lost."""
    model, path = net(), tmp_path / "m.hmill"
    model.save(path)
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    arrays = {f"0000{i}..kernel": w for i, w in enumerate(model.get_weights())}
    members["model.safetensors"] = b"".join(tensors.to_tensors(arrays))
    archive.write_file(path, members, overwrite=True)
    np.testing.assert_array_equal(models.load_model(path).get_weights()[0], arrays["00000..kernel"])


@pytest.mark.parametrize(
    "name",
    ("00000../w", "00000...w", "..kernel", "0..kernel", "00000.a..b", "a00000..b", "00000.ä"),
)
def test_other_tensor_names_are_refused(tmp_path, name):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"".join(tensors.to_tensors({name: np.zeros((4, 2), "float32")})))
    with pytest.raises(ValueError, match="with the name"):
        net().load_weights(path)


@pytest.mark.slow
def test_tensors_keep_their_order_beyond_99999():
    names = tensors.tensor_names("w" for _ in range(100_001))
    assert names == sorted(names)
    assert tensors.tensor_names(["a/kernel", "(b)/bias"]) == ["00000.a.kernel", "00001.b.bias"]


def nested(depth):
    model = net()
    for _ in range(depth):
        model = models.Sequential([layers.Input((4,)), model])
    return model


@pytest.mark.slow
def test_models_inside_each_other(tmp_path):
    model, path = nested(60), tmp_path / "m.hmill"
    model.save(path)
    x = np.ones((3, 4), "float32")
    np.testing.assert_array_equal(models.load_model(path).predict(x), model.predict(x))


@pytest.mark.parametrize(
    ("data", "words"),
    (
        (["x" * 100] * 200_000, "MB can be read again"),
        ([[]] * 2 + [{"a": [0]}], None),
    ),
)
def test_descriptions_too_long_to_be_read_are_not_written(data, words):
    if words is None:
        assert json_data.from_json(json_data.to_json(data, "it"), "it") == data
        return
    with pytest.raises(ValueError, match=words):
        json_data.to_json(data, "it")


@pytest.mark.slow
@pytest.mark.parametrize("depth", (600, 100_000))
def test_descriptions_too_deep_to_be_read_are_not_written(depth):
    data = []
    for _ in range(depth):
        data = [data]
    with pytest.raises(ValueError, match="levels deep"):
        json_data.to_json(data, "it")


TABLES = {
    "large": np.random.default_rng(0).standard_normal((900, 900)).astype("float32"),
    "small": np.arange(6, dtype="float32").reshape(2, 3),
    "not finite": np.array([[np.nan, 1.0, -np.inf]], "float32"),
    "float64": np.linspace(0, 1, 600).reshape(300, 2),
    "uint16": np.arange(600, dtype="uint16").reshape(300, 2),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_in_descriptions(tmp_path, name):
    table, path = TABLES[name], tmp_path / "m.hmill"
    start = hm.initializers.Constant(table)
    model = models.Sequential(
        [
            layers.Input((table.shape[0],)),
            layers.Dense(table.shape[1], kernel_initializer=start, use_bias=False),
        ]
    )
    model.save(path)
    loaded = models.load_model(path)
    found = loaded.layers[0].kernel_initializer.value
    assert found.dtype == table.dtype
    np.testing.assert_array_equal(found, table)
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])


@pytest.mark.slow
def test_missing_table(tmp_path):
    path = tmp_path / "m.hmill"
    start = hm.initializers.Constant(TABLES["large"])
    models.Sequential([layers.Input((900,)), layers.Dense(900, kernel_initializer=start)]).save(
        path
    )
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    del members["constants.safetensors"]
    archive.write_file(path, members, overwrite=True)
    with pytest.raises(ValueError, match="architecture is damaged"):
        models.load_model(path)


@pytest.mark.parametrize("shape", ((0, 3), (2, 0), (0,)))
def test_arrays_without_elements_keep_their_shape(shape):
    made = deserialize_keras_object(serialize_keras_object(np.zeros(shape, "int8")))
    assert made.shape == shape
    assert made.dtype == np.int8


@pytest.mark.parametrize("array", (np.array(["a"]), np.array([1j]), np.array([None])))
def test_arrays_that_cannot_be_read_are_not_written(array):
    with pytest.raises(TypeError, match="cannot be written"):
        serialize_keras_object(array)


# The layers of a functional model in any order, in time proportional to their number.


def reversed_chain(path, count):
    x = layers.Input((2,))
    models.Model(x, layers.Identity()(x)).save(path)
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    config = json.loads(members["config.json"])
    first, pattern = config["config"]["layers"]
    made, before = [], first["name"]
    for i in range(count):
        layer = json.loads(json.dumps(pattern))
        layer["name"] = layer["config"]["name"] = f"i{i}"
        layer["inbound_nodes"][0]["args"][0]["config"]["keras_history"] = [before, 0, 0]
        made.append(layer)
        before = f"i{i}"
    config["config"]["layers"] = [first, *reversed(made)]
    config["config"]["output_layers"] = [[before, 0, 0]]
    members["config.json"] = json.dumps(config).encode()
    archive.write_file(path, members, overwrite=True)


@pytest.mark.slow
def test_layers_in_reverse_order(tmp_path):
    path = tmp_path / "m.hmill"
    seconds = []
    for count in (200, 1600):
        reversed_chain(path, count)
        taken = []
        for _ in range(3):  # the least: other programs and the collector of garbage come and go
            start = time.process_time()
            model = models.load_model(path)
            taken.append(time.process_time() - start)
        seconds.append(min(taken))
        assert [layer.name for layer in model.layers[1:]] == [f"i{i}" for i in range(count)]
    assert seconds[1] < 24 * seconds[0], seconds  # quadratic time would be 64 times


def test_calls_that_wait_for_each_other(tmp_path):
    path = tmp_path / "m.hmill"
    reversed_chain(path, 3)
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    for name, text in (("i2", "never computed"), ("nobody", "lacks layer")):
        config = json.loads(members["config.json"])
        entry = next(e for e in config["config"]["layers"] if e["name"] == "i0")
        entry["inbound_nodes"][0]["args"][0]["config"]["keras_history"] = [name, 0, 0]
        changed = {**members, "config.json": json.dumps(config).encode()}
        archive.write_file(path, changed, overwrite=True)
        with pytest.raises(ValueError, match=text):
            models.load_model(path)


def test_shared_layers_are_called_in_their_order(tmp_path):
    """A second call of a layer that takes what a later layer gives."""
    x = layers.Input((3,))
    shared, other = layers.Dense(3, name="shared"), layers.Dense(3, name="other")
    model = models.Model(x, layers.Add()([shared(other(shared(x))), x]))
    path = tmp_path / "m.hmill"
    model.save(path)
    loaded = models.load_model(path)
    data = np.random.default_rng(1).standard_normal((5, 3)).astype("float32")
    np.testing.assert_array_equal(loaded.predict(data), model.predict(data))


# Threads.


def test_custom_objects_stay_in_their_thread(tmp_path):
    class Own(layers.Layer):
        def call(self, x):
            return x * 2.0

    path = tmp_path / "m.hmill"
    models.Sequential([layers.Input((4,)), Own(), layers.Dense(2)]).save(path)
    inside, done = threading.Event(), threading.Event()
    outcome = []

    def other():
        inside.wait(10)
        try:
            models.load_model(path)
            outcome.append("loaded")
        except ValueError as error:
            outcome.append(str(error))
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with hm.saving.custom_object_scope({"Own": Own}), hm.saving.custom_object_scope(None):
        inside.set()
        done.wait(10)
        assert isinstance(models.load_model(path).layers[0], Own)
    thread.join()
    assert len(outcome) == 1
    assert "custom_objects" in outcome[0]


@pytest.mark.slow
def test_a_thousand_layers_and_more(tmp_path):
    """Python's stack bounds how deep models nest, not how many layers follow each other."""
    stack = [layers.Input((4,))] + [layers.Identity() for _ in range(1200)] + [layers.Dense(1)]
    model, path = models.Sequential(stack), tmp_path / "m.hmill"
    model.save(path)
    x = np.ones((2, 4), "float32")
    np.testing.assert_array_equal(models.load_model(path).predict(x), model.predict(x))
