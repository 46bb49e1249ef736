"""Saving and loading: exact resumption, contents, custom objects, weights alone."""

import json
import os
import zipfile

import numpy as np
import pytest
import safetensors.numpy

import handmill
from handmill import layers, models, ops, saving

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 6)).astype("float32")
Y = RNG.integers(0, 3, 48)

OPTIMIZERS = {
    "sgd": lambda: handmill.optimizers.SGD(0.1, momentum=0.9),
    "adam": lambda: handmill.optimizers.Adam(0.01, amsgrad=True),
    "schedule": lambda: handmill.optimizers.AdamW(
        handmill.optimizers.schedules.CosineDecay(0.01, 20)
    ),
    "ema": lambda: handmill.optimizers.RMSprop(0.01, use_ema=True, ema_overwrite_frequency=3),
}


def classifier(optimizer="adam", seed=0):
    handmill.utils.set_random_seed(seed)
    model = models.Sequential(
        [
            handmill.Input((6,)),
            layers.Dense(8, activation="relu", kernel_regularizer="l2", name="first"),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(OPTIMIZERS[optimizer](), "sparse_categorical_crossentropy", ["accuracy"])
    return model


def test_loading_draws_no_numbers(tmp_path, monkeypatch):
    model = classifier()
    model.save(tmp_path / "m.hmill")
    monkeypatch.setattr(handmill.random, "unit", None)
    loaded = models.load_model(tmp_path / "m.hmill")
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(TypeError):
        layers.Dense(2).build((None, 3))


@handmill.saving.register_keras_serializable("tests")
class WithTable(layers.Layer):
    """Holds a variable that is not one of its weights."""

    def build(self, input_shape):
        self.hidden = (handmill.Variable(handmill.initializers.RandomNormal(seed=1), (3,)),)

    def call(self, inputs):
        return inputs * self.hidden[0]


def test_what_is_not_stored_is_drawn_on_loading(tmp_path):
    model = models.Sequential([handmill.Input((3,)), WithTable()])
    table = model.layers[0].hidden[0]
    model.save(tmp_path / "m.hmill")
    again = models.load_model(tmp_path / "m.hmill").layers[0].hidden[0]
    assert np.abs(table.numpy()).max() > 0
    np.testing.assert_array_equal(again.numpy(), table.numpy())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_goes_on_bit_for_bit(tmp_path, optimizer):
    straight = classifier(optimizer)
    straight.fit(X, Y, epochs=2, batch_size=8, verbose=0)
    want = straight.fit(X, Y, epochs=2, batch_size=8, verbose=0).history

    first = classifier(optimizer)
    first.fit(X, Y, epochs=2, batch_size=8, verbose=0)
    first.save(tmp_path / "m.hmill")
    handmill.utils.set_random_seed(99)
    second = models.load_model(tmp_path / "m.hmill")
    assert second.fit(X, Y, epochs=2, batch_size=8, verbose=0).history == want
    for a, b in zip(straight.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(straight.optimizer.variables, second.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_loaded_model_predicts_and_measures_the_same(tmp_path):
    model = classifier()
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "m.hmill")
    loaded = models.load_model(tmp_path / "m.hmill")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    assert loaded.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)
    assert loaded.get_config() == model.get_config()
    assert loaded.get_compile_config() == model.get_compile_config()


def test_contents_can_be_read_with_ordinary_tools(tmp_path):
    model = classifier()
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "m.hmill")
    with zipfile.ZipFile(tmp_path / "m.hmill") as archive:
        assert archive.namelist() == [
            "config.json",
            "model.safetensors",
            "optimizer.safetensors",
            "state.json",
        ]
        assert all(i.compress_type == zipfile.ZIP_STORED for i in archive.infolist())
        config = json.loads(archive.read("config.json"))
        tensors = safetensors.numpy.load(archive.read("model.safetensors"))
    assert config["class_name"] == "Sequential"
    assert config["compile_config"]["loss"] == "sparse_categorical_crossentropy"
    np.testing.assert_array_equal(
        tensors[f"00000.{model.name}.first.kernel"], model.get_weights()[0]
    )


def test_functional_and_nested_models(tmp_path):
    x = handmill.Input((6,), name="x")
    encoder = models.Sequential([handmill.Input((6,)), layers.Dense(4)], name="encoder")
    a, b = encoder(x), encoder(ops.negative(x))
    model = handmill.Model(x, {"sum": layers.Add()([a, b]), "product": a * b})
    model.save(tmp_path / "m.hmill")
    loaded = models.load_model(tmp_path / "m.hmill")
    for key, value in model(X).items():
        np.testing.assert_array_equal(loaded(X)[key], value)
    assert len(loaded.weights) == 2


def test_uncompiled_model(tmp_path):
    model = models.Sequential([handmill.Input((6,)), layers.Dense(2)])
    model.save(tmp_path / "m.hmill")
    loaded = models.load_model(tmp_path / "m.hmill")
    assert not loaded.compiled
    np.testing.assert_array_equal(loaded(X), model(X))
    compiled = classifier()
    compiled.save(tmp_path / "c.hmill")
    assert not models.load_model(tmp_path / "c.hmill", compile=False).compiled


class Scale(layers.Layer):
    def __init__(self, factor=2.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs):
        return inputs * self.factor


def cube(x):
    return x * x * x


def test_custom_objects_must_be_allowed(tmp_path):
    model = models.Sequential([handmill.Input((6,)), Scale(3.0), layers.Dense(2, activation=cube)])
    model.save(tmp_path / "m.hmill")
    with pytest.raises(ValueError, match=r"Unknown layer: 'Scale'.*register_keras_serializable"):
        models.load_model(tmp_path / "m.hmill")
    allowed = {"Scale": Scale, "cube": cube}
    loaded = models.load_model(tmp_path / "m.hmill", custom_objects=allowed)
    np.testing.assert_array_equal(loaded(X), model(X))
    with saving.CustomObjectScope(allowed):
        np.testing.assert_array_equal(models.load_model(tmp_path / "m.hmill")(X), model(X))


def test_registered_objects(tmp_path):
    @saving.register_keras_serializable(package="tests")
    class Shift(layers.Layer):
        def __init__(self, by=1.0, **kwargs):
            super().__init__(**kwargs)
            self.by = by

        def call(self, inputs):
            return inputs + self.by

    model = models.Sequential([handmill.Input((6,)), Shift(4.0)])
    model.save(tmp_path / "m.hmill")
    np.testing.assert_array_equal(models.load_model(tmp_path / "m.hmill")(X), X + 4)


def test_subclassed_model(tmp_path):
    class Two(handmill.Model):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.units = units
            self.layers_inside = [layers.Dense(units), layers.Dense(2)]

        def call(self, inputs):
            return self.layers_inside[1](self.layers_inside[0](inputs))

    model = Two(5)
    model(X)
    model.save(tmp_path / "m.hmill")
    loaded = models.load_model(tmp_path / "m.hmill", custom_objects={"Two": Two})
    np.testing.assert_array_equal(loaded(X), model(X))


def test_code_is_refused_when_saving(tmp_path):
    model = models.Sequential([handmill.Input((6,)), layers.Activation(lambda x: x * 2)])
    with pytest.raises(TypeError, match="a lambda is code"):
        model.save(tmp_path / "m.hmill")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ("m.pkl", "m.weights.h5", "m", "m.weights.hmill"))
