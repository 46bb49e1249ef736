"""The optimizer's update inside the matmul of the gradient."""

from __future__ import annotations

import numpy as np
import pytest

import handmill as hm
from handmill import layers, models
from handmill.ir import passes
from levels import levels

_core = pytest.importorskip("handmill._core", reason="a build without kernels")

pytestmark = pytest.mark.filterwarnings("ignore::handmill.TrainingWarning")

OPTIMIZERS = {
    "sgd": lambda: hm.optimizers.SGD(0.05),
    "momentum": lambda: hm.optimizers.SGD(0.05, momentum=0.9),
    "nesterov": lambda: hm.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": lambda: hm.optimizers.Adam(0.01),
    "adamw": lambda: hm.optimizers.AdamW(0.01, weight_decay=0.1),
    "rmsprop": lambda: hm.optimizers.RMSprop(0.01),
    "adagrad": lambda: hm.optimizers.Adagrad(0.05),
}
FEATURES, UNITS, CLASSES = 83, 77, 5


@pytest.fixture(autouse=True)
def _level_as_before():
    level = _core.isa()
    yield
    _core.set_isa(level)


def make_model(make_optimizer, **settings):
    hm.utils.set_random_seed(3)
    model = models.Sequential(
        [
            layers.Input((FEATURES,)),
            layers.Dense(UNITS, activation="relu", **settings),
            layers.Dense(CLASSES),
        ]
    )
    loss = hm.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(make_optimizer(), loss)
    return model


def train(make_optimizer, batch, **settings):
    """All variables after three steps, and the kernels of the plan."""
    model = make_model(make_optimizer, **settings)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3 * batch, FEATURES)).astype("float32")
    y = rng.integers(0, CLASSES, 3 * batch)
    model.fit(x, y, batch_size=batch, epochs=1, shuffle=False, verbose=0)
    return [v.numpy() for v in (*model.variables, *model.optimizer.variables)]


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize("batch", (1, 7, 32, 300, 700))
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_same_bits_as_apart(monkeypatch, level, batch, name):
    _core.set_isa(level)
    together = train(OPTIMIZERS[name], batch)
    monkeypatch.setattr(
        passes, "PASSES", tuple(p for p in passes.PASSES if p is not passes.fuse_updates)
    )
    apart = train(OPTIMIZERS[name], batch)
    assert any(np.abs(v).max() > 0 for v in together)
    for ours, theirs in zip(together, apart, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def train_one_layer(make_optimizer, features, outputs, batch):
    """All variables after two steps of a layer whose gradient is a narrow matrix."""
    hm.utils.set_random_seed(3)
    model = models.Sequential([layers.Input((features,)), layers.Dense(outputs, use_bias=False)])
    model.compile(make_optimizer(), "mse")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2 * batch, features)).astype("float32")
    y = rng.normal(size=(2 * batch, outputs)).astype("float32")
    model.fit(x, y, batch_size=batch, epochs=1, shuffle=False, verbose=0)
    hm.compare(model, x[:batch], y[:batch]).raise_if_failed()
    return [v.numpy() for v in (*model.variables, *model.optimizer.variables)]


