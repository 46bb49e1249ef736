"""Step by step the same numbers as Keras (JAX backend), from the same weights."""

import json
import warnings

import numpy as np
import pytest

import handmill
from handmill.losses.registry import TABLE as LOSS_TABLE
from handmill.metrics.registry import TABLE as METRIC_TABLE

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    keras = pytest.importorskip("keras", reason="Keras is the oracle of these tests")
    jax = pytest.importorskip("jax", reason="Keras runs on JAX in these tests")

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

STEPS = 24
RNG = np.random.default_rng(7)
X = RNG.normal(size=(STEPS, 16, 6)).astype("float32")
LABELS = RNG.integers(0, 3, (STEPS, 16))
ONE_HOT = np.eye(3, dtype="float32")[LABELS]
TARGETS = RNG.normal(size=(STEPS, 16, 3)).astype("float32")
POSITIVE = RNG.dirichlet(np.ones(3), (STEPS, 16)).astype("float32")
BITS = RNG.integers(0, 2, (STEPS, 16, 1))
WEIGHTS = RNG.uniform(0.2, 2.0, (STEPS, 16)).astype("float32")


def network(library, last="softmax", units=3, **first):
    layers = library.layers
    return library.Sequential(
        [
            library.Input((6,)),
            layers.Dense(8, activation="tanh", **first),
            layers.Dense(units, activation=last),
        ]
    )


def pair(make):
    """The same model in both libraries, with the same weights."""
    theirs, ours = make(keras), make(handmill)
    ours.set_weights([np.asarray(w) for w in theirs.get_weights()])
    return theirs, ours


def compare_training(make, compile_arguments, y, weights=None, rtol=3e-5, atol=3e-6):
    theirs, ours = pair(make)
    theirs.compile(**compile_arguments(keras))
    ours.compile(**compile_arguments(handmill))
    for step in range(STEPS):
        w = None if weights is None else weights[step]
        want = theirs.train_on_batch(X[step], y[step], sample_weight=w, return_dict=True)
        got = ours.train_on_batch(X[step], y[step], sample_weight=w, return_dict=True)
        assert set(got) == set(want)
        for name in want:
            np.testing.assert_allclose(
                got[name], float(want[name]), rtol=rtol, atol=atol, err_msg=f"{name}, step {step}"
            )
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=10 * rtol, atol=10 * atol)
    return theirs, ours


