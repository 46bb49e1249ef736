"""Dataset: data sets of data sets, mixtures, padding. The values are those of tf.data (2.21)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import handmill
from handmill.data import Dataset, ElementSpec


def plain(value: Any) -> Any:
    """An element as nested lists; data sets as the lists of their elements."""
    if isinstance(value, Dataset):
        return [plain(element) for element in value]
    if isinstance(value, tuple):
        return tuple(plain(v) for v in value)
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return np.asarray(value).tolist()


PAIRS = Dataset.from_tensor_slices((np.arange(4), np.arange(4) * 2))
RAGGED = Dataset.from_generator(lambda: [[1], [2, 3], [4, 5, 6]])


def tens(i: Any) -> Dataset:
    """As many elements as the list says for ``i``."""
    return Dataset.range((3, 0, 2, 1)[int(i)]).map(lambda j: i * 10 + j)


CASES: dict[str, tuple[Callable[[], Any], Any]] = {
    "windows": (
        lambda: plain(Dataset.range(7).window(3, shift=2)),
        [[0, 1, 2], [2, 3, 4], [4, 5, 6], [6]],
    ),
    "whole windows with a stride": (
        lambda: plain(Dataset.range(7).window(3, shift=1, stride=2, drop_remainder=True)),
        [[0, 2, 4], [1, 3, 5], [2, 4, 6]],
    ),
    "windows with gaps": (
        lambda: plain(Dataset.range(9).window(2, shift=4)),
        [[0, 1], [4, 5], [8]],
    ),
    "windows of pairs": (lambda: plain(PAIRS.window(3)), [([0, 1, 2], [0, 2, 4]), ([3], [6])]),
    "arrays of windows": (
        lambda: plain(
            PAIRS.window(3, 1, drop_remainder=True).flat_map(
                lambda a, b: Dataset.zip(a.batch(3), b.batch(3))
            )
        ),
        [([0, 1, 2], [0, 2, 4]), ([1, 2, 3], [2, 4, 6])],
    ),
    "flat_map": (lambda: plain(Dataset.range(4).flat_map(tens)), [0, 1, 2, 20, 21, 30]),
    "interleave": (
        lambda: plain(Dataset.range(4).interleave(tens, cycle_length=2)),
        [0, 1, 20, 2, 21, 30],
    ),
    "interleave by blocks": (
        lambda: plain(Dataset.range(4).interleave(tens, cycle_length=3, block_length=2)),
        [0, 1, 20, 21, 2, 30],
    ),
    "shard": (lambda: plain(Dataset.range(10).shard(3, 1)), [1, 4, 7]),
    "take_while": (lambda: plain(Dataset.range(10).take_while(lambda x: x < 4)), [0, 1, 2, 3]),
    "scan": (
        lambda: plain(PAIRS.scan(np.int64(0), lambda s, e: (s + e[0], e[1] + s))),
        [0, 2, 5, 9],
    ),
    "reduce": (lambda: PAIRS.reduce(0, lambda s, e: s + e[0] * e[1]), 28),
    "rebatch": (
        lambda: plain(Dataset.range(7).batch(3).rebatch(2)),
        [[0, 1], [2, 3], [4, 5], [6]],
    ),
    "get_single_element": (
        lambda: plain(Dataset.range(3).batch(3).get_single_element()),
        [0, 1, 2],
    ),
    "apply": (lambda: plain(Dataset.range(3).apply(lambda d: d.batch(2))), [[0, 1], [2]]),
    "padded to a shape": (
        lambda: plain(RAGGED.padded_batch(2, padded_shapes=(4,), padding_values=-1)),
        [[[1, -1, -1, -1], [2, 3, -1, -1]], [[4, 5, 6, -1]]],
    ),
    "padded by parts": (
        lambda: plain(
            Dataset.from_tensor_slices({"b": [1, 2], "a": [[3], [4]]}).padded_batch(
                2, padded_shapes={"a": [2], "b": []}, padding_values={"a": 9, "b": None}
            )
        ),
        [{"b": [1, 2], "a": [[3, 9], [4, 9]]}],
    ),
    "padded texts": (
        lambda: plain(Dataset.from_tensor_slices([["a"], ["b"]]).padded_batch(2, [2])),
        [[["a", ""], ["b", ""]]],
    ),
    "a list that a function returns": (
        lambda: plain(Dataset.range(2).map(lambda x: [x, x + 5])),
        [(0, 5), (1, 6)],
    ),
    "range of a dtype": (
        lambda: [str(x) for x in Dataset.range(2, output_type="float32")],
        ["0.0", "1.0"],
    ),
    "chosen": (
        lambda: plain(
            Dataset.choose_from_datasets(
                [Dataset.range(2), Dataset.range(10, 13)],
                Dataset.from_tensor_slices([0, 0, 0, 1]),
                stop_on_empty_dataset=False,
            )
        ),
        [0, 1, 10],
    ),
    "chosen until one ends": (
        lambda: plain(
            Dataset.choose_from_datasets(
                [Dataset.range(2), Dataset.range(10, 13)],
                Dataset.from_tensor_slices([1, 0, 0, 0, 1]),
            )
        ),
        [10, 0, 1],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_verbs_give_what_those_of_tf_data_give(name: str) -> None:
    made, expected = CASES[name]
    assert made() == expected


CHAINS: dict[str, Callable[[], Dataset]] = {
    "window": lambda: Dataset.range(9).window(3, 2).flat_map(lambda w: w.batch(3)),
    "interleave": lambda: (
        Dataset.range(5)
        .shuffle(5, seed=1)
        .interleave(lambda i: Dataset.range(int(i) + 3).shuffle(9, seed=4), 2)
    ),
    "shard": lambda: Dataset.range(20).shuffle(20, seed=1).shard(3, 2),
    "scan": lambda: Dataset.range(6).scan(0, lambda s, x: (s + x, s)),
    "sample": lambda: Dataset.sample_from_datasets(
        [Dataset.range(5).shuffle(5, seed=1), Dataset.range(9, 19)], [1, 2], seed=3
    ),
    "padded": lambda: RAGGED.padded_batch(1),
}


@pytest.mark.parametrize("name", CHAINS)
def test_the_rest_of_a_pass_follows_from_its_state(name: str) -> None:
    data, again = CHAINS[name](), CHAINS[name]()
    list(data)  # the second pass is resumed
    whole = plain(data)
    again.set_state({"pass": 1, "element": 2})
    assert plain(again) == whole[2:]
    assert len(whole) > 2


def test_a_data_set_knows_the_number_of_its_windows() -> None:
    for count in range(9):
        for size, shift, stride, drop in ((3, 2, 1, True), (2, 3, 2, False), (3, 1, 2, True)):
            data = Dataset.range(count).window(size, shift, stride, drop)
            assert len(data) == len(list(data))


def test_the_interleaved_data_sets_shuffle_each_in_its_own_order() -> None:
    inner = Dataset.range(20).shuffle(20, seed=1)
    first, second = np.split(np.array(plain(Dataset.range(2).flat_map(lambda _: inner))), 2)
    assert sorted(first) == sorted(second) == list(range(20))
    assert first.tolist() != second.tolist()


def test_samples_come_as_their_weights_say() -> None:
    sets = [Dataset.from_tensors(i).repeat() for i in range(3)]
    data = Dataset.sample_from_datasets(sets, [1, 0, 3], seed=5)
    drawn = np.bincount(plain(data.take(4000)), minlength=3)
    assert drawn[1] == 0
    assert abs(drawn[0] - 1000) < 5 * np.sqrt(4000 * 0.25 * 0.75)
    assert plain(data.take(50)) != plain(data.take(50))
    kept = Dataset.sample_from_datasets(sets, seed=5, rerandomize_each_iteration=False)
    assert plain(kept.take(50)) == plain(kept.take(50))


def test_samples_go_on_when_one_data_set_ends_unless_told_otherwise() -> None:
    sets = [Dataset.range(3), Dataset.range(10, 90)]
    assert sorted(plain(Dataset.sample_from_datasets(sets, seed=1))) == [0, 1, 2, *range(10, 90)]
    short = plain(Dataset.sample_from_datasets(sets, seed=1, stop_on_empty_dataset=True))
    assert [x for x in short if x < 3] == [0, 1, 2]
    assert len(short) < 30


def test_no_order_of_its_own_is_asked_for_by_none() -> None:
    for data in (Dataset.range(50), Dataset.range(50).filter(lambda x: True)):
        mixed = data.shuffle(50, seed=3, reshuffle_each_iteration=None)
        assert plain(mixed) != plain(mixed)


def test_padded_shapes_are_part_of_the_spec() -> None:
    data = Dataset.from_tensor_slices((np.ones((4, 2), "f4"), np.ones(4, "f4")))
    data = data.padded_batch(2, ([3], []), drop_remainder=True)
    assert data.element_spec == (ElementSpec((2, 3), "float32"), ElementSpec((2,), "float32"))


def test_a_model_learns_from_windows() -> None:
    series = np.sin(np.arange(40) / 5).astype("float32")
    windows = Dataset.from_tensor_slices(series).window(5, 1, drop_remainder=True)
    rows = windows.flat_map(lambda w: w.batch(5)).map(lambda w: (w[:4], w[4:])).batch(12)
    model = handmill.Sequential([handmill.Input((4,)), handmill.layers.Dense(1)])
    model.compile("sgd", "mse")
    found = model.evaluate(rows, verbose=0)
    table = np.lib.stride_tricks.sliding_window_view(series, 5)
    assert found == pytest.approx(model.evaluate(table[:, :4], table[:, 4:], verbose=0), rel=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    (
        (lambda d: d.shard(3, 3), ValueError, "index from 0 to 2"),
        (lambda d: d.window(0), ValueError, "`size` must be a positive integer"),
        (lambda d: next(iter(d.flat_map(lambda x: x))), TypeError, "must return a Dataset"),
        (lambda d: next(iter(d.window(2).batch(2))), TypeError, "flat_map"),
        (lambda d: d.get_single_element(), ValueError, "there is more than one"),
        (lambda d: d.take(0).get_single_element(), ValueError, "there is none"),
        (lambda d: d.apply(lambda _: 3), TypeError, "must return a Dataset"),
        (lambda d: next(iter(d.scan(0, lambda s, x: s))), ValueError, "a pair"),
        (lambda d: Dataset.sample_from_datasets([d], [0.0]), ValueError, "1 weights"),
        (Dataset.sample_from_datasets, TypeError, "a list of Datasets"),
        (lambda d: list(Dataset.choose_from_datasets([d], d)), ValueError, "choice 1 must be"),
        (lambda d: list(d.batch(2).padded_batch(2, [1])), ValueError, "does not fit"),
        (lambda d: list(d.padded_batch(2, [3])), ValueError, "has 1 axes"),
        (lambda d: list(PAIRS.padded_batch(2, [3])), ValueError, "must be nested as"),
    ),
)
def test_verbs_say_what_was_expected(
    call: Callable[[Dataset], Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        call(Dataset.range(4))
