"""``fit(cache_frozen=True)``: the same numbers as without, or a named error; scales of images."""

import numpy as np
import pytest

import handmill
from handmill import applications, callbacks, layers
from handmill.applications.imagenet_utils import preprocess_input
from handmill.data import Dataset
from handmill.errors import TrainingWarning
from handmill.models.input_scale import expect, scale_problem
from handmill.runtime.variable import stored_values

RNG = np.random.default_rng(5)
IMAGES = RNG.normal(size=(50, 8, 8, 3)).astype("float32")
LABELS = RNG.integers(0, 3, 50)


def convolutional(**calls):
    """A frozen base with normalization, and a head with dropout."""
    handmill.utils.set_random_seed(3)
    base = handmill.Sequential(
        [
            layers.Input((8, 8, 3)),
            layers.Conv2D(6, 3, activation="relu", kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
        ],
        name="base",
    )
    base.layers[1].moving_mean.assign(np.full(6, 0.25))
    base.trainable = False
    image = layers.Input((8, 8, 3))
    x = layers.Dropout(0.4)(base(image, **calls))
    model = handmill.Model(image, layers.Dense(3, activation="softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def dense(units=5):
    """A frozen layer, one that learns, and logits."""
    handmill.utils.set_random_seed(3)
    frozen = layers.Dense(units, activation="tanh")
    frozen.trainable = False
    model = handmill.Sequential(
        [layers.Input((6,)), frozen, layers.Dense(5, activation="tanh"), layers.Dense(3)]
    )
    loss = handmill.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    return model


def run(make, x, y, **arguments):
    model = make()
    batch_size = 16 if isinstance(x, np.ndarray | list) else None
    history = model.fit(x, y, batch_size=batch_size, epochs=3, verbose=0, **arguments)
    return history.history, model.get_weights(), model.predict(x, verbose=0)


def assert_same(a, b):
    assert a[0] == b[0]
    for one, other in zip(a[1], b[1], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(a[2], b[2])


@pytest.mark.parametrize("make", (convolutional, dense))
def test_the_same_bits_as_without(make):
    x = IMAGES if make is convolutional else IMAGES[:, 0, :2].reshape(50, 6)
    given = {"validation_split": 0.2, "class_weight": {0: 1.0, 1: 2.0, 2: 0.5}}
    assert_same(run(make, x, LABELS, **given), run(make, x, LABELS, cache_frozen=True, **given))
    given = {"validation_data": (x[:9], LABELS[:9])}
    assert_same(run(make, x, LABELS, **given), run(make, x, LABELS, cache_frozen=1 << 20, **given))


def batches(x, y):
    return Dataset.from_tensor_slices((x, y)).batch(16)


def test_a_dataset_of_rows_is_cached_as_arrays_are():
    def shuffled():
        return Dataset.from_tensor_slices((IMAGES, LABELS)).shuffle(50, seed=4).batch(16).skip(1)

    def go_on(data, **arguments):
        data.set_state({"pass": 2, "element": 0})
        return run(convolutional, data, None, validation_data=batches(IMAGES, LABELS), **arguments)

    assert_same(go_on(shuffled()), go_on(shuffled(), cache_frozen=True))


@pytest.mark.parametrize(
    "source",
    (
        lambda x, y: batches(x, y).map(lambda x, y: (x, y)),
        lambda x, y: batches(x, y).map(lambda x, y: (x, y, 0.5 + y % 2)),
        lambda x, y: [(x[:7], y[:7]), (x[7:], y[7:])].__iter__(),
    ),
)
def test_validation_by_batches(source):
    def validated(**arguments):
        given = {"validation_data": source(IMAGES[:20], LABELS[:20]), "validation_freq": [3]}
        return run(convolutional, IMAGES, LABELS, **given, **arguments)

    plain, cached = validated(), validated(cache_frozen=True)
    assert "val_accuracy" in cached[0]
    assert_same(plain, cached)


def test_the_base_is_computed_once(capsys):
    model, seen = convolutional(), []

    class Watch(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(self.model.predict(IMAGES[:7], verbose=0))
            np.testing.assert_array_equal(seen[-1], self.model(IMAGES[:7]))

    before = model.predict(IMAGES[:7], verbose=0)
    model.fit(IMAGES, LABELS, epochs=2, verbose=2, cache_frozen=True, callbacks=[Watch()])
    text = capsys.readouterr().out
    assert "Frozen part, up to layer 'base': computed once for 50 rows, 0.0012 MB" in text
    after = model.predict(IMAGES[:7], verbose=0)
    np.testing.assert_array_equal(seen[1], after)  # a callback sees the whole model
    assert not np.array_equal(seen[0], after)
    assert not np.array_equal(before, after)
    model.fit(IMAGES, LABELS, verbose=0)  # and steps are whole again


def test_saved_in_a_cached_fit(tmp_path):
    model = convolutional()
    save = callbacks.ModelCheckpoint(tmp_path / "m.hmill")
    model.fit(IMAGES, LABELS, epochs=2, verbose=0, cache_frozen=True, callbacks=[save])
    read = handmill.models.load_model(tmp_path / "m.hmill")
    np.testing.assert_array_equal(read.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0))


def test_lists_of_numbers_and_images_of_any_size():
    rows = IMAGES[:, 0, :2].reshape(50, 6)
    assert_same(
        run(dense, rows, LABELS), run(dense, rows.tolist(), LABELS.tolist(), cache_frozen=True)
    )
    frozen = layers.Conv2D(4, 3)
    frozen.trainable = False
    image = layers.Input((None, None, 3))
    x = layers.GlobalAveragePooling2D()(frozen(image))
    model = handmill.Model(image, layers.Dense(1)(layers.Dense(2)(x)))
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="for 50 rows needs 8e-07 GB"):
        model.fit(IMAGES, LABELS, verbose=0, cache_frozen=50 * 4 * 4 - 1)  # averages of 4 channels
    model.fit(IMAGES, LABELS, verbose=0, cache_frozen=50 * 4 * 4)


def with_layer_in_front(layer):
    model = handmill.Sequential([layers.Input((8, 8, 3)), layer, *convolutional().layers[1:]])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def test_what_changes_is_refused_by_name():
    def refused(model, match, x=IMAGES, y=LABELS, **arguments):
        before = model.get_weights()
        with pytest.raises(ValueError, match=match):
            model.fit(x, y, verbose=0, **{"cache_frozen": True, **arguments})
        for a, b in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)

    refused(with_layer_in_front(layers.GaussianNoise(0.1)), "'gaussian_noise.*draws random numbers")

    class Doubled(layers.Layer):
        def call(self, x, training=None):
            return 2 * x if training else x

    refused(with_layer_in_front(Doubled()), "'doubled.*does something else in training")
    model = convolutional()
    model.get_layer("base").trainable = True
    model.compile("adam", "sparse_categorical_crossentropy")
    refused(model, "layer 'base' learns")
    refused(convolutional(), "needs 1.2e-06 GB, and 1e-06 GB are", cache_frozen=1000)
    rows = IMAGES[:, 0, :2].reshape(50, 6)
    refused(dense(6), "has the shapes of its inputs", rows)
    refused(convolutional(), "how many bytes", cache_frozen=-1)
    refused(
        convolutional(), "goes with arrays.*a list_iterator makes", iter([(IMAGES, LABELS)]), None
    )

    class Own(handmill.Model):
        def call(self, x):
            return x

    own = Own()
    own.compile("adam", "mse")
    with pytest.raises(ValueError, match="no graph of layers"):
        own.fit(IMAGES, IMAGES, cache_frozen=True)


def test_training_false_lets_dropout_inside_be_frozen():
    def make(**calls):
        handmill.utils.set_random_seed(1)
        base = handmill.Sequential([layers.Input((4,)), layers.Dense(5), layers.Dropout(0.5)])
        base.trainable = False
        x = layers.Input((4,))
        model = handmill.Model(x, layers.Dense(1)(base(x, **calls)))
        model.compile("sgd", "mse")
        return model

    x, y = IMAGES[:, 0, :2].reshape(50, 6)[:, :4], IMAGES[:, 0, 0, :1]
    with pytest.raises(ValueError, match=r"draws random numbers.*training=False"):
        make().fit(x, y, cache_frozen=True, verbose=0)
    assert_same(
        run(lambda: make(training=False), x, y),
        run(lambda: make(training=False), x, y, cache_frozen=True),
    )


# Scales.


def network(scale="tf", pretrained=True):
    """A small network that takes images on a scale."""
    image = layers.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3, name="first")(image))
    base = handmill.Model(image, x, name="net")
    expect(base, image, scale, "Net", pretrained)
    base.trainable = False
    return base


