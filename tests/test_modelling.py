"""What scripts in the manner of Keras's guides rely on, beside single layers and losses."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

import handmill
from handmill import layers, ops
from handmill.saving import deserialize_keras_object, serialize_keras_object

RNG = np.random.default_rng(3)
X = RNG.normal(size=(20, 3)).astype("float32")
Y = np.arange(20) % 4


class Hits(handmill.metrics.Metric):
    """Counts right answers; resets itself as Keras's guide does."""

    def __init__(self, name="hits"):
        super().__init__(name=name)
        self.hits = self.add_variable(shape=(), initializer="zeros", name="hits")

    def update_state(self, y_true, y_pred, sample_weight=None):
        right = ops.equal(ops.cast(y_true, "int32"), ops.argmax(y_pred, axis=-1))
        self.hits.assign_add(ops.sum(ops.cast(right, "float32")))

    def result(self):
        return ops.convert_to_tensor(self.hits)

    def reset_state(self):
        self.hits.assign(0.0)


@pytest.mark.parametrize("eagerly", (False, True))
def test_a_reset_of_the_user_s_own_is_no_part_of_the_step(eagerly):
    model = handmill.Sequential([handmill.Input((3,)), layers.Dense(4, "softmax")])
    model.compile(
        handmill.optimizers.SGD(0.0), "sparse_categorical_crossentropy", metrics=[Hits()],
        run_eagerly=eagerly,
    )  # fmt: skip
    want = float(np.sum(model.predict(X, verbose=0).argmax(-1) == Y))
    history = model.fit(X, Y, batch_size=8, epochs=2, verbose=0).history["hits"]
    assert history == [want, want]
    assert model.evaluate(X, Y, batch_size=8, verbose=0)[1] == want


def test_weights_without_names_have_names_of_their_own():
    class Affine(layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(shape[-1], 2))
            self.b = self.add_weight(shape=(2,), initializer="zeros")
            self.scale = handmill.Variable(1.0)

        def call(self, x):
            return (ops.matmul(x, self.w) + self.b) * self.scale

    handmill.utils.clear_session()
    model = handmill.Sequential([handmill.Input((3,)), Affine(name="affine")], name="m")
    names = [w.path.removeprefix("m/affine/") for w in model.weights]
    assert names == ["variable", "variable_1", "variable_2"]
    model.compile("adam", "mse")
    tree = model.get_state_tree()["trainable_variables"]["m"]["affine"]
    assert sorted(tree) == sorted(names)


def test_a_clone_is_frozen_where_the_model_is():
    x = handmill.Input((3,))
    model = handmill.Model(x, layers.Dense(1)(layers.Dense(4, trainable=False)(x)))
    clone = handmill.models.clone_model(model)
    assert [layer.trainable for layer in clone.layers] == [True, False, True]
    model.trainable = False
    assert not handmill.models.clone_model(model).trainable_weights