OPTIMIZERS = {
    "sgd": lambda o: o.SGD(0.1),
    "momentum": lambda o: o.SGD(0.05, momentum=0.9),
    "nesterov": lambda o: o.SGD(0.05, momentum=0.9, nesterov=True),
    "sgd_decay": lambda o: o.SGD(0.1, weight_decay=0.1),
    "adam": lambda o: o.Adam(0.01),
    "amsgrad": lambda o: o.Adam(0.01, amsgrad=True),
    "adam_decay": lambda o: o.Adam(0.01, weight_decay=0.05),
    "adamw": lambda o: o.AdamW(0.01, weight_decay=0.05),
    "adamw_amsgrad": lambda o: o.AdamW(0.01, weight_decay=0.05, amsgrad=True),
    "rmsprop": lambda o: o.RMSprop(0.01),
    "rmsprop_momentum": lambda o: o.RMSprop(0.005, momentum=0.5),
    "rmsprop_centered": lambda o: o.RMSprop(0.005, centered=True),
    "rmsprop_both": lambda o: o.RMSprop(0.005, momentum=0.5, centered=True, weight_decay=0.01),
    "adagrad": lambda o: o.Adagrad(0.05),
    "adagrad_decay": lambda o: o.Adagrad(0.05, weight_decay=0.01),
    "clipnorm": lambda o: o.SGD(0.1, clipnorm=0.05),
    "clipvalue": lambda o: o.SGD(0.1, clipvalue=0.01),
    "global_clipnorm": lambda o: o.SGD(0.1, global_clipnorm=0.05),
    "adam_global_clipnorm": lambda o: o.Adam(0.01, global_clipnorm=0.05),
    "ema": lambda o: o.SGD(0.1, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=5),
    "accumulation": lambda o: o.Adam(0.01, gradient_accumulation_steps=3),
    "accumulation_sgd": lambda o: o.SGD(0.1, momentum=0.9, gradient_accumulation_steps=2),
    "loss_scale": lambda o: o.SGD(0.1, loss_scale_factor=64.0),
    "exponential": lambda o: o.SGD(o.schedules.ExponentialDecay(0.2, 5, 0.7)),
    "staircase": lambda o: o.SGD(o.schedules.ExponentialDecay(0.2, 5, 0.7, staircase=True)),
    "piecewise": lambda o: o.SGD(o.schedules.PiecewiseConstantDecay([4, 9], [0.2, 0.1, 0.02])),
    "polynomial": lambda o: o.SGD(o.schedules.PolynomialDecay(0.2, 10, 0.01, power=2.0)),
    "polynomial_cycle": lambda o: o.SGD(o.schedules.PolynomialDecay(0.2, 10, 0.01, cycle=True)),
    "cosine": lambda o: o.SGD(o.schedules.CosineDecay(0.2, 15, alpha=0.1)),
    "cosine_warmup": lambda o: o.SGD(
        o.schedules.CosineDecay(0.0, 12, warmup_target=0.2, warmup_steps=6)
    ),
    "restarts": lambda o: o.SGD(o.schedules.CosineDecayRestarts(0.2, 4, 1.5, 0.8, 0.1)),
    "restarts_of_one_length": lambda o: o.SGD(o.schedules.CosineDecayRestarts(0.2, 5, 1.0, 0.7)),
    "inverse_time": lambda o: o.Adam(o.schedules.InverseTimeDecay(0.02, 3, 0.5)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name):
    def arguments(library):
        return {
            "optimizer": OPTIMIZERS[name](library.optimizers),
            "loss": "sparse_categorical_crossentropy",
            "metrics": ["accuracy"],
        }

    theirs, ours = compare_training(network, arguments, LABELS)
    steps, updates = (int(np.asarray(m.optimizer.iterations)) for m in (theirs, ours))
    assert updates == steps == STEPS // (ours.optimizer.gradient_accumulation_steps or 1)
    assert len(ours.optimizer.variables) == len(theirs.optimizer.variables)


SCHEDULES = {
    "restarts_2": ("CosineDecayRestarts", (0.1, 10), {}),
    "restarts_1.5": ("CosineDecayRestarts", (0.1, 7, 1.5, 0.9), {}),
    "restarts_1": ("CosineDecayRestarts", (0.1, 10, 1.0, 0.5, 0.1), {}),
    "restarts_3": ("CosineDecayRestarts", (0.1, 10, 3.0), {"alpha": 0.2}),
    "restarts_1.1": ("CosineDecayRestarts", (0.1, 6, 1.1), {}),
    "cosine": ("CosineDecay", (0.1, 30), {"alpha": 0.2, "warmup_target": 0.4, "warmup_steps": 9}),
    "inverse": ("InverseTimeDecay", (0.1, 7, 0.5), {"staircase": True}),
    "polynomial": ("PolynomialDecay", (0.1, 13, 0.01, 2.0), {"cycle": True}),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name):
    cls, positional, named = SCHEDULES[name]
    ours, theirs = (
        getattr(m.optimizers.schedules, cls)(*positional, **named) for m in (handmill, keras)
    )
    planned = jax.jit(theirs)
    for step in range(80):
        want = float(planned(np.int32(step)))
        np.testing.assert_allclose(float(ours(step)), want, rtol=2e-5, atol=1e-7)
    assert handmill.optimizers.schedules.serialize(ours) == (
        keras.optimizers.schedules.serialize(theirs)
    )
    again = handmill.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(theirs))
    assert type(again) is type(ours)
    assert again.get_config() == theirs.get_config()


