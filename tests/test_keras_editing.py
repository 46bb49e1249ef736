"""Weights in several files, models as folders, and the editor of files: both ways with Keras."""

import errno
import json
import os
import zipfile

import numpy as np
import pytest

import handmill
from handmill import layers, models

h5py = pytest.importorskip("h5py", reason="Keras's files are HDF5")

X = np.random.default_rng(3).normal(size=(16, 6)).astype("float32")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZE = 6e-7  # gigabytes: about 640 bytes, so that the weights below need several files


def net(library, compiled=True):
    parts = library.layers
    model = library.Sequential(
        [
            library.Input((6,)),
            parts.Dense(20, activation="tanh"),
            parts.BatchNormalization(),
            parts.Dense(4),
        ]
    )
    if compiled:
        model.compile(library.optimizers.Adam(0.01), "mse")
        model.fit(X, X[:, :4], epochs=1, verbose=0)
    return model


@pytest.fixture(scope="module")
def trained():
    return net(handmill)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def state(model):
    return [v.numpy() for v in (*model.variables, *model.optimizer.variables)]


def test_shards_hold_weights_and_optimizer(trained, tmp_path):
    trained.save_weights(tmp_path / "w.weights.json", max_shard_size=SIZE)
    index = json.loads((tmp_path / "w.weights.json").read_text())
    files = {f for v in index["weight_map"].values() for f in (v if isinstance(v, list) else [v])}
    assert len(files) > 3
    assert names(tmp_path) == sorted([*files, "w.weights.json"])
    assert all((tmp_path / f).stat().st_size < 20_000 for f in files)
    other = models.clone_model(trained)
    other.load_weights(tmp_path / "w.weights.json")
    for a, b in zip(state(other), state(trained), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(FileExistsError):
        trained.save_weights(tmp_path / "w.weights.json", overwrite=False, max_shard_size=SIZE)
    with pytest.raises(ValueError, match="exceeds the maximum shard size"):
        trained.save_weights(tmp_path / "w.weights.json", max_shard_size=1e-7)
    with pytest.raises(ValueError, match=r"must end in `\.weights\.json`"):
        trained.save_weights(tmp_path / "w.hmill", max_shard_size=1)
    with pytest.warns(UserWarning, match="is renamed to"):
        trained.save_weights(tmp_path / "one.weights.h5", max_shard_size=1)
    assert {"one.weights.json", "one_00000.weights.h5"} <= set(names(tmp_path))


@pytest.mark.slow
def test_shards_and_folders_travel_both_ways(trained, tmp_path):
    keras = pytest.importorskip("keras")
    trained.save_weights(tmp_path / "h.weights.json", max_shard_size=SIZE)
    theirs = net(keras, compiled=False)
    theirs.compile(keras.optimizers.Adam(0.01), "mse")
    theirs.optimizer.build(theirs.trainable_variables)
    theirs.load_weights(tmp_path / "h.weights.json")
    for a, b in zip(theirs.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    theirs.layers[0].bias.assign(np.arange(20.0))
    theirs.save_weights(tmp_path / "k.weights.json", max_shard_size=SIZE)
    ours = net(handmill)
    ours.load_weights(tmp_path / "k.weights.json")
    for a, b in zip(theirs.get_weights(), ours.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert int(ours.optimizer.iterations.numpy()) == int(theirs.optimizer.iterations)
    trained.save(tmp_path / "h", zipped=False)
    np.testing.assert_allclose(
        np.asarray(keras.models.load_model(tmp_path / "h")(X)), trained(X), atol=1e-5
    )
    theirs.save(tmp_path / "k", zipped=False)
    loaded = models.load_model(tmp_path / "k")
    np.testing.assert_allclose(loaded(X), np.asarray(theirs(X)), atol=1e-5)


def hostile(index, change):
    data = json.loads(index.read_text())
    change(data)
    index.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("name", "match"),
    (
        ("../w_00000.weights.h5", "shards lie beside"),
        ("/etc/passwd", "shards lie beside"),
        ("a\\b.weights.h5", "shards lie beside"),
        (7, "shards lie beside"),
    ),
    ids=["up", "absolute", "backslash", "number"],
)
def test_an_index_names_no_file_elsewhere(trained, tmp_path, name, match):
    index = tmp_path / "w.weights.json"
    trained.save_weights(index, max_shard_size=1)
    hostile(index, lambda data: data["weight_map"].update({"/layers/dense/vars": name}))
    before = state(trained)
    with pytest.raises(ValueError, match=match):
        trained.load_weights(index)
    for a, b in zip(state(trained), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_shards_of_two_saves_are_not_mixed(trained, tmp_path):
    index = tmp_path / "w.weights.json"
    trained.save_weights(index, max_shard_size=1)
    old = (tmp_path / "w_00000.weights.h5").read_bytes()
    trained.save_weights(index, max_shard_size=1)
    (tmp_path / "w_00000.weights.h5").write_bytes(old)
    with pytest.raises(ValueError, match="was interrupted"):
        trained.load_weights(index)
    (tmp_path / "w_00000.weights.h5").unlink()
    with pytest.raises(FileNotFoundError):
        trained.load_weights(index)
    index.write_text('{"weight_map": 3}')
    with pytest.raises(ValueError, match="weight_map"):
        trained.load_weights(index)


@pytest.mark.parametrize("kind", ("shards", "folder"))
def test_a_full_disk_keeps_what_was_there(trained, tmp_path, monkeypatch, kind):
    def save():
        if kind == "shards":
            trained.save_weights(tmp_path / "w.weights.json", max_shard_size=SIZE)
        else:
            trained.save(tmp_path / "m", zipped=False)

    save()
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    write, written = os.write, []

    def full(descriptor, data):
        written.append(descriptor)
        if len(written) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        save()
    monkeypatch.undo()
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_model_as_a_folder(trained, tmp_path):
    trained.save(tmp_path / "m", zipped=False)
    assert names(tmp_path / "m") == ["config.json", "metadata.json", "model.weights.h5"]
    loaded = models.load_model(tmp_path / "m")
    for a, b in zip(state(loaded), state(trained), strict=True):
        np.testing.assert_array_equal(a, b)
    trained.save(tmp_path / "m", zipped=False)
    assert names(tmp_path) == ["m"]
    with pytest.raises(FileExistsError, match="overwrite=True"):
        trained.save(tmp_path / "m", overwrite=False, zipped=False)
    for name in ("m.keras", "m.hmill", "m.h5"):
        with pytest.raises(ValueError, match="should not end in"):
            trained.save(tmp_path / name, zipped=False)
    (tmp_path / "m" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"thesis\.txt"):
        trained.save(tmp_path / "m", zipped=False)
    assert (tmp_path / "m" / "thesis.txt").read_text() == "mine"
    models.load_model(tmp_path / "m")
    (tmp_path / "m" / "metadata.json").unlink()
    (tmp_path / "m" / "metadata.json").symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match="is a link"):
        models.load_model(tmp_path / "m")
    with pytest.raises(ValueError, match="File format not supported"):
        models.load_model(tmp_path)


def test_what_objects_to_skip_leaves_alone(tmp_path):
    first, second = net(handmill), net(handmill)
    kept = second.layers[0].get_weights()
    first.save_weights(tmp_path / "w.weights.h5")
    second.load_weights(tmp_path / "w.weights.h5", objects_to_skip=[second.layers[0]])
    for a, b in zip(second.layers[0].get_weights(), kept, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(second.layers[-1].kernel, first.layers[-1].kernel)
    first.save_weights(tmp_path / "p.weights.h5", objects_to_skip=[first.layers[0]])
    with pytest.raises(ValueError, match="received 0 variables"):
        second.load_weights(tmp_path / "p.weights.h5")
    first.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="only supports loading"):
        second.load_weights(tmp_path / "m.keras", objects_to_skip=[])
    with pytest.raises(ValueError, match="Invalid keyword"):
        second.load_weights(tmp_path / "w.weights.h5", other=1)


def test_the_editor_changes_a_copy(trained, tmp_path, capsys):
    path = tmp_path / "m.keras"
    trained.save(path)
    before = path.read_bytes()
    editor = handmill.saving.KerasFileEditor(path)
    editor.summary()
    assert "dense_1 (" in capsys.readouterr().out
    assert editor.config["class_name"] == "Sequential"
    assert editor.compare(trained)["status"] == "success"
    wider = handmill.Sequential(
        [handmill.Input((6,)), layers.Dense(20), layers.Dense(4), layers.Dense(2)]
    )
    result = editor.compare(wider)
    # Normalization, and what the optimizer keeps, are too much; the third Dense is missing.
    assert (result["status"], result["error_count"], result["match_count"]) == ("error", 3, 4)
    editor.delete_object("batch_normalization")
    editor.delete_object("optimizer")
    editor.add_object("layers/head", {"0": np.ones((4, 2), "float32")})
    editor.rename_object("layers/head", "dense_2")
    editor.add_weights("dense_2", {"1": np.ones(2, "float32"), "9": np.ones(2, "float32")})
    editor.delete_weight("dense_2", "9")
    assert editor.compare(wider) == {"status": "success", "error_count": 0, "match_count": 6}
    editor.save(tmp_path / "e.weights.h5")
    wider.load_weights(tmp_path / "e.weights.h5")
    np.testing.assert_array_equal(wider.layers[-1].kernel, np.ones((4, 2)))
    np.testing.assert_array_equal(wider.layers[0].kernel, trained.layers[0].kernel)
    assert path.read_bytes() == before
    assert handmill.saving.KerasFileEditor(tmp_path / "e.weights.h5").metadata is None


@pytest.mark.parametrize(
    ("call", "match"),
    (
        (lambda e: e.delete_object("dens"), "does not appear"),
        (lambda e: e.delete_object("layers/x"), "not found"),
        (lambda e: e.rename_object("dense", "a/b"), "one part of a path"),
        (lambda e: e.rename_object("dense", "dense_1"), "already"),
        (lambda e: e.add_object("x/y", {}), "not found"),
        (lambda e: e.add_object("layers/..", {}), "one part"),
        (lambda e: e.add_object("layers/z", [1]), "should be a dict"),
        (lambda e: e.add_weights("dense", {"0": "word"}), "not an array"),
        (lambda e: e.delete_weight("dense", "7"), "Weights found"),
        (lambda e: e.save("m.keras"), "expected a `.weights.h5`"),
    ),
    ids=[str(i) for i in range(10)],
)
def test_the_editor_refuses_what_it_cannot_do(trained, tmp_path, call, match):
    trained.save_weights(tmp_path / "w.weights.h5")
    editor = handmill.saving.KerasFileEditor(tmp_path / "w.weights.h5")
    with pytest.raises(ValueError, match=match):
        call(editor)
    assert editor.compare(trained)["status"] == "success"


def test_the_editor_ends_with_groups_that_lie_in_themselves(tmp_path):
    path = tmp_path / "w.weights.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("layers")
        group["a"] = group
        group["b"] = group
    with pytest.raises(ValueError, match="lies in itself"):
        handmill.saving.KerasFileEditor(path)
    with h5py.File(path, "w") as file:
        file["layers"] = h5py.ExternalLink("other.h5", "/layers")
    with pytest.raises(ValueError, match="ExternalLink"):
        handmill.saving.KerasFileEditor(path)


def test_a_clone_takes_the_state_of_the_optimizer_without_a_warning(trained, tmp_path, recwarn):
    trained.save_weights(tmp_path / "w.weights.h5")
    clone = models.clone_model(trained)
    clone.load_weights(tmp_path / "w.weights.h5")
    assert [str(w.message) for w in recwarn] == []
    for a, b in zip(state(clone), state(trained), strict=True):
        np.testing.assert_array_equal(a, b)


def without_vocabularies(path):
    """Makes a file as Keras writes it: what was learned lies in assets alone."""

    def strip(part):
        if isinstance(part, dict):
            if "vocabulary" in (part.get("build_config") or {}):
                part["build_config"] = {"input_shape": [None]}
            part = part.values()
        for item in part if not isinstance(part, str | int | float | type(None)) else ():
            strip(item)

    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    strip(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return members


WORDS = np.array([["red", "blue"], ["red", "green"], ["red", "blue"]])


@pytest.mark.parametrize("mode", ("int", "tf_idf"))
def test_vocabularies_lie_in_assets(tmp_path, mode):
    words = layers.StringLookup(output_mode=mode, name="words")
    numbers = layers.IntegerLookup(output_mode=mode, name="numbers")
    text = layers.TextVectorization(output_mode=mode, name="text")
    words.adapt(WORDS)
    numbers.adapt(np.array([[5, 7], [5, 9]]))
    text.adapt(["a b", "a c"])
    inputs = [
        handmill.Input((2,), dtype="string"),
        handmill.Input((2,), dtype="int64"),
        handmill.Input((1,), dtype="string"),
    ]
    model = handmill.Model(inputs, [words(inputs[0]), numbers(inputs[1]), text(inputs[2])])
    data = [WORDS, np.array([[5, 9], [1, 7], [7, 7]]), np.array([["a"], ["c b"], ["z"]])]
    path = tmp_path / "m.keras"
    model.save(path)
    members = without_vocabularies(path)
    found = members["assets/layers/string_lookup/vocabulary.txt"].decode().split("\n")
    assert found == words.get_vocabulary()
    assert "assets/layers/text_vectorization/vocabulary.txt" in members
    loaded = models.load_model(path)
    for a, b in zip(loaded.predict(data, verbose=0), model.predict(data, verbose=0), strict=True):
        np.testing.assert_array_equal(a, b)
    model.save(tmp_path / "m.hmill")
    models.load_model(tmp_path / "m.hmill")


@pytest.mark.parametrize("content", (b"[UNK]\na\na", b"x" * 9))
def test_vocabularies_that_do_not_fit(tmp_path, content):
    numbers = layers.IntegerLookup() if content == b"x" * 9 else layers.StringLookup()
    numbers.adapt([1, 2] if content == b"x" * 9 else ["a", "b"])
    model = handmill.Sequential([handmill.Input((1,), dtype=numbers.vocabulary_dtype), numbers])
    path = tmp_path / "m.keras"
    model.save(path)
    members = without_vocabularies(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, content if name.startswith("assets") else data)
    with pytest.raises(ValueError, match=r"vocabulary|invalid literal"):
        models.load_model(path)


def test_what_descriptions_hold(tmp_path):
    from handmill.saving import deserialize_keras_object as made
    from handmill.saving import serialize_keras_object as described

    for value in (b"abc", ..., slice(None, 3, 2), (1, [2.0, "x"]), {"a": {"b": None}}):
        again = made(json.loads(json.dumps(described(value))))
        assert again == (list(value) if isinstance(value, tuple) else value)
    with pytest.raises(TypeError, match="UTF-8"):
        described(b"\xff")
    dense = {"class_name": "Dense", "module": "keras.layers", "config": {"units": 1}}
    assert made(dense, None, True).units == 1
    with pytest.raises(ValueError, match="safe_mode=False"):
        made(dense, None, False)
    with pytest.raises(ValueError, match="resolved to a Keras built-in"):
        made({**dense, "registered_name": "subprocess.Popen"})
    function = {"class_name": "function", "module": "builtins", "config": "relu"}
    assert made(function) is handmill.activations.relu
    with pytest.raises(ValueError, match="resolved to a Keras built-in"):
        made({**function, "registered_name": "mine"})
    for name in ("os.system", "deserialize", "_relu", "get"):
        with pytest.raises((ValueError, TypeError)):
            made({**function, "config": name})
    with pytest.raises(TypeError, match="to be a dict"):
        made({**dense, "config": [1]})
    with pytest.raises(TypeError, match="non-null str"):
        made({**function, "config": ["relu"]})


@handmill.saving.register_keras_serializable("tests_editing")
class Around(layers.Wrapper):
    def call(self, x):
        return self.layer(x)


@pytest.mark.parametrize("name", ("m.keras", "m.hmill"))
def test_a_shared_layer_is_one_again(tmp_path, name):
    x = handmill.Input((6,))
    shared = layers.Dense(6)
    model = handmill.Model(x, Around(shared)(shared(x)))
    model.save(tmp_path / name)
    loaded = models.load_model(tmp_path / name)
    assert loaded.layers[2].layer is loaded.layers[1]
    np.testing.assert_array_equal(loaded(X), model(X))