class Compiled(handmill.Model):
    """Saves what its own ``compile`` was given, as Keras's guide to saving shows."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(1)

    def call(self, x):
        return self.dense(x)

    def compile(self, model_optimizer, loss_fn, factor):
        super().compile(optimizer=model_optimizer, loss=loss_fn)
        self.factor = factor

    def get_compile_config(self):
        return {"optimizer": self.optimizer, "loss": self.loss, "factor": self.factor}

    def compile_from_config(self, config):
        parts = {key: deserialize_keras_object(value) for key, value in config.items()}
        self.compile(parts["optimizer"], parts["loss"], parts["factor"])


@pytest.mark.parametrize("suffix", (".hmill", ".keras"))
def test_objects_in_a_compile_config_of_the_user_s_own(tmp_path, suffix):
    if suffix == ".keras":
        pytest.importorskip("h5py")
    model = Compiled()
    model.compile(handmill.optimizers.Adam(0.02), handmill.losses.Huber(0.5), 3.0)
    model.fit(X, X[:, :1], verbose=0)
    model.save(tmp_path / f"m{suffix}")
    with handmill.saving.custom_object_scope({"Compiled": Compiled}):
        loaded = handmill.models.load_model(tmp_path / f"m{suffix}")
    assert loaded.factor == 3.0
    assert loaded.loss.get_config()["delta"] == 0.5
    assert float(loaded.optimizer.learning_rate) == pytest.approx(0.02)
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))


def small():
    return handmill.Sequential([handmill.Input((3,)), layers.Dense(2)], name="small")


def test_a_description_says_how_something_was_built_and_compiled():
    built = layers.Dense(2, name="d")
    built.build((None, 3))
    config = layers.serialize(built)
    assert config["build_config"] == {"input_shape": [None, 3]}
    assert layers.deserialize(config).kernel.shape == (3, 2)

    model = small()
    model.compile("adamw", "mae")
    again = handmill.models.model_from_json(model.to_json())
    assert again.compiled
    assert again.optimizer.name == "adam_w"
    outer = handmill.Sequential([handmill.Input((3,)), model], name="outer")
    inner = handmill.Sequential.from_config(outer.get_config()).layers[0]
    assert inner.compiled
    assert inner.loss == "mae"


def test_what_cannot_be_described_of_an_inner_model_is_left_out_with_a_warning(tmp_path):
    inner = small()
    inner.compile("sgd", lambda y, p: ops.mean(ops.abs(y - p)))
    outer = handmill.Sequential([handmill.Input((3,)), inner], name="outer")
    with pytest.warns(UserWarning, match="'small' is described without how it was compiled"):
        outer.save(tmp_path / "m.hmill")
    assert not handmill.models.load_model(tmp_path / "m.hmill").layers[0].compiled
    with pytest.raises(TypeError, match="lambda"):
        inner.save(tmp_path / "inner.hmill")


def test_an_inner_loss_that_is_not_known_leaves_the_inner_model_uncompiled():
    def own(y, p):
        return ops.mean(ops.abs(y - p))

    inner = small()
    inner.compile("sgd", own)
    config = json.loads(json.dumps(serialize_keras_object(inner)))
    with pytest.warns(UserWarning, match=r"'small' is not compiled: .*'own'"):
        assert not deserialize_keras_object(config).compiled
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert deserialize_keras_object(config, custom_objects={"own": own}).compiled


def test_a_callback_list_in_a_loop_of_the_user_s_own():
    class Noted(handmill.callbacks.Callback):
        def __getattribute__(self, name):
            if name.startswith("on_"):
                return lambda *given: heard.append((name, *given))
            return super().__getattribute__(name)

    heard = []
    found = handmill.callbacks.CallbackList([Noted()], model=small(), epochs=1)
    found.on_train_begin()
    found.on_epoch_begin(0)
    for phase in ("train", "test", "predict"):
        getattr(found, f"on_{phase}_batch_begin")(3)
        getattr(found, f"on_{phase}_batch_end")(3, {"loss": 1.0})
    found.on_batch_begin(4)
    found.on_batch_end(4)
    found.on_test_begin({"a": 1})
    found.on_predict_end()
    found.on_epoch_end(0, {"loss": 2.0})
    found.on_train_end({"loss": 2.0})
    assert [call for call in heard if call[0] != "on_progress"] == [
        ("on_train_begin", {}),
        ("on_epoch_begin", 0, {}),
        *(
            call
            for phase in ("train", "test", "predict")
            for call in (
                (f"on_{phase}_batch_begin", 3, {}),
                (f"on_{phase}_batch_end", 3, {"loss": 1.0}),
            )
        ),
        ("on_train_batch_begin", 4, {}),
        ("on_train_batch_end", 4, {}),
        ("on_test_begin", {"a": 1}),
        ("on_predict_end", {}),
        ("on_epoch_end", 0, {"loss": 2.0}),
        ("on_train_end", {"loss": 2.0}),
    ]


def test_a_tape_sees_the_values_that_a_stateless_call_lends():
    model = handmill.Sequential(
        [
            handmill.Input((3,)),
            layers.Dense(4, "tanh"),
            layers.BatchNormalization(),
            layers.Dense(1, kernel_regularizer="l2"),
        ]
    )
    values = [v.numpy() + 0.1 for v in model.trainable_variables]
    others = [v.numpy() for v in model.non_trainable_variables]
    with handmill.GradientTape() as tape:
        tape.watch(values)
        y, changed, losses = model.stateless_call(
            values, others, X, training=True, return_losses=True
        )
        loss = ops.mean(ops.square(y - X[:, :1])) + sum(losses)
    found = tape.gradient(loss, values)
    assert not np.array_equal(changed[0], others[0])

    for variable, value in zip(model.trainable_variables, values, strict=True):
        variable.assign(value)
    with handmill.GradientTape() as tape:
        y = model(X, training=True)
        same = ops.mean(ops.square(y - X[:, :1])) + sum(model.losses)
    want = tape.gradient(same, model.trainable_variables)
    assert float(loss) == pytest.approx(float(same), rel=1e-6)
    for a, b in zip(found, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    with handmill.GradientTape() as tape:  # nothing is lent any longer
        tape.watch(values)
        y = model(X)
    assert tape.gradient(y, values) == [None] * len(values)


def test_masks_that_end_are_told_at_the_line_of_the_user():
    class Plain(layers.Layer):
        def call(self, x):
            return x * 2

    masked = layers.Masking()(handmill.Input((4, 2)))
    with pytest.warns(UserWarning, match="does not support masking") as caught:
        Plain()(masked)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (masked * 2).mask is None


@pytest.mark.parametrize("eagerly", (False, True))
def test_what_build_assigns_is_the_beginning_and_no_update(eagerly):
    """Also where a layer, or an optimizer, is built in the first step of fit()."""

    class FromOnes(layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(shape[-1], 1), initializer="zeros", name="w")
            self.w.assign(np.ones((shape[-1], 1)))
            self.start = float(np.sum(np.asarray(self.w)))
            self.builds = self.add_weight(shape=(), trainable=False, initializer="zeros")
            self.builds.assign_add(1.0)

        def call(self, x):
            return ops.matmul(x, self.w)

    class Followed(handmill.optimizers.SGD):
        def build(self, variables):
            if self.built:
                return
            super().build(variables)
            self.slow = [self.add_variable_from_reference(v, "slow") for v in variables]
            for slow, variable in zip(self.slow, variables, strict=True):
                slow.assign(variable)

        def update_step(self, gradient, variable, learning_rate):
            super().update_step(gradient, variable, learning_rate)
            slow = self.slow[self._get_variable_index(variable)]
            self.assign(slow, 0.5 * ops.convert_to_tensor(slow) + 0.5 * variable)

    class Net(handmill.Model):
        def __init__(self):
            super().__init__()
            self.inner = FromOnes()

        def call(self, x):
            return self.inner(x)

    model = Net()
    model.compile(Followed(0.1), "mse", run_eagerly=eagerly)
    model.fit(X, X[:, :1], batch_size=5, epochs=1, shuffle=False, verbose=0)
    assert model.inner.start == 3.0
    assert float(np.asarray(model.inner.builds)) == 1.0
    weight, slow = np.ones((3, 1)), np.ones((3, 1))
    for at in range(0, 20, 5):
        x = X[at : at + 5].astype("float64")
        weight = weight - 0.1 * 2 * x.T @ (x @ weight - x[:, :1]) / 5
        slow = 0.5 * slow + 0.5 * weight
    np.testing.assert_allclose(np.asarray(model.inner.w), weight, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.asarray(model.optimizer.slow[0]), slow, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "weights", "names"),
    (
        (([2.0],), [2.0], ["loss"]),
        (([2.0], ["mae"]), [2.0], ["loss", "mae"]),
        ((["mae"],), None, ["loss", "mae"]),
        ((["mae"], [2.0]), [2.0], ["loss", "mae"]),
        ((None, [2.0]), [2.0], ["loss"]),
        ((None, ["mae"]), None, ["loss", "mae"]),
        (({"small": 2.0}, {"small": "mae"}), {"small": 2.0}, ["loss", "mae"]),
    ),
)
def test_weights_of_losses_and_metrics_in_either_order(given, weights, names):
    model = handmill.Sequential([handmill.Input((3,)), layers.Dense(1, name="small")])
    model.compile("sgd", "mse", *given)
    assert model.objective.loss_weights == weights
    y = X[:, :1]
    got = model.evaluate(X, y, verbose=0, return_dict=True)
    assert list(got) == names
    error = float(np.mean((model.predict(X, verbose=0) - y) ** 2))
    assert got["loss"] == pytest.approx((2.0 if weights else 1.0) * error, rel=1e-5)


def test_an_output_in_a_list_of_one():
    """As in Keras: a call on numbers gives it alone, a call on symbolic tensors in its list."""
    x = handmill.Input((3,))
    model = handmill.Model(x, [layers.Dense(1, name="y")(x)])
    assert model(X).shape == (20, 1)
    assert model.predict(X, verbose=0).shape == (20, 1)
    (inner,) = model(handmill.Input((3,)))
    assert inner.shape == (None, 1)
    model.compile("sgd", ["mse"], metrics=[["mae"]])
    for y in (X[:, :1], [X[:, :1]], {"y": X[:, :1]}):
        assert list(model.fit(X, y, verbose=0).history) == ["loss", "mae"]
