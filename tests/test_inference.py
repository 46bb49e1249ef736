"""predict into given arrays, predict_iter, packed weights shared and renewed, many threads."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import handmill
from handmill import config, layers

pytestmark = pytest.mark.alone

native = pytest.mark.skipif(not config.has_kernels(), reason="a build without kernels")


@pytest.fixture
def model() -> handmill.Sequential:
    made = handmill.Sequential(
        [
            handmill.Input((20,)),
            layers.Dense(300, activation="relu"),
            layers.Dense(200, activation="relu"),
            layers.Dense(5, activation="softmax"),
        ]
    )
    made.compile("sgd", "sparse_categorical_crossentropy")
    return made


@pytest.fixture
def two_outputs() -> handmill.Model:
    x = handmill.Input((4,))
    return handmill.Model(x, {"a": layers.Dense(3)(x), "b": [layers.Dense(2)(x)]})


def rows(count: int, width: int = 20, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width)).astype("float32")


# Into given arrays.


@pytest.mark.parametrize("backend", ("native", "numpy"))
@pytest.mark.parametrize("count", (1, 31, 32, 33, 100))
@pytest.mark.parametrize("verbose", (0, 2))
def test_out_holds_what_predict_returns(model, backend, count, verbose):
    if backend == "native" and not config.has_kernels():
        pytest.skip("a build without kernels")
    x = rows(count)
    with handmill.use_backend(backend):
        wanted = model.predict(x, verbose=0)
        out = np.full((count, 5), np.nan, "float32")
        assert model.predict(x, verbose=verbose, out=out) is out
    np.testing.assert_array_equal(out, wanted)


def test_out_of_nested_outputs(two_outputs):
    x = rows(70, 4)
    wanted = two_outputs.predict(x, verbose=0)
    out = {"a": np.empty((70, 3), "float32"), "b": [np.empty((70, 2), "float32")]}
    assert two_outputs.predict(x, verbose=0, out=out) is out
    np.testing.assert_array_equal(out["a"], wanted["a"])
    np.testing.assert_array_equal(out["b"][0], wanted["b"][0])


def test_out_of_batches_from_a_generator(model):
    x = rows(50)
    out = np.empty((50, 5), "float32")
    batches = iter([x[:20], x[20:]])
    assert model.predict(batches, verbose=0, out=out) is out
    np.testing.assert_array_equal(out, model.predict(x, verbose=0))


def test_out_may_be_the_input():
    model = handmill.Sequential([handmill.Input((6,)), layers.Dense(6, activation="tanh")])
    x = rows(80, 6)
    wanted = model.predict(x, verbose=0)
    assert model.predict(x, verbose=0, out=x) is x
    np.testing.assert_array_equal(x, wanted)


def _read_only(shape: tuple[int, ...]) -> np.ndarray:
    array = np.zeros(shape, "float32")
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("verbose", (0, 2))
@pytest.mark.parametrize(
    ("out", "message"),
    (
        (np.zeros((39, 5), "float32"), r"shape \(40, 5\).*received shape \(39, 5\).*numpy.empty"),
        (np.zeros((40, 5), "float64"), r"dtype float32.*received.*float64.*numpy.empty"),
        (np.zeros((5, 40), "float32").T, "not C-contiguous.*numpy.empty"),
        (_read_only((40, 5)), "read-only.*numpy.empty"),
        ([[0.0] * 5] * 40, "nested as the outputs"),
        ([np.zeros((40, 5), "float32")], "nested as the outputs"),
        ("scores", "must be a NumPy array"),
    ),
)
def test_bad_out_is_refused_and_left_alone(model, out, message, verbose):
    before = np.array(out) if isinstance(out, np.ndarray) else None
    with pytest.raises(ValueError, match=message):
        model.predict(rows(40), verbose=verbose, out=out)
    if before is not None:
        np.testing.assert_array_equal(out, before)


def test_out_arrays_may_not_overlap(two_outputs):
    memory = np.zeros(8, "float32")
    out = {"a": memory[:6].reshape(2, 3), "b": [memory[4:].reshape(2, 2)]}
    with pytest.raises(ValueError, match="overlap"):
        two_outputs.predict(rows(2, 4), verbose=0, out=out)


@native
def test_run_into_checks_its_arrays(model):
    from handmill import _core

    x = rows(3)
    plan = model.step_to_compare(x)[0].plan(x)
    assert isinstance(plan, _core.BoundPlan)
    with pytest.raises(ValueError, match="1 outputs, got 0"):
        plan.run_into(x, outputs=())
    for wrong in (np.zeros((3, 4), "float32"), np.zeros((3, 5)), _read_only((3, 5))):
        with pytest.raises(ValueError, match="output 0"):
            plan.run_into(x, outputs=[wrong])
    with pytest.raises(TypeError, match="C-contiguous"):
        plan.run_into(x, outputs=[np.zeros((5, 3), "float32").T])


# Streams.


def test_predict_iter_of_arrays(model):
    x = rows(70)
    parts = list(model.predict_iter(x, batch_size=32))
    assert [len(p) for p in parts] == [32, 32, 6]
    np.testing.assert_array_equal(np.concatenate(parts), model.predict(x, verbose=0))
    assert len(list(model.predict_iter(x, batch_size=32, steps=2))) == 2


def test_predict_iter_of_several_outputs(two_outputs):
    x = rows(5, 4)
    (part,) = two_outputs.predict_iter(x)
    np.testing.assert_array_equal(part["b"][0], two_outputs.predict(x, verbose=0)["b"][0])


def test_predict_iter_asks_for_a_batch_when_it_is_needed(model):
    asked = []

    def batches():
        for i in range(1000):
            asked.append(i)
            yield rows(3, seed=i), np.zeros(3)

    stream = model.predict_iter(batches())
    assert asked == []
    first = next(stream)
    assert asked == [0]
    np.testing.assert_array_equal(first, model.predict(rows(3), verbose=0))


def test_predict_iter_of_a_dataset(model):
    class Batches(handmill.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return rows(4, seed=index), np.zeros(4)

    parts = list(model.predict_iter(Batches()))
    assert [p.shape for p in parts] == [(4, 5)] * 3


@pytest.mark.parametrize(
    ("x", "arguments", "message"),
    (
        (rows(4), {"batch_size": 0}, "batch_size.*positive integer"),
        (rows(4), {"steps": 0}, "positive integer"),
        (rows(0), {}, "non-empty"),
        (None, {}, "`x` is missing"),
        (3, {}, "Unrecognized data type"),
        (iter([]), {"batch_size": 4}, "batch_size.*leave it out"),
    ),
)
def test_predict_iter_refuses_at_once(model, x, arguments, message):
    with pytest.raises(ValueError, match=message):
        model.predict_iter(x, **arguments)


def test_a_batch_that_does_not_fit_ends_the_stream_only(model):
    stream = model.predict_iter(iter([rows(2), rows(2, 7)]))
    next(stream)
    with pytest.raises(ValueError, match="incompatible"):
        next(stream)
    assert model.predict(rows(2), verbose=0).shape == (2, 5)


# Packed weights.


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@native
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_batch_sizes_threads_and_calls_share_one_packed_copy():
    model = handmill.Sequential([handmill.Input((4096,)), layers.Dense(2048)])  # 32 MiB
    x = rows(64, 4096)
    model(x[:1])
    before = resident_bytes()
    threads = [
        threading.Thread(target=lambda n=n: (model(x[:n]), model.predict(x[:n], verbose=0)))
        for n in (1, 2, 7, 16, 32)
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert resident_bytes() - before < 24 << 20


@native
def test_predictions_follow_the_weights(model):
    x, y = rows(64), np.arange(64) % 5
    calls = {n: (lambda n=n: model(x[:n])) for n in (1, 7, 32, 64)}
    seen = [call() for call in calls.values()]
    for _ in range(3):
        model.fit(x, y, epochs=1, verbose=0)
        weights = model.get_weights()
        for i, (n, call) in enumerate(calls.items()):
            found = call()
            assert not np.array_equal(found, seen[i])
            with handmill.use_backend("numpy"):
                np.testing.assert_allclose(found, model(x[:n]), rtol=2e-4, atol=2e-6)
            np.testing.assert_array_equal(found, model.predict(x[:n], batch_size=n, verbose=0))
            seen[i] = found
        model.set_weights([w * 0 for w in weights])
        np.testing.assert_array_equal(model(x[:1]), np.full((1, 5), 0.2, "float32"))
        model.set_weights(weights)


# Many threads.


@native
def test_64_threads_predict_with_one_model(model):
    x = [rows(n % 40 + 1, seed=n) for n in range(64)]
    wanted = [model.predict(a, verbose=0) for a in x]
    fresh = handmill.models.clone_model(model)  # traced and planned by the threads themselves
    fresh.set_weights(model.get_weights())
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(10):
            if not np.array_equal(fresh.predict(x[i], verbose=0), wanted[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


@native
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core")
def test_threads_that_predict_use_all_cores():
    dense = [layers.Dense(1024) for _ in range(4)]
    model = handmill.Sequential([handmill.Input((1024,)), *dense])
    x = rows(32, 1024)
    model.predict(x, verbose=0)

    def cores_of(work: Callable[[], object]) -> float:
        threads = [threading.Thread(target=lambda: [work() for _ in range(20)]) for _ in range(16)]
        wall, cpu = time.perf_counter(), time.process_time()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return (time.process_time() - cpu) / (time.perf_counter() - wall)

    # Beside what threads get here and now that need nothing of each other: other processes may
    # hold the cores.
    block = bytes(1 << 20)
    ratios: list[float] = []
    while len(ratios) < 6 and max(ratios, default=0.0) <= 0.65:
        free = cores_of(lambda: hashlib.sha256(block).digest())
        ratios.append(cores_of(lambda: model.predict(x, verbose=0)) / free)
    assert max(ratios) > 0.65, ratios


# Normalizations behind products.


def normalized(seed: int) -> handmill.Model:
    """Convolutions with a bias, one a channel, of one place with a residual; each normalized."""
    x = handmill.Input((7, 6, 5))
    y = layers.Activation("relu")(
        layers.BatchNormalization()(layers.Conv2D(20, 3, padding="same")(x))
    )
    z = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(y)
    z = layers.Activation("relu6")(layers.BatchNormalization(scale=False)(z))
    z = layers.BatchNormalization(center=False)(layers.Conv2D(20, 1, use_bias=False)(z))
    model = handmill.Model(x, layers.Activation("relu")(layers.Add()([z, y])))
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.1, 0.5, w.shape).astype("float32") for w in model.weights])
    return model


@pytest.mark.slow
@native
@pytest.mark.parametrize("count", (1, 9))
def test_a_normalization_ends_the_product_before_it(count):
    found = normalized(0).profile(rows(count, 210).reshape(count, 7, 6, 5), batch_size=count)
    kernels = [launch.kernel for launch in found.launches if not launch.cached]
    assert kernels == ["conv", "depthwise", "matmul"]


@native
def test_normalized_predictions_follow_every_weight():
    models = [normalized(seed) for seed in range(3)]  # of one plan
    x = rows(4, 210).reshape(4, 7, 6, 5)
    seen = [model(x) for model in models]
    for i in range(len(models[0].weights)):
        for model in models:
            model.weights[i].assign(model.weights[i].numpy() * 1.5)
        for j, model in enumerate(models):
            found = model(x)
            assert not np.array_equal(found, seen[j])
            with handmill.use_backend("numpy"):
                np.testing.assert_allclose(found, model(x), rtol=1e-4, atol=1e-4)
            seen[j] = found


# Small images, whose layers are cut for the threads.


@pytest.mark.slow
@native
@pytest.mark.parametrize("count", (1, 2))
def test_parts_of_a_small_image_have_the_bits_of_the_whole(count):
    x = handmill.Input((32, 20, 3))
    y = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    y = layers.MaxPooling2D()(layers.Conv2D(96, 1, activation="relu")(y))
    y = layers.AveragePooling2D(3, 1)(layers.Conv2D(72, 1)(y))
    model = handmill.Model(x, layers.Conv2D(40, 1)(y))
    images = rows(count, 1920).reshape(count, 32, 20, 3)
    found = model.profile(images, batch_size=count)
    shared = [launch.kernel for launch in found.launches if launch.blocks > 1 and not launch.cached]
    assert shared == ["conv", "matmul", "max_pool", "matmul", "average_pool", "matmul"]
    before, seen = config.num_threads(), []
    try:
        for threads in (1, 2, 3, 5):
            config.set_num_threads(threads)
            seen.append(model(images))
    finally:
        config.set_num_threads(before)
    assert all(np.array_equal(other, seen[0]) for other in seen[1:])
    with handmill.use_backend("numpy"):
        np.testing.assert_allclose(seen[0], model(images), rtol=1e-4, atol=1e-5)