def test_other_suffixes(tmp_path, name):
    model = classifier()
    with pytest.raises(ValueError, match=r"must end in `\.hmill`"):
        model.save(tmp_path / name)
    with pytest.raises(ValueError, match=r"must end in `\.hmill`"):
        models.load_model(tmp_path / name)


def test_overwrite(tmp_path):
    model = classifier()
    model.save(tmp_path / "m.hmill")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        model.save(tmp_path / "m.hmill", overwrite=False)
    model.save(tmp_path / "m.hmill")
    assert [p.name for p in tmp_path.iterdir()] == ["m.hmill"]


def test_model_without_weights_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match="has no weights yet"):
        models.Sequential([layers.Dense(2)]).save(tmp_path / "m.hmill")


@pytest.mark.parametrize("name", ("w.weights.hmill", "w.safetensors"))
def test_weights_alone(tmp_path, name):
    model, other = classifier(seed=1), classifier(seed=2)
    model.save_weights(tmp_path / name)
    other.load_weights(tmp_path / name)
    np.testing.assert_array_equal(other(X), model(X))
    with pytest.raises(ValueError, match=r"must end in `\.weights\.hmill`"):
        model.save_weights(tmp_path / "w.h5")
    with pytest.raises(ValueError, match="File format not supported"):
        model.load_weights(tmp_path / "w.pkl")


