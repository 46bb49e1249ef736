"""Files of Keras 3, `.keras` and `.weights.h5`: read, written, and travelling both ways."""

import io
import json
import sys
import warnings
import zipfile

import numpy as np
import pytest

import handmill
from handmill import callbacks, layers, models

h5py = pytest.importorskip("h5py", reason="Keras's files are HDF5")

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RNG = np.random.default_rng(5)
X = RNG.normal(size=(24, 6)).astype("float32")
Y = RNG.normal(size=(24, 2)).astype("float32")


def stack(library):
    parts = library.layers
    inner = library.Sequential([library.Input((5,)), parts.Dense(4), parts.Dense(3)], name="inner")
    return library.Sequential(
        [
            library.Input((6,)),
            parts.Dense(5, activation="relu", kernel_regularizer="l2", name="first"),
            parts.BatchNormalization(),
            inner,
            parts.Dropout(0.0),
            parts.Dense(2),
        ]
    )


def branches(library):
    parts = library.layers
    x = library.Input((6,), name="x")
    shared = parts.Dense(4, activation="tanh", name="shared")
    a = shared(x)
    b = shared(parts.Dense(6, name="late")(x))
    joined = parts.Concatenate()([parts.Dense(3, name="a")(a), parts.Dense(2, name="b")(b), x])
    return library.Model(x, parts.Dense(2)(parts.LayerNormalization()(joined)))


def in_attributes(library):
    """A model whose layers lie in attributes, lists, dicts and properties."""
    parts = library.layers

    class Block(parts.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.zero = parts.Dense(6)
            self.many = [parts.Dense(6), [parts.Dense(6), parts.Dense(6)], parts.Dense(6)]
            self.table = {"b": parts.Dense(6), "a": parts.Dense(6)}
            self._private = parts.Dense(6)

        def build(self, input_shape):
            self.gain = self.add_weight(shape=(6,), initializer="ones", name="gain")
            self.fixed = self.add_weight(shape=(6,), trainable=False, name="fixed")
            for layer in self._all():
                layer.build(input_shape)

        def _all(self):
            a, (b, c), d = self.many
            return [self.zero, a, b, c, d, *self.table.values(), self._private]

        def call(self, x):
            for layer in self._all():
                x = layer(x)
            return x * self.gain

    class Net(library.Model):
        def __init__(self):
            super().__init__()
            self.outer = Block()
            self.again = self.outer
            self._head = parts.Dense(2)

        @property
        def head(self):
            return self._head

        def call(self, x):
            return self.head(self.outer(x))

    return Net()


def trained(library, make, optimizer="adam", epochs=1):
    library.utils.set_random_seed(3)
    model = make(library)
    model.compile(optimizer, "mse", metrics=["mae"])
    model.fit(X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
    return model


def contents(path):
    found = {}

    def look(name, item):
        shape = getattr(item, "shape", None)
        texts = {k: v for k, v in item.attrs.items() if k != "name"}
        found[name] = (shape, None if shape is None else str(item.dtype), texts)

    with h5py.File(path, "r") as file:
        file.visititems(look)
    return found


@pytest.mark.peers
@pytest.mark.parametrize("make", (stack, branches, in_attributes))
def test_weights_lie_where_keras_puts_them(tmp_path, keras, make):
    ours, theirs = make(handmill), make(keras)
    for model in (ours, theirs):
        model(X)
        model.compile("adam", "mse")
        model.optimizer.build(model.trainable_variables)
    ours.save_weights(tmp_path / "ours.weights.h5")
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    want = contents(tmp_path / "theirs.weights.h5")
    got = contents(tmp_path / "ours.weights.h5")
    assert want["optimizer/vars/0"][1] == "int32"  # which no program of handmill counts in
    want["optimizer/vars/0"] = got["optimizer/vars/0"]
    assert got == want


def same_state(ours, theirs):
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=a.path)
    for a, b in zip(ours.optimizer.variables, theirs.optimizer.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=a.path)


@pytest.mark.peers
@pytest.mark.parametrize("make", (stack, branches))
def test_models_travel_to_keras_and_back(tmp_path, keras, make):
    path = str(tmp_path / "m.keras")
    straight = trained(handmill, make, epochs=2)
    ours = trained(handmill, make)
    ours.save(path)

    theirs = keras.models.load_model(path)
    same_state(ours, theirs)
    np.testing.assert_allclose(theirs.predict(X, verbose=0), ours.predict(X, verbose=0), 1e-4, 1e-5)
    theirs.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    theirs.save(path)

    back = models.load_model(path)
    same_state(back, theirs)
    assert back.get_config()["layers"][0] == ours.get_config()["layers"][0]
    want = straight.predict(X, verbose=0)
    np.testing.assert_allclose(back.predict(X, verbose=0), want, rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(
        back.fit(X, Y, batch_size=8, shuffle=False, verbose=0).history["loss"],
        theirs.fit(X, Y, batch_size=8, shuffle=False, verbose=0).history["loss"],
        rtol=1e-4,
    )


OPTIMIZERS = {
    "sgd": lambda o: o.SGD(0.1, momentum=0.9, nesterov=True),
    "plain sgd": lambda o: o.SGD(0.1),
    "amsgrad": lambda o: o.Adam(0.01, amsgrad=True),
    "schedule": lambda o: o.AdamW(o.schedules.CosineDecay(0.01, 20)),
    "averages": lambda o: o.RMSprop(0.01, centered=True, momentum=0.5, use_ema=True),
    "adagrad": lambda o: o.Adagrad(0.1),
    "adadelta": lambda o: o.Adadelta(0.1),
    "adamax": lambda o: o.Adamax(0.01),
    "nadam": lambda o: o.Nadam(0.01),
    "lion": lambda o: o.Lion(0.01),
    "lamb": lambda o: o.Lamb(0.01),
    "ftrl": lambda o: o.Ftrl(0.1),
    "adafactor": lambda o: o.Adafactor(0.01),
    "accumulated": lambda o: o.Adam(0.01, gradient_accumulation_steps=2),
    "scaled": lambda o: o.LossScaleOptimizer(o.Adam(0.01)),
}


def small(library):
    return library.Sequential([library.Input((6,)), library.layers.Dense(2)])


@pytest.mark.peers
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_of_every_optimizer_travels(tmp_path, keras, name):
    path = str(tmp_path / "m.keras")
    ours = trained(handmill, small, OPTIMIZERS[name](handmill.optimizers))
    ours.save(path)
    theirs = keras.models.load_model(path)
    same_state(ours, theirs)
    for number, variable in enumerate(theirs.optimizer.variables):
        variable.assign(variable + number)
    theirs.save(path)
    back = models.load_model(path)
    same_state(back, theirs)
    assert type(back.optimizer) is type(ours.optimizer)


@pytest.mark.peers
def test_bfloat16_and_shared_descriptions(tmp_path, keras):
    path = str(tmp_path / "m.keras")
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, dtype="bfloat16")])
    model.save(path)
    loaded = models.load_model(path)
    assert loaded.layers[0].kernel.dtype == "bfloat16"
    loaded.save(path)
    again = keras.models.load_model(path)
    for a, b in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(a, "float32"), np.asarray(b, "float32"))


