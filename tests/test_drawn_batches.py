"""Batches that users' code makes one by one: what it sees, and how many are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import handmill
from handmill.data import Dataset, PyDataset

pytestmark = pytest.mark.filterwarnings("ignore::handmill.errors.TrainingWarning")

ROWS = 12
X = np.random.default_rng(0).normal(size=(ROWS, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
W = np.linspace(0.5, 2, ROWS).astype("float32")


def model_of() -> Any:
    handmill.utils.set_random_seed(1)
    model = handmill.Sequential([handmill.Input((3,)), handmill.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def bits(model: Any) -> list[bytes]:
    return [v.numpy().tobytes() for v in model.weights]


def by_hand(batches: list[Any]) -> list[list[bytes]]:
    """The weights before the first step and after each."""
    model = model_of()
    found = [bits(model)]
    for batch in batches:
        model.train_on_batch(*batch)
        found.append(bits(model))
    return found


def test_who_makes_a_batch_sees_the_model_after_the_step_before_it() -> None:
    batches = [(X[i : i + 2], Y[i : i + 2]) for i in range(0, ROWS, 2)]
    model, seen = model_of(), []

    def made(i: int) -> Any:
        seen.append(bits(model))
        return batches[i]

    class Made(PyDataset):
        def __len__(self) -> int:
            return len(batches)

        def __getitem__(self, i: int) -> Any:
            return made(i)

    expected = by_hand(batches)
    generated = lambda: map(made, range(len(batches)))  # noqa: E731
    for source in (generated(), Made(), Dataset.range(len(batches)).map(lambda i: made(int(i)))):
        model = model_of()
        seen.clear()
        model.fit(source, shuffle=False, verbose=0)
        assert seen[-len(batches) :] == expected[:-1]  # a data set makes one to know its spec
        assert bits(model) == expected[-1]


def test_no_more_batches_are_drawn_than_steps_are_made() -> None:
    drawn = []

    def endless() -> Iterator[Any]:
        while True:
            drawn.append(len(drawn))
            yield X, Y

    model = model_of()
    model.fit(endless(), steps_per_epoch=3, epochs=2, verbose=0)
    assert drawn == list(range(6))
    assert int(model.optimizer.iterations) == 6


def test_a_source_that_stops_the_training_is_not_asked_again() -> None:
    model = model_of()

    def stopping() -> Iterator[Any]:
        for i in range(6):
            model.stop_training = i == 2
            yield X, Y
            assert i < 2, "asked for a batch after the training was stopped"

    model.fit(stopping(), epochs=4, verbose=0)
    assert int(model.optimizer.iterations) == 3


@pytest.mark.parametrize("stops", (False, True))
def test_batches_that_lie_in_another_way_are_trained_on_in_order(stops: bool) -> None:
    batches: list[Any] = [(X, Y), (X[:5], Y[:5]), (X, Y, W), (X, Y, W), (X, Y)]
    if stops:
        batches = batches[:3]
    model = model_of()

    def made() -> Iterator[Any]:
        for i, batch in enumerate(batches):
            model.stop_training = stops and i == 2
            yield batch

    model.fit(made(), verbose=0)
    assert bits(model) == by_hand(batches)[-1]


def test_dicts_of_arrays_are_drawn_without_a_new_portion_for_each() -> None:
    from handmill.models.data_adapters import BatchData

    made = iter([({"a": X}, Y)] * 3)
    data = BatchData(made, None, False, None)
    ran: list[tuple[Any, ...]] = []
    portion = data.next_portion(0)
    assert portion is not None
    assert portion.run(lambda *arrays: ran.append(arrays), 10, lambda: False) == 3
    assert [a is X for a, _ in ran] == [True] * 3
    assert data.next_portion(3) is None


def test_a_source_that_has_ended_is_not_asked_again() -> None:
    class Sulky:
        """Gives two batches, then ends once, then goes on."""

        asked = 0

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            self.asked += 1
            if self.asked == 3:
                raise StopIteration
            return X, Y

    source, model = Sulky(), model_of()
    model.fit(source, verbose=0)
    assert source.asked == 3
    assert int(model.optimizer.iterations) == 2


def test_the_batch_with_a_wrong_label_is_named_and_those_before_count() -> None:
    model = handmill.Sequential([handmill.Input((3,)), handmill.layers.Dense(2, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    good, bad = np.zeros(ROWS, "int32"), np.full(ROWS, 7, "int32")
    with pytest.raises(ValueError, match=r"in batch 2 \(from 0\): .*7"):
        model.fit(iter([(X, good), (X, good), (X, bad)]), verbose=0)
    assert int(model.optimizer.iterations) == 2


def test_an_error_of_the_source_stays_its_own() -> None:
    def failing() -> Iterator[Any]:
        yield X, Y
        yield X, Y
        raise ValueError("the file of batch 2 is gone")

    with pytest.raises(ValueError, match=r"^the file of batch 2 is gone$"):
        model_of().fit(failing(), verbose=0)


def test_slow_batches_let_the_bar_be_drawn_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handmill.models.portions.DEADLINE", 0.0)
    told = []

    class Bar(handmill.callbacks.Callback):
        def on_progress(self, phase: str, steps: int, logs: Any) -> None:
            told.append(steps)

    model_of().fit(iter([(X, Y)] * 4), verbose=0, callbacks=[Bar()])
    assert told == [1, 2, 3, 4]
