"""The order of batches, the threads that prepare them, and what happens when things go wrong."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

from handmill.data.buffers import BatchBuffers
from handmill.data.keyed_random import make_key, permutation, uniform, words
from handmill.data.prefetch import Prefetcher
from handmill.preprocessing.image import ImageDataGenerator, Iterator

pytestmark = pytest.mark.alone

AUGMENT = {"rotation_range": 20, "zoom_range": 0.2, "horizontal_flip": True}


def images(n=23):
    x = np.random.default_rng(0).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
    return x, np.arange(n)


def image_threads():
    return [t for t in threading.enumerate() if t.name.startswith("handmill-data")]


def wait_until(condition, seconds=10.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture
def threads(monkeypatch):
    def choose(count):
        monkeypatch.setattr("handmill.config.num_threads", lambda: count)

    return choose


def test_every_image_comes_once_in_a_pass():
    x, y = images()
    batches = ImageDataGenerator(**AUGMENT).flow(x, y, batch_size=5, seed=1)
    assert len(batches) == 5
    orders = []
    for _ in range(4):
        labels = [next(batches)[1] for _ in range(5)]
        assert [len(part) for part in labels] == [5, 5, 5, 5, 3]
        orders.append(np.concatenate(labels))
        np.testing.assert_array_equal(np.sort(orders[-1]), y)
    assert len({tuple(order) for order in orders}) == 4


@pytest.mark.parametrize("settings", (AUGMENT, {**AUGMENT, "compat": "keras3"}))
def test_batches_do_not_depend_on_the_number_of_threads(threads, settings):
    x, y = images()
    results = []
    for count in (1, 2, 3, 7):
        threads(count)
        batches = ImageDataGenerator(**settings).flow(x, y, batch_size=4, seed=9)
        results.append([next(batches) for _ in range(15)])
        batches.close()
    for other in results[1:]:
        for (x_1, y_1), (x_n, y_n) in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(x_1, x_n)
            np.testing.assert_array_equal(y_1, y_n)


def test_the_seed_decides():
    x, y = images()
    a, b, c = (
        next(ImageDataGenerator(**AUGMENT).flow(x, y, batch_size=23, seed=seed))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(a[0], b[0])
    assert not np.array_equal(a[1], c[1])


def test_consumers_go_on_where_the_last_one_stopped():
    x, y = images(20)
    batches = ImageDataGenerator().flow(x, y, batch_size=4, seed=1)
    seen = [next(batches)[1] for _ in range(2)]  # an epoch of 2 steps
    for _, (_, labels) in zip(range(3), batches, strict=False):  # another consumer
        seen.append(labels)
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(20))


def test_reset_begins_a_new_pass():
    x, y = images(20)
    batches = ImageDataGenerator().flow(x, y, batch_size=6, shuffle=False)
    batches.reset()
    next(batches)
    assert batches.batch_index == 1
    batches.reset()
    assert batches.batch_index == 0
    np.testing.assert_array_equal(next(batches)[1], np.arange(6))
    assert batches.total_batches_seen == 2


def test_batches_by_position():
    x, y = images(10)
    batches = ImageDataGenerator(**AUGMENT).flow(x, y, batch_size=4, seed=1)
    first = np.concatenate([batches[i][1] for i in range(3)])
    np.testing.assert_array_equal(np.sort(first), np.arange(10))
    np.testing.assert_array_equal(batches[1][0], batches[-2][0])
    np.testing.assert_array_equal(next(batches)[0], batches[0][0])
    batches.on_epoch_end()
    assert not np.array_equal(np.concatenate([batches[i][1] for i in range(3)]), first)
    with pytest.raises(ValueError, match="element 3, but the Sequence has length 3"):
        batches[3]


@pytest.mark.parametrize("count", (1, 3))
def test_an_exception_surfaces_once_and_the_rest_goes_on(threads, count):
    threads(count)
    x, y = images(12)

    def function(image):
        if image[0, 0, 0] == x[5, 0, 0, 0]:
            raise RuntimeError("image 5")
        return image

    generator = ImageDataGenerator(preprocessing_function=function)
    batches = generator.flow(x, y, batch_size=3, shuffle=False)
    for _ in range(2):
        np.testing.assert_array_equal(next(batches)[1], [0, 1, 2])
        with pytest.raises(RuntimeError, match="image 5"):
            next(batches)
        np.testing.assert_array_equal(next(batches)[1], [6, 7, 8])
        np.testing.assert_array_equal(next(batches)[1], [9, 10, 11])


def test_a_users_function_is_called_in_order_by_one_thread(threads):
    threads(4)
    x, y = images(12)
    calls = []

    def function(image):
        calls.append((threading.get_ident(), float(image[0, 0, 0])))
        return image

    batches = ImageDataGenerator(preprocessing_function=function).flow(x, y, 3, shuffle=False)
    for _ in range(4):
        next(batches)
    batches.close()
    assert len({thread for thread, _ in calls}) == 1
    assert [value for _, value in calls[:12]] == [float(v) for v in x[:, 0, 0, 0]]


@pytest.mark.slow
def test_threads_end_with_close_and_with_the_iterator(threads):
    threads(2)
    gc.collect()  # iterators that other tests dropped
    wait_until(lambda: not image_threads())
    batches = ImageDataGenerator(**AUGMENT).flow(*images(), batch_size=4, seed=1)
    assert not image_threads()  # none before the first batch
    first = next(batches)
    assert len(image_threads()) == 2
    batches.close()
    wait_until(lambda: not image_threads())
    assert not np.array_equal(next(batches)[1], first[1])  # begun again, one step on
    assert len(image_threads()) == 2
    del batches
    gc.collect()
    wait_until(lambda: not image_threads())


def test_a_subclass_needs_one_method():
    class Squares(Iterator):
        def _get_batches_of_transformed_samples(self, index_array):
            return index_array**2

    batches = Squares(5, 2, shuffle=False, seed=None)
    np.testing.assert_array_equal(
        np.concatenate([next(batches) for _ in range(3)]), [0, 1, 4, 9, 16]
    )
    np.testing.assert_array_equal(batches[2], [16])
    with pytest.raises(NotImplementedError, match="_get_batches_of_transformed_samples"):
        next(Iterator(3, 2, False, 0))
    with pytest.raises(ValueError, match="batch_size"):
        Iterator(3, 0, False, 0)
    with pytest.raises(ValueError, match="no samples"):
        next(Squares(0, 2, False, 0))


def test_several_consumers_share_an_iterator():
    x, y = images(40)
    batches = ImageDataGenerator(**AUGMENT).flow(x, y, batch_size=2, seed=1)
    seen, lock = [], threading.Lock()

    def consume():
        for _ in range(5):
            labels = next(batches)[1]
            with lock:
                seen.extend(labels)

    consumers = [threading.Thread(target=consume) for _ in range(4)]
    for consumer in consumers:
        consumer.start()
    for consumer in consumers:
        consumer.join()
    assert sorted(seen) == list(range(40))


def _script(text):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


SETUP = """
    import os, sys, threading
    import numpy as np
    from handmill.preprocessing.image import ImageDataGenerator
    x = np.random.default_rng(0).integers(0, 256, (400, 32, 32, 3), dtype=np.uint8)
    batches = ImageDataGenerator(rotation_range=20).flow(x, np.arange(400), seed=0)
    next(batches)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "end",
    ("", "raise SystemExit(0)", "import sys; sys.modules['kept'] = batches", "batches.close()"),
)
def test_an_abandoned_iterator_does_not_hold_up_the_end_of_the_process(end):
    result = _script(SETUP + "    " + end)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_an_iterator_works_in_a_forked_child():
    result = _script(
        SETUP
        + """
    import warnings
    warnings.simplefilter("ignore")  # Python 3.12 warns of fork with threads
    expected = None
    pid = os.fork()
    label = next(batches)[1]
    if pid == 0:
        sys.stdout.write(" ".join(map(str, label)))
        sys.stdout.flush()
        sys.exit(0)
    _, status = os.waitpid(pid, 0)
    sys.stdout.write("|" + " ".join(map(str, label)))
    sys.exit(status)
"""
    )
    assert result.returncode == 0, result.stderr
    child, parent = result.stdout.split("|")
    assert child == parent