# Without Keras.


@pytest.mark.parametrize("make", (stack, branches))
@pytest.mark.parametrize("name", ("m.keras", "m.h5"))
def test_training_goes_on_bit_for_bit(tmp_path, make, name):
    def model():
        made = make(handmill)
        made.add(layers.Dropout(0.4)) if hasattr(made, "add") else None
        made.compile(handmill.optimizers.Adam(0.01), "mse")
        return made

    handmill.utils.set_random_seed(1)
    first = model()
    first.fit(X, Y, batch_size=8, verbose=0)
    first.save(tmp_path / name)
    want = first.fit(X, Y, batch_size=8, verbose=0, shuffle=name == "m.keras").history
    second = models.load_model(tmp_path / name)
    if name == "m.keras":  # the older format has no place for counters of random numbers
        got = second.fit(X, Y, batch_size=8, verbose=0).history
        assert got == want
        same_state(second, first)
    else:
        assert second.get_config() == first.get_config()
        assert second.get_compile_config() == first.get_compile_config()


def test_members_of_the_file(tmp_path):
    model = trained(handmill, stack)
    model.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        assert archive.namelist() == ["metadata.json", "config.json", "model.weights.h5"]
        assert all(i.compress_type == zipfile.ZIP_STORED for i in archive.infolist())
        config = json.loads(archive.read("config.json"))
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
            kernel = weights["layers/dense/vars/0"][()]
            assert weights["layers/dense/vars"].attrs["name"] == "first"
    assert config["compile_config"]["loss"] == "mse"
    np.testing.assert_array_equal(kernel, model.get_weights()[0])


def test_weights_into_another_model(tmp_path):
    first, second = trained(handmill, stack, epochs=2), trained(handmill, stack)
    first.save_weights(tmp_path / "w.weights.h5")
    second.load_weights(tmp_path / "w.weights.h5")
    same_state(second, first)  # the optimizer too, as in Keras
    third = trained(handmill, stack)
    first.save(tmp_path / "m.keras")
    third.load_weights(tmp_path / "m.keras")
    same_state(third, first)
    uncompiled = stack(handmill)
    uncompiled.load_weights(tmp_path / "w.weights.h5")
    np.testing.assert_array_equal(uncompiled.get_weights()[0], first.get_weights()[0])
    fresh = stack(handmill)
    fresh.compile("adam", "mse")
    with pytest.warns(UserWarning, match="Skipping variable loading for optimizer"):
        fresh.load_weights(tmp_path / "w.weights.h5")
    assert int(fresh.optimizer.iterations) == 0