LOSSES = {
    "mse": ("mse", "linear", 3, TARGETS),
    "mae": ("mae", "linear", 3, TARGETS),
    "huber": (lambda m: m.losses.Huber(0.7), "linear", 3, TARGETS),
    "kld": ("kl_divergence", "softmax", 3, POSITIVE),
    "binary": ("binary_crossentropy", "sigmoid", 1, BITS),
    "binary_logits": (
        lambda m: m.losses.BinaryCrossentropy(from_logits=True),
        "linear",
        1,
        BITS,
    ),
    "binary_smoothing": (
        lambda m: m.losses.BinaryCrossentropy(label_smoothing=0.2),
        "sigmoid",
        3,
        ONE_HOT,
    ),
    "categorical": ("categorical_crossentropy", "softmax", 3, ONE_HOT),
    "categorical_logits": (
        lambda m: m.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        "linear",
        3,
        ONE_HOT,
    ),
    "sparse": ("sparse_categorical_crossentropy", "softmax", 3, LABELS),
    "sparse_column": ("sparse_categorical_crossentropy", "softmax", 3, LABELS[..., None]),
    "sparse_logits": (
        lambda m: m.losses.SparseCategoricalCrossentropy(from_logits=True),
        "linear",
        3,
        LABELS,
    ),
    "sparse_ignore": (
        lambda m: m.losses.SparseCategoricalCrossentropy(ignore_class=1),
        "softmax",
        3,
        LABELS,
    ),
    "auto_sparse": ("crossentropy", "softmax", 3, LABELS),
    "auto_categorical": ("ce", "softmax", 3, ONE_HOT),
    "auto_binary": ("crossentropy", "sigmoid", 1, BITS),
    "reduction_sum": (lambda m: m.losses.MeanSquaredError(reduction="sum"), "linear", 3, TARGETS),
    "weighted_mean": (
        lambda m: m.losses.MeanSquaredError(reduction="mean_with_sample_weight"),
        "linear",
        3,
        TARGETS,
    ),
    "unclipped_sigmoid_scores": ("categorical_crossentropy", "sigmoid", 3, ONE_HOT),
}


@pytest.mark.parametrize("weighted", (False, True), ids=("plain", "weighted"))
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name, weighted):
    loss, last, units, y = LOSSES[name]

    def arguments(library):
        found = loss if isinstance(loss, str) else loss(library)
        rate = 0.002 if name == "reduction_sum" else 0.05
        return {"optimizer": library.optimizers.SGD(rate), "loss": found}

    compare_training(
        lambda library: network(library, last, units),
        arguments,
        y,
        WEIGHTS if weighted else None,
    )


METRICS = {
    "accuracy_sparse": (["accuracy"], "softmax", 3, LABELS),
    "accuracy_one_hot": (["acc"], "softmax", 3, ONE_HOT),
    "accuracy_binary": (["accuracy"], "sigmoid", 1, BITS),
    "regression": (["mse", "mae", "mape"], "linear", 3, TARGETS),
    "crossentropies": (
        ["categorical_accuracy", "categorical_crossentropy", "kl_divergence"],
        "softmax",
        3,
        ONE_HOT,
    ),
}


@pytest.mark.parametrize("name", METRICS)
def test_metrics(name):
    metrics, last, units, y = METRICS[name]

    def arguments(library):
        extra = [library.metrics.RootMeanSquaredError()] if name == "regression" else []
        if name == "accuracy_sparse":
            extra = [
                library.metrics.SparseTopKCategoricalAccuracy(k=2),
                library.metrics.SparseCategoricalCrossentropy(),
            ]
        if name == "crossentropies":
            extra = [library.metrics.TopKCategoricalAccuracy(k=2)]
        if name == "accuracy_binary":
            extra = [
                library.metrics.BinaryAccuracy(threshold=0.4, name="low"),
                library.metrics.BinaryCrossentropy(),
            ]
        return {
            "optimizer": library.optimizers.SGD(0.05),
            "loss": "mse" if last == "linear" else "crossentropy",
            "metrics": [*metrics, *extra],
            "weighted_metrics": list(metrics),
        }

    compare_training(lambda library: network(library, last, units), arguments, y, WEIGHTS)