def classifier(base, front=None):
    image = layers.Input((8, 8, 3))
    x = base(image if front is None else front(image))
    model = handmill.Model(image, layers.Dense(2, activation="softmax")(x))
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def scale_warnings(model, x, **arguments):
    import warnings

    y = np.arange(len(x)) % 2
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        model.fit(x, y, verbose=0, **arguments)
    texts = [str(w.message) for w in found if issubclass(w.category, TrainingWarning)]
    return [t for t in texts if "the images that" in t]


X = RNG.integers(0, 256, (6, 8, 8, 3)).astype("float32")
X[0, 0, 0] = 0, 255, 128


def test_images_on_a_wrong_scale_are_named():
    (text,) = scale_warnings(classifier(network()), X)
    assert "the images that Net is given range from 0 to 255; its weights were trained on" in text
    assert "preprocess_input(x, mode='tf')" in text
    (text,) = scale_warnings(classifier(network()), X, cache_frozen=True)
    assert "range from 0 to 255" in text
    (text,) = scale_warnings(classifier(network()), X / 255)
    assert "range from 0 to 1;" in text
    assert scale_warnings(classifier(network()), X / 127.5 - 1) == []
    inside = layers.Rescaling(1 / 127.5, -1)
    assert scale_warnings(classifier(network(), inside), X) == []
    assert len(scale_warnings(classifier(network(), layers.Rescaling(1 / 255)), X)) == 1


