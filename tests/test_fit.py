"""fit, evaluate, predict: data of all kinds, history, determinism, warnings."""

import warnings

import numpy as np
import pytest

import handmill
from handmill import layers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4)).astype("float32")
Y = (X.sum(1) > 0).astype("int64")


@pytest.fixture(autouse=True)
def _seed():
    handmill.utils.set_random_seed(0)


def classifier(**compile_arguments):
    model = handmill.Sequential(
        [handmill.Input((4,)), layers.Dense(8, activation="tanh"), layers.Dense(2, "softmax")]
    )
    arguments = {
        "optimizer": "adam",
        "loss": "sparse_categorical_crossentropy",
        "metrics": ["accuracy"],
        **compile_arguments,
    }
    model.compile(**arguments)
    return model


def test_history_order_and_types():
    history = classifier().fit(X, Y, epochs=3, validation_split=0.2, verbose=0)
    assert list(history.history) == ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert history.epoch == [0, 1, 2]
    assert all(type(v) is float for values in history.history.values() for v in values)


def test_training_learns():
    model = classifier(optimizer=handmill.optimizers.Adam(0.05))
    model.fit(X, Y, epochs=30, verbose=0)
    loss, accuracy = model.evaluate(X, Y, verbose=0)
    assert accuracy > 0.9
    assert model.evaluate(X, Y, verbose=0, return_dict=True) == {
        "loss": loss,
        "accuracy": accuracy,
    }


def test_same_seed_same_weights():
    weights = []
    for _ in range(2):
        handmill.utils.set_random_seed(3)
        model = classifier()
        model.fit(X, Y, epochs=2, batch_size=8, verbose=0)
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_numpys_global_generator_is_untouched():
    np.random.seed(1)  # noqa: NPY002
    want = np.random.random()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    classifier().fit(X, Y, verbose=0)
    handmill.utils.set_random_seed(5)
    assert np.random.random() == want  # noqa: NPY002


def test_epoch_loss_is_the_mean_over_rows():
    model = classifier(optimizer=handmill.optimizers.SGD(0.0))
    logs = model.fit(X, Y, batch_size=7, verbose=0).history
    np.testing.assert_allclose(
        [logs["loss"][0], logs["accuracy"][0]], model.evaluate(X, Y, verbose=0), rtol=1e-5
    )


class Batches(handmill.utils.PyDataset):
    def __init__(self, count=5):
        super().__init__()
        self.count = count
        self.asked = []
        self.ends = 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.asked.append(index)
        return X[index * 10 : index * 10 + 10], Y[index * 10 : index * 10 + 10]

    def on_epoch_end(self):
        self.ends += 1


def test_py_dataset():
    data = Batches()
    model = classifier()
    model.fit(data, epochs=2, verbose=0)
    assert sorted(data.asked[:5]) == list(range(5))
    assert sorted(data.asked[5:]) == list(range(5))
    assert data.ends == 2
    plain = Batches()
    model.fit(plain, shuffle=False, verbose=0)
    assert plain.asked == list(range(5))
    assert model.predict(Batches(), verbose=0).shape == (50, 2)
    np.testing.assert_allclose(
        model.evaluate(Batches(), verbose=0), model.evaluate(X, Y, verbose=0), rtol=1e-5
    )


def endless():
    while True:
        for start in range(0, 50, 10):
            yield X[start : start + 10], Y[start : start + 10], np.ones(10)


def test_generators():
    model = classifier()
    history = model.fit(endless(), steps_per_epoch=7, epochs=2, verbose=0)
    assert len(history.history["loss"]) == 2
    assert int(model.optimizer.iterations.numpy()) == 14
    model.evaluate(endless(), steps=3, verbose=0)
    assert model.predict((x for x, _, _ in endless()), steps=2, verbose=0).shape == (20, 2)


