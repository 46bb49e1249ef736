"""Model.profile: what it lists, what it sums, and that it leaves no trace."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("handmill._core", reason="a build without kernels")

import handmill as keras
from handmill import config, layers
from handmill.inspection.ceilings import Ceilings

UNITS, BATCH = (20, 16, 5), 32


def make_model(dropout: float = 0.0):
    model = keras.Sequential([keras.Input((UNITS[0],)), layers.Dense(UNITS[1], activation="relu")])
    if dropout:
        model.add(layers.Dropout(dropout))
    model.add(layers.Dense(UNITS[2], activation="softmax"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.random((100, UNITS[0]), dtype=np.float32), rng.integers(0, UNITS[2], 100)


@pytest.mark.slow
def test_training_profile(data):
    found = make_model().profile(*data, batch_size=BATCH)
    assert (found.kind, found.batch_size, found.isa) == ("training", BATCH, config.isa())
    gather = found.launches[0]
    source = (UNITS[0] * 4 + 8) * BATCH
    assert (gather.kernel, gather.flops) == ("gather_rows", 0)
    assert (gather.bytes_read, gather.bytes_written) == (source + 2 * 8 * BATCH, source)
    products = sum(s.flops for s in found.launches if s.kernel == "matmul")
    first, second = UNITS[0] * UNITS[1], UNITS[1] * UNITS[2]
    updates = 12 * (first + second)  # of Adam, in the products of the gradients
    assert products == 2 * BATCH * (2 * first + 3 * second) + updates
    assert found.host_nodes == 0
    assert all(s.seconds > 0 and s.roofline_seconds >= 0 for s in found.launches)
    assert found.flops == sum(s.flops for s in found.launches)
    assert found.sum_of_seconds == pytest.approx(sum(s.seconds for s in found.launches))
    assert found.roofline_seconds == pytest.approx(sum(s.roofline_seconds for s in found.launches))
    assert found.percent_of_roofline == pytest.approx(100 * found.roofline_seconds / found.seconds)
    assert any("dense" in s.scope for s in found.launches)


@pytest.mark.slow
def test_inference_profile(data):
    found = make_model().profile(data[0], batch_size=7)
    assert found.kind == "inference"
    assert "gather_rows" not in {s.kernel for s in found.launches}
    products = sum(s.flops for s in found.launches if s.kernel == "matmul" and not s.cached)
    assert products == 2 * 7 * (UNITS[0] * UNITS[1] + UNITS[1] * UNITS[2])


@pytest.mark.slow
def test_cached_steps_are_listed_but_not_summed():
    model = keras.Sequential([keras.Input((256,)), layers.Dense(256)])
    found = model.profile(np.ones((128, 256), np.float32), batch_size=128)
    cached = [s for s in found.launches if s.cached]
    assert cached
    assert found.bytes == sum(
        s.bytes_read + s.bytes_written for s in found.launches if not s.cached
    )


@pytest.mark.slow
def test_profile_leaves_the_model_as_it_was(data):
    x, y = data
    left, right = make_model(0.5), make_model(0.5)
    right.set_weights(left.get_weights())
    for model in (left, right):
        keras.utils.set_random_seed(3)
        model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)
    right.set_weights(left.get_weights())
    before = right.get_weights()
    slots = [v.numpy().copy() for v in right.optimizer.variables]
    metrics = right.get_metrics_result()
    right.profile(x, y, batch_size=BATCH)
    right.profile(x)
    for old, new in zip(before, right.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    for old, variable in zip(slots, right.optimizer.variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())
    assert right.get_metrics_result() == metrics


@pytest.mark.slow
def test_profile_of_a_model_that_was_never_trained(data):
    model = make_model()
    before = model.get_weights()
    model.profile(*data)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert int(model.optimizer.iterations.numpy()) == 0


def test_a_refused_label_changes_nothing(data):
    x, y = data
    model = make_model()
    model.fit(x, y, epochs=1, verbose=0)
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"label 9 .* row 70"):
        model.profile(x, np.where(np.arange(100) == 70, 9, y))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


class Sorted(layers.Layer):
    def call(self, x):
        return keras.ops.sort(x)


@pytest.mark.slow
def test_host_nodes_are_marked():
    model = keras.Sequential([keras.Input((6,)), Sorted()])
    found = model.profile(np.ones((32, 6), np.float32))
    hosts = [s for s in found.launches if s.host]
    assert found.host_nodes == len(hosts) > 0
    assert {(s.kernel, s.isa) for s in hosts} == {("host", "host")}
    assert max(s.bytes_written for s in hosts) == 32 * 6 * 4
    assert "HOST" in str(found)


def test_table_and_json(data):
    found = make_model().profile(*data, batch_size=BATCH)
    text = str(found)
    assert all(s.kernel in text for s in found.launches)
    assert "roofline" in text
    assert "no host nodes" in text
    plain = json.loads(found.to_json())
    assert plain == found.to_dict()
    assert len(plain["launches"]) == len(found.launches)
    assert plain["ceilings"]["peak_gflops"] > 0


def test_bad_arguments(data):
    x, y = data
    model = make_model()
    with pytest.raises(ValueError, match="got 100 rows for batch_size=101"):
        model.profile(x, y, batch_size=101)
    with pytest.raises(ValueError, match="compile"):
        keras.Sequential([keras.Input((20,)), layers.Dense(5)]).profile(x, y)
    with keras.use_backend("numpy"), pytest.raises(RuntimeError, match="numpy"):
        model.profile(x, y)


class Even(Ceilings):
    """A machine of 1 GFLOP/s and 1, 2 and 4 GB/s."""

    peak = 1e9

    def stream(self, kind, footprint):
        return {"read": 1e9, "copy": 2e9, "update": 4e9}[kind]


@pytest.mark.parametrize(
    ("read", "written", "in_place", "seconds"),
    (
        (1e6, 0, 0, 1e-3),
        (1e6, 1e6, 0, 1e-3),
        (1e6, 1e6, 1e6, 0.5e-3),
        (3e6, 1e6, 1e6, 2.5e-3),
        (0, 1e6, 0, 0.5e-3),
        (0, 0, 0, 0),
    ),
)
def test_memory_time(read, written, in_place, seconds):
    assert Even().memory_time(read, written, in_place) == pytest.approx(seconds)
    assert Even().least_time(1e7, read, written, in_place) == pytest.approx(1e-2)