def test_weights_of_a_whole_model_file(tmp_path):
    model, other = classifier(seed=1), classifier(seed=2)
    model.save(tmp_path / "m.hmill")
    other.load_weights(tmp_path / "m.hmill")
    np.testing.assert_array_equal(other(X), model(X))


def test_weights_that_do_not_fit_change_nothing(tmp_path):
    model = classifier()
    model.save_weights(tmp_path / "w.weights.hmill")
    wider = models.Sequential(
        [
            handmill.Input((6,)),
            layers.Dense(8),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Dense(4),
        ]
    )
    before = wider.get_weights()
    with pytest.raises(ValueError, match=r"has shape \(8, 3\), but variable .* \(8, 4\)"):
        wider.load_weights(tmp_path / "w.weights.hmill")
    for a, b in zip(before, wider.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.warns(UserWarning, match="was skipped"):
        wider.load_weights(tmp_path / "w.weights.hmill", skip_mismatch=True)
    np.testing.assert_array_equal(wider.get_weights()[0], model.get_weights()[0])
    with pytest.raises(ValueError, match="tensors, but the model has"):
        models.Sequential([handmill.Input((6,)), layers.Dense(2)]).load_weights(
            tmp_path / "w.weights.hmill"
        )


@pytest.mark.parametrize(
    "hook", ("save_own_variables", "load_own_variables", "save_assets", "load_assets")
)
def test_formats_of_a_layer_of_its_own_are_refused(tmp_path, hook):
    own = type("Own", (layers.Dense,), {hook: lambda self, store: None})
    inner = handmill.Sequential([handmill.Input((3,)), own(2)])
    model = handmill.Sequential([handmill.Input((3,)), inner])
    plain = handmill.Sequential([handmill.Input((3,)), layers.Dense(2)])
    plain.save_weights(tmp_path / "plain.weights.hmill")
    weights = model.get_weights()
    for call in (
        lambda: model.save(tmp_path / "m.hmill"),
        lambda: model.save_weights(tmp_path / "m.weights.hmill"),
        lambda: model.load_weights(tmp_path / "plain.weights.hmill"),
    ):
        with pytest.raises(NotImplementedError, match=f"Own.{hook} would not be called"):
            call()
    assert [path.name for path in tmp_path.iterdir()] == ["plain.weights.hmill"]
    for before, now in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, now)


def test_unsafe_loading_does_not_exist(tmp_path):
    classifier().save(tmp_path / "m.hmill")
    with pytest.raises(ValueError, match="safe_mode"):
        models.load_model(tmp_path / "m.hmill", safe_mode=False)
    with pytest.raises(ValueError, match="safe_mode"):
        saving.deserialize_keras_object({}, safe_mode=False)


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        classifier().save(tmp_path / "m.hmill")
    finally:
        os.umask(before)
    assert (tmp_path / "m.hmill").stat().st_mode & 0o777 == 0o640


def test_one_hot_decision_is_saved(tmp_path):
    model = classifier()
    with pytest.warns(handmill.KerasDifferenceWarning):
        model.fit(X, np.eye(3, dtype="float32")[Y], verbose=0)
    model.save(tmp_path / "m.hmill")
    loaded = models.load_model(tmp_path / "m.hmill")
    loaded.fit(X, np.eye(3, dtype="float32")[Y], verbose=0)


def test_tensors_in_configs():
    """What Keras writes for a tensor of its backends; here it is an array."""
    config = {"class_name": "__tensor__", "config": {"value": [[1, 2]], "dtype": "bfloat16"}}
    found = handmill.saving.deserialize_keras_object({"mean": config})["mean"]
    assert found.dtype == "bfloat16"
    np.testing.assert_array_equal(found.astype("float32"), [[1, 2]])


@pytest.mark.parametrize(
    ("change", "match"),
    (
        ({"layers": None}, "containing the 'name' and 'layers' keys"),
        ({"layers": [{}]}, "layer of the Sequential model 's' is malformed.*'config' key"),
        ({"layers": ["Dense"]}, "Expected a dictionary containing a 'config' key"),
    ),
)
def test_malformed_configs_of_sequential_models(change, match):
    with pytest.raises(ValueError, match=match):
        handmill.Sequential.from_config({"name": "s", **change})
    with pytest.raises(ValueError, match="'name' and 'layers'"):
        handmill.Sequential.from_config({"layers": []})