PENALTIES = {
    "l1": {"kernel_regularizer": "l1"},
    "l2": {"kernel_regularizer": "l2", "bias_regularizer": "l2"},
    "l1l2": {"kernel_regularizer": "L1L2"},
    "activity": {"activity_regularizer": "l2"},
    "max_norm": {"kernel_constraint": "max_norm", "bias_constraint": "non_neg"},
    "unit_norm": {"kernel_constraint": "unit_norm"},
    "min_max_norm": {"kernel_constraint": "min_max_norm"},
}


@pytest.mark.parametrize("name", PENALTIES)
def test_penalties_and_constraints(name):
    def arguments(library):
        return {"optimizer": library.optimizers.SGD(0.1), "loss": "mse"}

    given = PENALTIES[name]
    compare_training(lambda library: network(library, "linear", **given), arguments, TARGETS)


def test_l1l2_object():
    def make(library):
        return network(library, "linear", kernel_regularizer=library.regularizers.L1L2(0.01, 0.02))

    compare_training(make, lambda m: {"optimizer": m.optimizers.SGD(0.1), "loss": "mse"}, TARGETS)


def test_batch_normalization():
    def make(library):
        layers = library.layers
        return library.Sequential(
            [
                library.Input((6,)),
                layers.Dense(8, use_bias=False),
                layers.BatchNormalization(momentum=0.8),
                layers.Activation("tanh"),
                layers.Dense(3),
            ]
        )

    theirs, ours = compare_training(
        make, lambda m: {"optimizer": m.optimizers.SGD(0.05), "loss": "mse"}, TARGETS, rtol=2e-4
    )
    got = ours.predict(X[0], verbose=0)
    np.testing.assert_allclose(got, theirs.predict(X[0], verbose=0), rtol=2e-3, atol=1e-4)


def test_several_inputs_and_outputs():
    def make(library):
        layers = library.layers
        a, b = library.Input((6,), name="a"), library.Input((6,), name="b")
        shared = layers.Dense(5, activation="tanh")
        joined = layers.Concatenate()([shared(a), shared(b)])
        summed = layers.Add()([shared(a), layers.Dense(5)(b)])
        first = layers.Dense(3, name="first")(joined)
        second = layers.Dense(1, activation="sigmoid", name="second")(summed)
        return library.Model([a, b], [first, second])

    theirs, ours = pair(make)
    for library, model in ((keras, theirs), (handmill, ours)):
        model.compile(
            library.optimizers.SGD(0.05),
            loss={"first": "mse", "second": "binary_crossentropy"},
            loss_weights={"first": 0.5, "second": 2.0},
            metrics={"first": "mae", "second": ["accuracy"]},
        )
    for step in range(STEPS):
        x = [X[step], X[-1 - step]]
        y = [TARGETS[step], BITS[step]]
        want = theirs.train_on_batch(x, y, return_dict=True)
        got = ours.train_on_batch(x, y, return_dict=True)
        assert set(got) == set(want)
        for name in want:
            np.testing.assert_allclose(got[name], float(want[name]), rtol=3e-5, atol=3e-6)
    want, got = theirs.predict(x, verbose=0), ours.predict(x, verbose=0)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    (
        {},
        {"batch_size": 7},
        {"validation_split": 0.3},
        {"class_weight": {0: 2.0, 2: 0.5}},
        {"sample_weight": WEIGHTS[:5].reshape(-1)},
        {"steps_per_epoch": 3, "batch_size": 8},
        {"initial_epoch": 2},
        {"validation_data": (X[6], LABELS[6]), "validation_freq": 2},
    ),
    ids=("plain", "partial", "split", "class", "sample", "steps", "initial", "freq"),
)
def test_fit_history(arguments):
    theirs, ours = pair(
        lambda m: network(m, kernel_regularizer=m.regularizers.L2(0.01)),
    )
    x, y = X[:5].reshape(-1, 6), LABELS[:5].reshape(-1)
    histories = []
    for library, model in ((keras, theirs), (handmill, ours)):
        model.compile(
            library.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"]
        )
        history = model.fit(x, y, epochs=4, shuffle=False, verbose=0, **arguments)
        histories.append((history.epoch, history.history))
    (want_epochs, want), (got_epochs, got) = histories
    assert got_epochs == want_epochs
    assert set(got) == set(want)
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=5e-5, err_msg=name)
    want, got = theirs.evaluate(x, y, verbose=0), ours.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(got, want, rtol=5e-5)