def test_interrupting_a_wait_loses_no_batch():
    release = threading.Event()

    def produce(step):
        if step == 1:
            release.wait(10)
        return step

    prefetcher = Prefetcher(produce, first=0, threads=1, ahead=2)
    assert prefetcher.get(0) == 0
    waiting = prefetcher._shared.has_result

    class Interrupted(Exception):
        pass

    def interrupt():
        raise Interrupted

    original, waiting.wait = waiting.wait, interrupt
    with pytest.raises(Interrupted):
        prefetcher.get(1)
    waiting.wait = original
    release.set()
    assert [prefetcher.get(step) for step in (1, 2)] == [1, 2]
    prefetcher.close()
    with pytest.raises(RuntimeError, match="ended"):
        prefetcher.get(3)


def test_work_ahead_is_bounded():
    made = []
    prefetcher = Prefetcher(made.append, first=5, threads=2, ahead=3)
    wait_until(lambda: len(made) == 3)
    time.sleep(0.05)
    assert sorted(made) == [5, 6, 7]
    prefetcher.get(5)
    wait_until(lambda: len(made) == 4)
    prefetcher.close()


def test_buffers_are_reused_only_when_no_view_is_left():
    buffers = BatchBuffers(keep=2)
    a = buffers.empty((4, 3))
    address = a.ctypes.data
    view = a[1:].T
    del a
    assert buffers.empty((4, 3)).ctypes.data != address
    view[:] = 7
    del view
    again = [buffers.empty((4, 3)) for _ in range(2)]
    assert address in {array.ctypes.data for array in again}
    assert buffers.empty((100, 3)).shape == (100, 3)
    assert buffers.empty((0, 3)).size == 0


def test_keyed_numbers():
    key = make_key(1, 2)
    assert key != make_key(2, 1)
    assert make_key(-1) == make_key(2**64 - 1)
    positions = np.arange(200_000)
    numbers = uniform(key, positions)
    assert 0 <= numbers.min() < 1e-4
    assert 1 - 1e-4 < numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.003
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.01
    assert abs(np.corrcoef(numbers, uniform(make_key(1, 3), positions))[0, 1]) < 0.01
    np.testing.assert_array_equal(words(key, positions[[7, 3]]), words(key, positions)[[7, 3]])
    assert len(np.unique(words(key, positions))) == 200_000
    np.testing.assert_array_equal(np.sort(permutation(key, 1000)), np.arange(1000))