def test_weights_that_do_not_fit_change_nothing(tmp_path):
    def narrow(units):
        return handmill.Sequential(
            [handmill.Input((6,)), layers.Dense(4, name="same"), layers.Dense(units, name="out")]
        )

    first, second = narrow(2), narrow(3)
    first.save_weights(tmp_path / "w.weights.h5")
    before = second.get_weights()
    with pytest.raises(ValueError, match=r"1 objects could not be loaded.*Dense 'out'.*\(4, 3\)"):
        second.load_weights(tmp_path / "w.weights.h5")
    for a, b in zip(before, second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.warns(UserWarning, match="Dense 'out'"):
        second.load_weights(tmp_path / "w.weights.h5", skip_mismatch=True)
    np.testing.assert_array_equal(second.get_weights()[0], first.get_weights()[0])
    np.testing.assert_array_equal(second.get_weights()[2], before[2])
    deeper = handmill.Sequential([handmill.Input((6,)), layers.Dense(4), layers.Dense(4)])
    deeper.add(layers.Dense(2))
    with pytest.raises(ValueError, match="2 objects could not be loaded"):
        deeper.load_weights(tmp_path / "w.weights.h5")


@handmill.saving.register_keras_serializable("tests")
class Counted(layers.Layer):
    """Says itself what files hold of it, and keeps a file of its own."""

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")
        self.words = "none"

    def call(self, x):
        return x * self.scale

    def save_own_variables(self, store):
        super().save_own_variables(store)
        store["words"] = np.array([len(self.words)])

    def load_own_variables(self, store):
        self.scale.assign(store["0"])
        self.seen = int(store["words"][0])

    def save_assets(self, folder):
        with open(f"{folder}/words.txt", "w") as file:  # noqa: PTH123
            file.write(self.words)

    def load_assets(self, folder):
        with open(f"{folder}/words.txt") as file:  # noqa: PTH123
            self.words = file.read()


def test_layers_with_a_format_of_their_own(tmp_path):
    model = handmill.Sequential([handmill.Input((6,)), Counted(), layers.Dense(2)])
    model.layers[0].words = "one two"
    model.layers[0].scale.assign(3.0)
    model.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        assert archive.read("assets/layers/counted/words.txt") == b"one two"
    loaded = models.load_model(tmp_path / "m.keras")
    assert (loaded.layers[0].words, loaded.layers[0].seen) == ("one two", 7)
    np.testing.assert_array_equal(loaded(X), model(X))


def test_checkpoints(tmp_path):
    model = trained(handmill, stack)
    best = callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor="loss", save_best_only=True)
    last = callbacks.ModelCheckpoint(tmp_path / "w.weights.h5", save_weights_only=True)
    old = callbacks.ModelCheckpoint(tmp_path / "{epoch}.h5")
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[best, last, old])
    for path in (tmp_path / "best.keras", tmp_path / "2.h5"):
        loaded = models.load_model(path)
        np.testing.assert_array_equal(loaded(X), model(X))
        same_state(loaded, model)


def test_without_h5py_the_remedy_is_named(tmp_path, monkeypatch):
    model = trained(handmill, small)
    model.save(tmp_path / "m.keras")
    model.save(tmp_path / "m.h5")
    model.save_weights(tmp_path / "w.weights.h5")
    before = sorted(path.name for path in tmp_path.iterdir())
    monkeypatch.setitem(sys.modules, "h5py", None)
    for call in (
        lambda: model.save(tmp_path / "n.keras"),
        lambda: model.save(tmp_path / "n.h5"),
        lambda: model.save_weights(tmp_path / "n.weights.h5"),
        lambda: models.load_model(tmp_path / "m.keras"),
        lambda: models.load_model(tmp_path / "m.h5"),
        lambda: model.load_weights(tmp_path / "w.weights.h5"),
    ):
        with pytest.raises(ImportError, match=r"pip install 'handmill\[h5\]'"):
            call()
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_weights_out_of_reach_are_not_lost(tmp_path):
    class Hidden(layers.Layer):
        def __init__(self):
            super().__init__()
            self.parts = {layers.Dense(2)}

        def call(self, x):
            return next(iter(self.parts))(x)

    model = handmill.Sequential([handmill.Input((6,)), Hidden()])
    with pytest.raises(ValueError, match="weights that Keras's files cannot hold"):
        model.save_weights(tmp_path / "w.weights.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(autouse=True)
def _quiet_keras():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You are saving your model as an HDF5")
        yield


def test_dropout_of_a_file_drops_while_training(keras, tmp_path):
    inputs = keras.Input((50,))
    keras.Model(inputs, keras.layers.Dropout(0.5)(inputs)).save(tmp_path / "m.keras")
    model = models.load_model(tmp_path / "m.keras")  # the file says training=False
    x = np.ones((2, 50), "float32")
    assert set(np.unique(model(x, training=True))) == {0.0, 2.0}
    np.testing.assert_array_equal(model.predict(x, verbose=0), x)
    inputs = handmill.Input((50,))
    held = handmill.Model(inputs, handmill.layers.Dropout(0.5)(inputs, training=False))
    held.save(tmp_path / "held.keras")
    model = models.load_model(tmp_path / "held.keras")
    np.testing.assert_array_equal(model(x, training=True), x)