LAYERS = {
    "dense": lambda m: m.layers.Dense(3, activation="relu", kernel_regularizer="l2"),
    "activation": lambda m: m.layers.Activation("gelu"),
    "flatten": lambda m: m.layers.Flatten(),
    "dropout": lambda m: m.layers.Dropout(0.3, seed=1),
    "reshape": lambda m: m.layers.Reshape((3, -1)),
    "rescaling": lambda m: m.layers.Rescaling(1 / 255.0, offset=-0.5),
    "relu": lambda m: m.layers.ReLU(max_value=2.0, negative_slope=0.1, threshold=0.2),
    "leaky_relu": lambda m: m.layers.LeakyReLU(negative_slope=0.2),
    "elu": lambda m: m.layers.ELU(0.5),
    "softmax": lambda m: m.layers.Softmax(),
    "batch_normalization": lambda m: m.layers.BatchNormalization(),
    "add": lambda m: m.layers.Add(),
    "concatenate": lambda m: m.layers.Concatenate(axis=1),
    "average": lambda m: m.layers.Average(),
    "maximum": lambda m: m.layers.Maximum(),
    "minimum": lambda m: m.layers.Minimum(),
    "multiply": lambda m: m.layers.Multiply(),
    "subtract": lambda m: m.layers.Subtract(),
    "input": lambda m: m.layers.InputLayer(shape=(4,), name="x"),
}
MERGES = ("add", "concatenate", "average", "maximum", "minimum", "multiply", "subtract")


def plain(config):
    """A config without the names that are numbered."""
    if isinstance(config, dict):
        return {k: plain(v) for k, v in config.items() if k != "name"}
    return [plain(v) for v in config] if isinstance(config, list | tuple) else config


@pytest.mark.parametrize("name", LAYERS)
def test_layer_configs_and_values(name):
    theirs, ours = LAYERS[name](keras), LAYERS[name](handmill)
    assert plain(ours.get_config()) == plain(theirs.get_config())
    again = type(ours).from_config(ours.get_config())
    assert plain(again.get_config()) == plain(ours.get_config())
    if name == "input":
        return
    x = [X[0], X[1]] if name in MERGES else X[0]
    want = theirs(x)
    got = ours(x)
    if ours.weights:
        ours.set_weights([np.asarray(w) for w in theirs.get_weights()])
        got = ours(x)
    np.testing.assert_allclose(got, np.asarray(want), rtol=1e-5, atol=1e-6)
    shape = [(None, 6), (None, 6)] if name in MERGES else (None, 6)
    assert ours.compute_output_shape(shape) == tuple(theirs.compute_output_shape(shape))


@pytest.mark.parametrize(
    "name",
    (
        "linear", "relu", "sigmoid", "tanh", "softmax", "elu", "selu", "exponential", "softplus",
        "softsign", "silu", "swish", "gelu", "leaky_relu", "hard_sigmoid", "hard_silu",
        "log_softmax", "relu6", "mish",
    ),
)  # fmt: skip
def test_activations(name):
    x = np.linspace(-6, 6, 61, dtype="float32").reshape(1, -1)
    want = keras.activations.get(name)(x)
    got = handmill.activations.get(name)(x)
    np.testing.assert_allclose(got, np.asarray(want), rtol=2e-5, atol=2e-6)
    assert handmill.activations.serialize(handmill.activations.get(name)) == (
        keras.activations.serialize(keras.activations.get(name))
    )