def test_generator_without_steps_defines_the_epoch():
    def once():
        for start in range(0, 50, 10):
            yield X[start : start + 10], Y[start : start + 10]

    model = classifier()
    with pytest.warns(UserWarning, match="ran out of data"):
        history = model.fit(once(), epochs=3, verbose=0)
    assert len(history.history["loss"]) == 1


def test_steps_per_epoch_goes_on_where_it_stopped():
    seen = []

    class Note(handmill.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(batch)

    model = classifier()
    model.fit(X, Y, batch_size=10, steps_per_epoch=2, epochs=2, verbose=0, callbacks=[Note()])
    assert seen == [0, 1, 0, 1]
    with pytest.warns(UserWarning, match="ran out of data"):
        model.fit(X, Y, batch_size=10, steps_per_epoch=4, epochs=2, verbose=0)


def test_dicts_and_lists_of_arrays():
    a, b = handmill.Input((4,), name="a"), handmill.Input((4,), name="b")
    y = layers.Dense(1, name="out")(layers.Add()([a, b]))
    model = handmill.Model([a, b], y)
    model.compile("sgd", {"out": "mse"})
    model.fit({"a": X, "b": X}, {"out": X[:, :1]}, verbose=0)
    model.fit([X, X], X[:, 0], verbose=0)
    assert model.predict({"b": X, "a": X}, verbose=0).shape == (50, 1)


def test_class_weight_equals_sample_weight():
    losses = []
    for arguments in (
        {"class_weight": {0: 3.0, 1: 0.5}},
        {"sample_weight": np.where(Y == 0, 3.0, 0.5)},
    ):
        handmill.utils.set_random_seed(1)
        losses.append(classifier().fit(X, Y, verbose=0, shuffle=False, **arguments).history["loss"])
    assert losses[0] == losses[1]


def test_on_batch_methods():
    model = classifier()
    loss, accuracy = model.train_on_batch(X, Y)
    assert 0 < loss < 5
    assert 0 <= accuracy <= 1
    logs = model.test_on_batch(X, Y, return_dict=True)
    assert list(logs) == ["accuracy", "loss"]
    assert model.predict_on_batch(X).shape == (50, 2)
    with pytest.raises(ValueError, match="cannot be specified at the same"):
        model.train_on_batch(X, Y, sample_weight=np.ones(50), class_weight={0: 1.0})


def test_predict_keeps_rows_in_order():
    model = classifier()
    whole = model.predict(X, batch_size=50, verbose=0)
    np.testing.assert_allclose(model.predict(X, batch_size=7, verbose=0), whole, rtol=1e-5)
    np.testing.assert_allclose(model(X), whole, rtol=1e-5)


def test_shuffle_in_batches():
    rows = np.arange(20, dtype="float32")[:, None]
    seen = []

    class Spy(handmill.losses.Loss):
        def call(self, y_true, y_pred):
            return handmill.ops.sum(y_true + 0 * y_pred, axis=-1)

    class Note(handmill.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(logs["loss"] * (batch + 1))

    model = handmill.Sequential([handmill.Input((1,)), layers.Dense(1)])
    model.compile(handmill.optimizers.SGD(0.0), Spy())
    model.fit(rows, rows, batch_size=5, shuffle="batch", verbose=0, callbacks=[Note()])
    assert np.round(np.diff([0, *seen]), 3).tolist() == [2.0, 7.0, 12.0, 17.0]


def test_order_inside_of_shuffled_batches():
    rows = np.arange(10, dtype="float32")[:, None]
    seen = []

    class Watched(handmill.Sequential):
        def train_step(self, data):
            seen.append(data[0][:, 0].tolist())
            return super().train_step(data)

    model = Watched([handmill.Input((1,)), layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(rows, rows, batch_size=4, shuffle="batch", epochs=2, verbose=0)
    assert [sorted(batch) for batch in seen[:3]] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert seen[:3] != seen[3:]
    assert [row for batch in seen for row in batch] != [*range(10), *range(10)]


def test_older_generator_methods():
    model = classifier()
    with pytest.warns(DeprecationWarning, match="fit_generator"):
        model.fit_generator(endless(), steps_per_epoch=2, verbose=0)
    with pytest.warns(DeprecationWarning, match="evaluate_generator"):
        assert len(model.evaluate_generator(endless(), steps=2)) == 2
    with pytest.warns(DeprecationWarning, match="predict_generator"):
        assert model.predict_generator(Batches()).shape == (50, 2)


def test_one_hot_labels_with_the_sparse_loss():
    one_hot = np.eye(2, dtype="float32")[Y]
    model = classifier()
    with pytest.warns(handmill.KerasDifferenceWarning, match=r"one-hot labels of shape \(50, 2\)"):
        first = model.fit(X, one_hot, shuffle=False, verbose=0).history
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, one_hot, verbose=0)
    handmill.utils.set_random_seed(0)
    plain = classifier(loss="categorical_crossentropy")
    assert plain.fit(X, one_hot, shuffle=False, verbose=0).history == first
    assert model.get_compile_config()["loss"]["class_name"] == "CategoricalCrossentropy"
    broken = one_hot.copy()
    broken[40] = 0.5
    before = model.get_weights()
    with pytest.raises(ValueError, match="row 40 is not"):
        model.fit(X, broken, verbose=0)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_strict_keras_refuses_one_hot_labels():
    handmill.config.set_strict_keras(True)
    try:
        with pytest.raises(ValueError, match="same shape up until the last dimension"):
            classifier().fit(X, np.eye(2, dtype="float32")[Y], verbose=0)
        with pytest.raises(AttributeError, match="Keras 3 has no"):
            classifier().fit_generator(endless(), steps_per_epoch=1)
    finally:
        handmill.config.set_strict_keras(False)


def images():
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (640, 30)).astype("float32"), rng.integers(0, 10, 640)


def image_model(rate=0.01):
    model = handmill.Sequential(
        [
            handmill.Input((30,)),
            layers.Dense(16, activation="relu", bias_initializer="zeros"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(handmill.optimizers.SGD(rate), "sparse_categorical_crossentropy")
    return model


def test_warning_of_a_first_loss_far_above_guessing():
    x, y = images()
    with pytest.warns(handmill.TrainingWarning) as caught:
        image_model().fit(x, y, verbose=0)
    texts = [str(w.message) for w in caught]
    assert any("far above guessing" in t and "Rescaling" in t for t in texts)
    assert len(texts) == len(set(texts))


def test_warning_of_dead_units_and_of_no_progress():
    x, y = images()
    model = image_model()
    kernel, bias, *rest = model.get_weights()
    model.set_weights([kernel, np.full_like(bias, -1e4), *rest])
    with pytest.warns(handmill.TrainingWarning) as caught:
        model.fit(x, y, verbose=0)
    texts = " ".join(str(w.message) for w in caught)
    assert "16 of 16 ReLU units of layer" in texts
    assert "below guessing" in texts


@pytest.mark.parametrize(("beta", "batches"), ((0.0, 4), (-1e4, 4), (-1e4, 40)))
def test_units_are_judged_once_running_statistics_have_settled(beta, batches):
    """Before, inference shows units as dead that training sees alive."""
    x = np.random.default_rng(0).normal(-50, 1, (8 * batches, 3)).astype("float32")
    norm = layers.BatchNormalization(momentum=0.9)
    first = layers.Dense(6, kernel_initializer="ones")
    model = handmill.Sequential([handmill.Input((3,)), first, norm, layers.ReLU(), layers.Dense(1)])
    norm.beta.assign(np.full(6, beta, "float32"))
    model.compile("sgd", "mse")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x, np.zeros(len(x)), batch_size=8, verbose=0)
    dead = [w for w in caught if "6 of 6 ReLU units" in str(w.message)]
    assert len(dead) == (batches == 40)


def test_warning_of_nan_names_the_step():
    x = X.copy()
    x[25] = np.nan
    with pytest.warns(handmill.TrainingWarning, match="NaN at step 3 of the epoch"):
        classifier().fit(x, Y, batch_size=10, shuffle=False, verbose=0)


def test_warning_of_nan_counts_steps_of_its_epoch():
    x = X.copy()
    x[25] = np.nan
    model = classifier(optimizer="sgd")
    model.fit(X, Y, batch_size=10, epochs=3, verbose=0)
    weights = model.get_weights()
    for _ in range(2):
        model.set_weights(weights)
        with pytest.warns(handmill.TrainingWarning, match="NaN at step 3 of the epoch"):
            model.fit(x, Y, batch_size=10, shuffle=False, verbose=0)


def test_no_warning_when_all_is_well():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier().fit(X, Y, epochs=5, verbose=0)


def test_interrupt_leaves_a_usable_model():
    class Interrupt(handmill.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                raise KeyboardInterrupt

    model = classifier()
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, batch_size=10, verbose=0, callbacks=[Interrupt()])
    assert int(model.optimizer.iterations.numpy()) == 3
    model.fit(X, Y, verbose=0)


def test_stop_training_in_a_batch():
    class Stop(handmill.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    model = classifier()
    history = model.fit(X, Y, batch_size=10, epochs=5, verbose=0, callbacks=[Stop()])
    assert len(history.history["loss"]) == 1
    assert int(model.optimizer.iterations.numpy()) == 2


def test_trainable_takes_effect_when_compiled_again():
    model = classifier()
    model.fit(X, Y, verbose=0)
    model.layers[0].trainable = False
    model.compile("sgd", "sparse_categorical_crossentropy")
    before = model.layers[0].get_weights()
    model.fit(X, Y, verbose=0)
    np.testing.assert_array_equal(before[0], model.layers[0].get_weights()[0])


def test_learning_rate_change_needs_no_new_trace():
    model = classifier(optimizer=handmill.optimizers.SGD(0.1))
    model.train_on_batch(X, Y)
    model.optimizer.learning_rate = 0.0
    before = model.get_weights()
    model.train_on_batch(X, Y)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_ema_weights_after_fit():
    model = classifier(optimizer=handmill.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5))
    model.fit(X, Y, epochs=2, verbose=0)
    averages = model.optimizer._model_variables_moving_average
    for a, b in zip([v.numpy() for v in averages], model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_first_batch_that_is_refused_leaves_the_weights():
    """The running means are no weights before the first step: fit ended with zeros."""
    model = classifier(optimizer=handmill.optimizers.SGD(0.1, use_ema=True))
    before = model.get_weights()
    for _ in range(2):
        with pytest.raises(ValueError, match="label"):
            model.fit(X, np.full_like(Y, 99), verbose=0)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_two_models_share_an_encoder():
    encoder = layers.Dense(3, activation="tanh")
    x = handmill.Input((4,))
    first = handmill.Model(x, layers.Dense(1)(encoder(x)))
    second = handmill.Model(x, layers.Dense(2)(encoder(x)))
    first.compile("sgd", "mse")
    second.compile("sgd", "mse")
    for _ in range(3):
        before = encoder.get_weights()[0]
        first.fit(X, X[:, :1], verbose=0)
        middle = encoder.get_weights()[0]
        second.fit(X, X[:, :2], verbose=0)
        assert (before != middle).any()
        assert (middle != encoder.get_weights()[0]).any()


@pytest.mark.parametrize("backend", ("native", "numpy"))
def test_an_array_resized_by_a_callback(backend):
    """NumPy refuses it while fit reads the array; afterwards nobody holds it."""
    x, y = np.ones((400, 4), "float32"), np.zeros(400, "int32")
    refused = []

    class Resize(handmill.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            try:
                x.resize((1, 1), refcheck=False)
            except ValueError as error:
                refused.append(str(error))

    with handmill.use_backend(backend):
        model = classifier()
        model.fit(x, y, batch_size=100, verbose=0, callbacks=[Resize()])
        model.predict(x, verbose=0)
    if backend == "native":
        assert len(refused) == 4
        x.resize((1, 1), refcheck=False)
