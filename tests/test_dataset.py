"""Dataset: its verbs, orders, positions, and what training makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import handmill
from handmill.data import AUTOTUNE, Dataset, ElementSpec, PyDataset, prefetch

X = np.arange(40, dtype="float32").reshape(20, 2) / 64
Y = (np.arange(20) % 3).astype("int32")


def plain(value: Any) -> Any:
    """An element as nested lists."""
    if isinstance(value, tuple):
        return tuple(plain(v) for v in value)
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return np.asarray(value).tolist()


def elements(dataset: Dataset) -> list[Any]:
    return [plain(element) for element in dataset]


def by_generator() -> Dataset:
    """The rows of X and Y from what can only be iterated over."""
    return Dataset.from_generator(lambda: zip(X, Y, strict=True))


def by_slices() -> Dataset:
    return Dataset.from_tensor_slices((X, Y))


CHAINS: dict[str, Callable[[Dataset], Dataset]] = {
    "batch": lambda d: d.batch(6),
    "drop": lambda d: d.batch(6, drop_remainder=True),
    "shuffle": lambda d: d.shuffle(20, seed=1).batch(6),
    "buffer": lambda d: d.shuffle(5, seed=1).batch(6),
    "one order": lambda d: d.shuffle(5, seed=1, reshuffle_each_iteration=False).batch(6),
    "twice": lambda d: d.shuffle(5, seed=1).shuffle(7, seed=2).batch(6),
    "repeat then batch": lambda d: d.shuffle(5, seed=1).repeat(3).batch(6),
    "batch then repeat": lambda d: d.shuffle(5, seed=1).batch(6).repeat(3),
    "endless": lambda d: d.shuffle(5, seed=1).repeat().batch(6).take(9),
    "take and skip": lambda d: d.skip(3).take(15).batch(4).skip(1).take(2),
    "skip all": lambda d: d.skip(-1).batch(4),
    "take all": lambda d: d.take(-1).batch(4).take(-1),
    "cache": lambda d: d.shuffle(20, seed=1).cache().batch(6),
    "cached batches": lambda d: d.shuffle(20, seed=1).batch(6).cache().repeat(2),
    "unbatch": lambda d: d.shuffle(5, seed=1).batch(6).unbatch().batch(4),
    "enumerate": lambda d: d.enumerate(2).batch(6),
    "prefetch": lambda d: d.prefetch(2).batch(6).prefetch(),
    "map": lambda d: d.shuffle(5, seed=1).map(lambda x, y: (x + 1, y)).batch(6),
    "map batches": lambda d: d.batch(6).map(lambda x, y: {"x": x + 1, "y": y}),
    "filter": lambda d: d.filter(lambda x, y: y > 0).batch(6),
    "shuffled batches": lambda d: d.batch(3).shuffle(4, seed=5),
    "concatenate": lambda d: d.take(5).concatenate(d.skip(12)).batch(4),
}


@pytest.mark.parametrize("name", list(CHAINS))
def test_arrays_and_generators_give_the_same(name: str) -> None:
    """Orders of rows found without the rows are those that elements really take; pass by pass."""
    fast, slow = CHAINS[name](by_slices()), CHAINS[name](by_generator())
    for _ in range(3):
        assert elements(fast) == elements(slow)
    assert len(elements(fast)) == fast.cardinality() or fast.cardinality() == -2


@pytest.mark.slow
@pytest.mark.parametrize("make", (by_slices, by_generator))
@pytest.mark.parametrize("name", list(CHAINS))
def test_a_pass_goes_on_where_it_stood(name: str, make: Callable[[], Dataset]) -> None:
    whole, stopped, resumed = (CHAINS[name](make()) for _ in range(3))
    passes = [elements(whole), elements(whole)]
    list(stopped)
    iterator = iter(stopped)
    middle = len(passes[1]) // 2
    for _ in range(middle):
        next(iterator)
    state = json.loads(json.dumps(stopped.get_state()))
    assert state == {"pass": 1, "element": middle}
    resumed.set_state(state)
    assert elements(resumed) == passes[1][middle:]


@pytest.mark.parametrize("size", (1, 3, 19, 20, 500))
def test_a_shuffle_is_an_order_of_its_elements(size: int) -> None:
    data = Dataset.range(20).shuffle(size, seed=4)
    first, second = elements(data), elements(data)
    assert sorted(first) == sorted(second) == list(range(20))
    assert (first == list(range(20))) == (size == 1)
    assert all(place - size < value for value, place in zip(range(20), first, strict=True)), (
        ("an element cannot leave before it has entered the buffer") if size < 20 else True
    )
    assert (first == second) == (size == 1)


def test_orders_follow_the_global_seed() -> None:
    def run(seed: int) -> list[Any]:
        handmill.utils.set_random_seed(seed)
        return elements(Dataset.range(50).shuffle(50))

    assert run(1) == run(1) != run(2)


@pytest.mark.parametrize("make", (by_slices, by_generator))
def test_looking_twice_shows_other_elements(make: Callable[[], Dataset]) -> None:
    def looks() -> list[Any]:
        data = make().shuffle(20, seed=1).map(lambda x, y: x)
        return [elements(data.take(3)) for _ in range(3)]

    first, second, third = looks()
    assert first != second != third
    assert looks() == [first, second, third]


def test_zip_joins_arrays_and_other_data_sets() -> None:
    images, labels = Dataset.from_tensor_slices(X), Dataset.from_tensor_slices(Y)
    expected = elements(by_slices())
    assert elements(Dataset.zip(images, labels)) == expected
    assert elements(Dataset.zip((images, labels))) == expected
    assert elements(Dataset.zip((images.map(lambda x: x), labels))) == expected
    named = Dataset.zip({"a": images.take(2), "b": labels.skip(1)})
    assert elements(named) == [{"a": X[0].tolist(), "b": 1}, {"a": X[1].tolist(), "b": 2}]
    assert len(named) == 2
    with pytest.raises(TypeError, match="expected Datasets"):
        Dataset.zip(images, Y)  # type: ignore[arg-type]


def test_specs() -> None:
    rows = by_slices()
    pair = (ElementSpec((2,), "float32"), ElementSpec((), "int32"))
    assert rows.element_spec == by_generator().element_spec == pair
    free = (ElementSpec((None, 2), "float32"), ElementSpec((None,), "int32"))
    assert rows.batch(3).element_spec == rows.batch(3).map(lambda x, y: (x, y)).element_spec == free
    fixed = (ElementSpec((3, 2), "float32"), ElementSpec((3,), "int32"))
    assert rows.batch(3, drop_remainder=True).element_spec == fixed
    assert rows.repeat().batch(3).element_spec == fixed
    assert rows.batch(3).unbatch().element_spec == pair
    assert rows.enumerate().element_spec == (ElementSpec((), "int64"), pair)
    assert Dataset.from_tensor_slices(np.array(["a", "b"])).element_spec == ElementSpec((), "str")


def test_lengths() -> None:
    rows = by_slices()
    assert len(rows) == 20
    assert rows.repeat().cardinality() == -1
    assert by_generator().cardinality() == -2
    with pytest.raises(TypeError, match="endless"):
        len(rows.repeat())
    with pytest.raises(TypeError, match="not known"):
        len(by_generator())
    assert rows.repeat().num_batches is None
    assert bool(rows.take(0))


def test_a_generator_with_a_signature() -> None:
    spec = (ElementSpec((None,), "float32"), ElementSpec((), "int64"))
    data = Dataset.from_generator(lambda: [([1, 2], 3), ([4], 5)], output_signature=spec)
    assert data.element_spec == spec
    assert [(x.dtype.name, y.dtype.name) for x, y in data] == [("float32", "int64")] * 2
    wrong = Dataset.from_generator(lambda: [([[1]], 3)], output_signature=spec)
    with pytest.raises(ValueError, match=r"element 0 has an array of shape \(1, 1\)"):
        list(wrong)
    other = Dataset.from_generator(lambda: [[1]], output_signature=spec)
    with pytest.raises(ValueError, match="not nested as"):
        list(other)
    with pytest.raises(TypeError, match="expected a function"):
        Dataset.from_generator(iter([1]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "text"),
    (
        (lambda: Dataset.from_tensor_slices((X, Y[:3])), "differ in their numbers of rows"),
        (lambda: Dataset.from_tensor_slices(3.0), "first axis"),
        (lambda: Dataset.from_tensor_slices([[1], [2, 3]]), "different shapes"),
        (lambda: by_slices().batch(0), "`batch_size` must be a positive integer"),
        (lambda: by_slices().shuffle(2.5), "`buffer_size` must be a positive integer"),
        (lambda: by_slices().take(-2), "or -1 for all"),
        (lambda: by_slices().repeat(-5), "or -1 for ever"),
        (lambda: by_slices().map(len, num_parallel_calls=0), "must be positive or AUTOTUNE"),
        (lambda: by_slices().cache("file"), "in memory only"),
        (lambda: by_slices().prefetch(-2), "a number of elements"),
        (lambda: by_slices().set_state({"pass": -1, "element": 0}), "what get_state"),
        (lambda: list(Dataset.from_generator(lambda: [[1], [1, 2]]).batch(2)), "has shape"),
        (lambda: list(Dataset.from_generator(lambda: [(1,), (1, 2)]).batch(2)), "nested as"),
        (lambda: list(by_generator().filter(lambda x, y: x)), "one truth value"),
        (lambda: list(by_generator().unbatch()), "first axis"),
    ),
)
def test_what_cannot_be_is_refused(wrong: Callable[[], Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        wrong()


def test_functions_of_parallel_maps_keep_the_order() -> None:
    def slow(x: Any) -> Any:
        time.sleep(0.002 if x % 2 else 0.0)
        return x * 2

    data = Dataset.range(30).map(slow, num_parallel_calls=4)
    assert elements(data) == [2 * i for i in range(30)]


@pytest.mark.parametrize("verb", ("map", "parallel", "prefetch"))
def test_an_error_comes_with_its_element_and_ends_the_threads(verb: str) -> None:
    def check(x: Any) -> Any:
        if x == 3:
            raise KeyError("three")
        return x

    before = threading.enumerate()  # threads of iterators that other tests have left
    data = Dataset.range(6).map(check, num_parallel_calls=3 if verb == "parallel" else None)
    iterator = iter(data.prefetch(2) if verb == "prefetch" else data)
    assert [int(next(iterator)) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="three"):
        next(iterator)
    with pytest.raises(StopIteration):
        next(iterator)
    until = time.monotonic() + 5
    while any(
        t.name.startswith("handmill-data") and t not in before for t in threading.enumerate()
    ):
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("verb", ("prefetch", "map"))
@pytest.mark.parametrize(("limit", "on_others"), ((3600.0, 0), (-1.0, 4)))
def test_threads_make_ahead_what_takes_longer_than_handing_it_over(
    monkeypatch: pytest.MonkeyPatch, verb: str, limit: float, on_others: int
) -> None:
    monkeypatch.setattr(prefetch, "HAND_OVER", limit)
    makers: list[threading.Thread] = []

    def noted(x: Any) -> Any:
        makers.append(threading.current_thread())
        return 10 * x

    whole = Dataset.range(6)
    data = whole.map(noted).prefetch(2) if verb == "prefetch" else whole.map(noted, AUTOTUNE)
    assert elements(data) == [0, 10, 20, 30, 40, 50]
    assert sum(maker is not threading.current_thread() for maker in makers) == on_others


# Training.


pytestmark = pytest.mark.filterwarnings("ignore::handmill.errors.TrainingWarning")


def model_of(seed: int = 3) -> Any:
    handmill.utils.set_random_seed(seed)
    model = handmill.Sequential([handmill.Input((2,)), handmill.layers.Dense(3, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def weights_after(fit: Callable[[Any], Any]) -> list[bytes]:
    model = model_of()
    fit(model)
    return [w.tobytes() for w in model.get_weights()]


@pytest.mark.parametrize("name", ("batch", "buffer", "batch then repeat", "take and skip", "cache"))
def test_fit_sees_the_batches_that_a_loop_sees(name: str) -> None:
    def by_hand(model: Any) -> None:
        data = CHAINS[name](by_slices())
        for _ in range(3):
            for x, y in data:
                model.train_on_batch(x, y)

    chain = CHAINS[name]
    expected = weights_after(by_hand)
    assert weights_after(lambda m: m.fit(chain(by_slices()), epochs=3, verbose=0)) == expected
    assert weights_after(lambda m: m.fit(chain(by_generator()), epochs=3, verbose=0)) == expected


@pytest.mark.parametrize("make", (by_slices, by_generator))
def test_the_executor_in_numpy_sees_the_same_batches(make: Callable[[], Dataset]) -> None:
    def numbers() -> Any:
        model = model_of()
        model.fit(make().shuffle(20, seed=2).batch(6), epochs=2, verbose=0)
        return np.concatenate([w.reshape(-1) for w in model.get_weights()])

    expected = numbers()
    with handmill.use_backend("numpy"):
        np.testing.assert_allclose(numbers(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("make", (by_slices, by_generator))
def test_steps_per_epoch_goes_on_in_the_pass(make: Callable[[], Dataset]) -> None:
    def by_hand(model: Any) -> None:
        iterator = iter(make().shuffle(5, seed=1).repeat().batch(6))
        for _ in range(6):
            model.train_on_batch(*next(iterator))

    def by_fit(model: Any) -> None:
        data = make().shuffle(5, seed=1).repeat().batch(6)
        model.fit(data, epochs=3, steps_per_epoch=2, verbose=0)
        assert data.get_state() == {"pass": 0, "element": 6}

    assert weights_after(by_fit) == weights_after(by_hand)


def test_training_goes_on_in_another_process_of_the_same_chain() -> None:
    def chain() -> Dataset:
        return by_slices().shuffle(20, seed=1).batch(6)

    def in_two(model: Any) -> None:
        data = chain()
        model.fit(data, epochs=2, verbose=0)
        later = chain()
        later.set_state(json.loads(json.dumps(data.get_state())) | {"pass": 2, "element": 0})
        model.fit(later, epochs=1, verbose=0)

    assert weights_after(in_two) == weights_after(lambda m: m.fit(chain(), epochs=3, verbose=0))


@pytest.mark.parametrize("make", (by_slices, by_generator))
def test_evaluate_and_predict(make: Callable[[], Dataset]) -> None:
    model = model_of()
    data = make().batch(6)
    expected = model.predict(X, batch_size=6, verbose=0)
    assert model.predict(data, verbose=0).tobytes() == expected.tobytes()
    assert np.concatenate(list(model.predict_iter(data))).tobytes() == expected.tobytes()
    assert model.evaluate(data, verbose=0) == model.evaluate(X, Y, batch_size=6, verbose=0)
    history = model.fit(data, validation_data=data, epochs=2, verbose=0).history
    assert len(history["val_loss"]) == 2


def test_weights_of_samples_and_classes() -> None:
    weight = np.linspace(0, 2, 20, dtype="float32")
    classes = {0: 1.0, 1: 5.0, 2: 0.5}
    data = Dataset.from_tensor_slices((X, Y, weight)).batch(6)
    by_data = weights_after(lambda m: m.fit(data, verbose=0, class_weight=classes))
    by_arrays = weights_after(
        lambda m: m.fit(
            X, Y, 6, shuffle=False, verbose=0, sample_weight=weight, class_weight=classes
        )
    )
    assert by_data == by_arrays


@pytest.mark.parametrize("make", (by_slices, by_generator))
def test_endless_data_sets_need_a_number_of_steps(make: Callable[[], Dataset]) -> None:
    model = model_of()
    with pytest.raises(ValueError, match="endless"):
        model.fit(make().repeat().batch(4), verbose=0)
    model.fit(make().batch(4).repeat(), steps_per_epoch=3, epochs=2, verbose=0)
    with pytest.raises(ValueError, match="no batch"):
        model.fit(by_slices().batch(4).take(0), verbose=0)
    with pytest.raises(ValueError, match="`y` should not be passed"):
        model.fit(make().batch(4), Y, verbose=0)


def test_data_sets_that_end_early_warn() -> None:
    model = model_of()
    with pytest.warns(UserWarning, match="ran out of data"):
        model.fit(by_slices().batch(6), steps_per_epoch=7, verbose=0)


# PyDataset by workers.


class Noted(PyDataset):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.makers: set[int] = set()

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Any:
        self.makers.add(threading.get_ident())
        time.sleep(0.002)
        rows = slice(4 * index, 4 * index + 4)
        return X[rows], Y[rows]


def test_workers_make_batches_ahead_and_in_order() -> None:
    plain_set, threaded = Noted(), Noted(workers=3, max_queue_size=4)
    expected = weights_after(lambda m: m.fit(plain_set, epochs=3, verbose=0))
    assert weights_after(lambda m: m.fit(threaded, epochs=3, verbose=0)) == expected
    assert plain_set.makers == {threading.get_ident()}
    assert threading.get_ident() not in threaded.makers


def test_processes_make_batches() -> None:
    """In a process of its own, because other libraries loaded here warn of forks."""
    code = """
import os
import numpy as np
import handmill
from handmill.data import PyDataset

class Numbers(PyDataset):
    def __len__(self):
        return 6
    def __getitem__(self, index):
        return np.full((2, 1), index, "float32"), np.full((2, 1), os.getpid(), "int64")

if __name__ == "__main__":
    model = handmill.Sequential([handmill.Input((1,)), handmill.layers.Activation("linear")])
    data = Numbers(workers=2, use_multiprocessing=True)
    for _ in range(2):
        print(model.predict(data, verbose=0)[::2, 0].tolist())
    from handmill.data.dataset import batches_of
    print(os.getpid() in {int(y[0, 0]) for _, y in batches_of(data, range(6))})
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    row = str([float(i) for i in range(6)])
    assert done.stdout.split("\n")[:3] == [row, row, "False"]