@pytest.mark.parametrize(
    "name",
    (
        "GlorotUniform", "GlorotNormal", "HeUniform", "HeNormal", "LecunUniform", "LecunNormal",
        "RandomNormal", "RandomUniform", "TruncatedNormal", "VarianceScaling", "Orthogonal",
        "Zeros", "Ones", "Constant",
    ),
)  # fmt: skip
def test_initializers(name):
    ours = getattr(handmill.initializers, name)()
    theirs = getattr(keras.initializers, name)()
    assert handmill.initializers.serialize(ours) == keras.initializers.serialize(theirs)
    got, want = ours((200, 300)), np.asarray(theirs((200, 300)))
    assert got.dtype == np.float32
    assert abs(got.mean() - want.mean()) < 4 * max(want.std(), 1e-9) / 200
    np.testing.assert_allclose(got.std(), want.std(), rtol=0.03, atol=1e-9)
    np.testing.assert_allclose(np.abs(got).max(), np.abs(want).max(), rtol=0.35)


NEEDED = {
    "IoU": {"num_classes": 3, "target_class_ids": [0, 2]},
    "OneHotIoU": {"num_classes": 3, "target_class_ids": [0, 2]},
    "MeanIoU": {"num_classes": 3},
    "OneHotMeanIoU": {"num_classes": 3},
    "SensitivityAtSpecificity": {"specificity": 0.5},
    "SpecificityAtSensitivity": {"sensitivity": 0.5},
    "PrecisionAtRecall": {"recall": 0.5},
    "RecallAtPrecision": {"precision": 0.5},
}
"""Arguments without a default."""


@pytest.mark.parametrize(
    ("module", "name"),
    [("losses", n) for n in LOSS_TABLE if n[0].isupper() and n[1].islower()]
    + [("metrics", n) for n in METRIC_TABLE if n[0].isupper() and n[1].islower()]
    + [("optimizers", n) for n in ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad")]
    + [("regularizers", n) for n in ("L1", "L2", "L1L2", "OrthogonalRegularizer")]
    + [("constraints", n) for n in ("MaxNorm", "NonNeg", "UnitNorm", "MinMaxNorm")],
)
def test_configs(module, name):
    if name == "MeanMetricWrapper":
        pytest.skip("needs a function")
    if name in ("Huber", "CosineSimilarity"):
        pytest.skip("Keras forgets an argument")
    arguments = dict(NEEDED.get(name, {}))
    if module == "metrics":
        arguments["name"] = "mine"  # some count how many there are
    ours = getattr(getattr(handmill, module), name)(**arguments)
    theirs = getattr(getattr(keras, module), name)(**arguments)
    assert plain(getattr(handmill, module).serialize(ours)) == plain(
        getattr(keras, module).serialize(theirs)
    )


def test_model_configs():
    def functional(library):
        x = library.Input((6,), name="x")
        y = library.layers.Dense(3, name="a", activation="relu")(x)
        z = library.layers.Add(name="sum")([y, library.layers.Dense(3, name="b")(x)])
        return library.Model(x, z, name="m")

    def sequential(library):
        return library.Sequential(
            [library.Input((6,), name="x"), library.layers.Dense(3, name="a")], name="s"
        )

    for make in (functional, sequential):
        theirs, ours = make(keras), make(handmill)
        assert json.loads(ours.to_json())["config"] == json.loads(theirs.to_json())["config"]
        loaded = type(ours).from_config(json.loads(theirs.to_json())["config"])
        assert loaded.get_config() == ours.get_config()