@pytest.mark.parametrize("mode", ("tf", "torch", "caffe", "bytes"))
def test_each_scale_takes_its_own_and_no_other(mode):
    scaled = {m: preprocess_input(X, mode=m) for m in ("tf", "torch", "caffe")}
    scaled |= {"bytes": X, "ones": X / 255}
    model = classifier(network(mode))
    wrong = {m for m, x in scaled.items() if scale_problem(model, [x])}
    assert mode not in wrong
    similar = {"tf": {"torch"}, "torch": {"tf"}}.get(mode, set())  # a dark image might be either
    assert wrong >= {"tf", "torch", "caffe", "bytes", "ones"} - {mode} - similar


def test_layers_of_a_base_taken_apart_know_their_scale():
    base = network()
    model = handmill.Model(base.input, layers.Dense(2, activation="softmax")(base.output))
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert len(scale_warnings(model, X)) == 1


def test_random_weights_learn_any_sensible_scale():
    model = classifier(network(pretrained=False))
    assert scale_problem(model, [X / 255]) is None
    assert "it is made for -1 to 1" in scale_problem(model, [X])


def test_applications_say_their_scales():
    with stored_values():
        model = applications.MobileNetV2((32, 32, 3), 0.35, weights=None, include_top=False)
    images = RNG.integers(0, 256, (2, 32, 32, 3))
    assert "MobileNetV2" in scale_problem(classifier_around(model), [images])


def classifier_around(base):
    image = layers.Input((32, 32, 3))
    return handmill.Model(image, base(image))