@pytest.mark.parametrize("level", levels())
@pytest.mark.parametrize(
    "outputs", (1, 13, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3, 6, 7, 12)))
)
@pytest.mark.parametrize("name", ("adam", "rmsprop", "momentum"))
def test_narrow_gradients_have_the_same_bits_as_apart(monkeypatch, level, outputs, name):
    _core.set_isa(level)
    for features, batch in ((5, 31), (24, 1), (65, 400), (300, 64), (700, 33), (1100, 40)):
        with monkeypatch.context() as patch:
            together = train_one_layer(OPTIMIZERS[name], features, outputs, batch)
            patch.setattr(
                passes, "PASSES", tuple(p for p in passes.PASSES if p is not passes.fuse_updates)
            )
            apart = train_one_layer(OPTIMIZERS[name], features, outputs, batch)
        for ours, theirs in zip(together, apart, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def steps_of(batch=32, optimizer="adam", **settings):
    """The kernels of a training step's plan."""
    model = make_model(OPTIMIZERS.get(optimizer, optimizer), **settings)
    x, y = np.zeros((batch, FEATURES), "f"), np.zeros(batch, "int64")
    function, arrays = model.step_to_compare(x, y)
    return [row["kernel"] for row in function.plan(*arrays).summary()]


def test_no_update_has_a_step_of_its_own():
    steps = steps_of()
    assert "adam_update" not in steps
    assert steps.count("reduce_columns_update") == 2


@pytest.mark.parametrize("level", [n for n in hm.config.available_isas() if n != "portable"])
@pytest.mark.parametrize(("features", "outputs"), ((784, 128), (256, 512), (64, 128), (130, 4100)))
def test_on_intel_threads_share_the_rows_of_an_update(level, features, outputs):
    """A thread fetches ahead along a row, and would take from another what that one writes."""
    _core.set_isa(level)
    before = _core.tuning()
    _core.set_tuning("icelake")
    try:
        model = models.Sequential([layers.Input((features,)), layers.Dense(outputs)])
        model.compile("sgd", "mse")
        shapes = (64, features), (64, outputs)
        function, arrays = model.step_to_compare(*(np.zeros(shape, "f") for shape in shapes))
        steps = function.plan(*arrays).summary()
    finally:
        _core.set_tuning(before)
    (update,) = [s for s in steps if s["kernel"] == "matmul" and s["bytes_in_place"]]
    assert 1 <= update["blocks"] <= max(1, features // 64) * max(1, outputs // 1024)


def test_a_gradient_that_is_needed_is_computed():
    assert steps_of(kernel_regularizer="l1").count("adam_update") == 1


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_penalty_on_squares_joins_the_update(monkeypatch, name):
    assert "adam_update" not in steps_of(kernel_regularizer="l2")
    together = train(OPTIMIZERS[name], 32, kernel_regularizer=hm.regularizers.L2(0.02))
    monkeypatch.setattr(
        passes, "PASSES", tuple(p for p in passes.PASSES if p is not passes.fuse_penalties)
    )
    apart = train(OPTIMIZERS[name], 32, kernel_regularizer=hm.regularizers.L2(0.02))
    without = train(OPTIMIZERS[name], 32)
    for ours, theirs in zip(together, apart, strict=True):  # one rounding less
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(apart, without, strict=True))


@pytest.mark.parametrize(
    "own",
    (
        lambda w: 0.02 * hm.ops.sum(hm.ops.square(w)),
        lambda w: hm.ops.sum(w * w) * 0.02,
        lambda w: hm.ops.multiply(hm.ops.sum(w**2), 0.02),
    ),
    ids=("square", "product", "power"),
)
def test_a_penalty_of_a_users_own_is_the_built_in_one(own):
    built_in = hm.regularizers.L2(0.02)
    assert steps_of(kernel_regularizer=own) == steps_of(kernel_regularizer=built_in)
    mine = train(OPTIMIZERS["adam"], 32, kernel_regularizer=own)
    theirs = train(OPTIMIZERS["adam"], 32, kernel_regularizer=built_in)
    for ours, expected in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("penalty", (hm.regularizers.L2(0.02), hm.regularizers.L1L2(0.01, 0.02)))
def test_numbers_with_a_penalty_agree_with_the_references(penalty):
    model = make_model(OPTIMIZERS["adam"], kernel_regularizer=penalty)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(32, FEATURES)).astype("float32")
    hm.compare(model, x, rng.integers(0, CLASSES, 32)).raise_if_failed()


@pytest.mark.parametrize("clip", ({"global_clipnorm": 1.0}, {"clipnorm": 1.0}), ids=str)
def test_clipping_by_norm_reads_the_gradient_once_more(clip):
    model = make_model(lambda: hm.optimizers.Adam(0.01, **clip))
    function, arrays = model.step_to_compare(np.zeros((32, FEATURES), "f"), np.zeros(32, "int64"))
    (update,) = [
        s
        for s in function.plan(*arrays).summary()
        if s["kernel"] == "adam_update" and s["bytes_written"] == 12 * FEATURES * UNITS
    ]
    norm = 4 * FEATURES * UNITS
    reads = [
        s["bytes_read"]
        for s in function.plan(*arrays).summary()
        if s["kernel"] == "reduce_rows" and s["bytes_read"] == norm
    ]
    assert reads == [norm]
    assert update["bytes_read"] == 4 * norm + 8  # p, m, v, g, the step size and the factor


def test_numbers_agree_with_the_references():
    model = make_model(OPTIMIZERS["adam"])
    rng = np.random.default_rng(1)
    x = rng.normal(size=(32, FEATURES)).astype("float32")
    hm.compare(model, x, rng.integers(0, CLASSES, 32)).raise_if_failed()
