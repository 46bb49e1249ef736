"""TextVectorization: cutting, counting and numbering words.

The expected numbers are those of Keras 3.15 with TensorFlow 2.21; the layer needs neither.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from handmill import layers, saving

TEXTS = ["The cat sat. The END!", "a cat, a cafÉ", "Ärger  don't", "", "one two three four"]
LOW = ["the", "cat", "a", "Ärger", "two", "three", "sat", "one", "four", "end", "dont", "cafÉ"]

KERAS: dict[str, tuple[dict[str, Any], list[str], Any]] = {
    "plain": (
        {},
        ["", "[UNK]", *LOW],
        [
            [2, 3, 8, 2, 11],
            [4, 3, 4, 13, 0],
            [5, 12, 0, 0, 0],
            [0, 0, 0, 0, 0],
            [9, 6, 7, 10, 0],
        ],
    ),
    "pairs": (
        {"ngrams": (2,), "output_sequence_length": 3},
        [
            *("", "[UNK]", "Ärger dont", "two three", "three four", "the end", "the cat"),
            *("sat the", "one two", "cat sat", "cat a", "a cat", "a cafÉ"),
        ],
        [[6, 9, 7], [11, 10, 12], [2, 0, 0], [0, 0, 0], [8, 3, 4]],
    ),
    "lower": (
        {"standardize": "lower"},
        [
            *("", "[UNK]", "the", "a", "Ärger", "two", "three", "sat.", "one", "four", "end!"),
            *("don't", "cat,", "cat", "cafÉ"),
        ],
        [
            [2, 13, 7, 2, 10],
            [3, 12, 3, 14, 0],
            [4, 11, 0, 0, 0],
            [0, 0, 0, 0, 0],
            [8, 5, 6, 9, 0],
        ],
    ),
    "characters": (
        {"split": "character", "output_sequence_length": 4},
        ["", "[UNK]", *" tearonhcfdÉÄwusg"],
        [[3, 9, 4, 2], [5, 2, 10, 5], [14, 6, 18, 4], [0, 0, 0, 0], [7, 8, 4, 2]],
    ),
    "counts": (
        {"output_mode": "count", "max_tokens": 6},
        ["[UNK]", "the", "cat", "a", "Ärger", "two"],
        [
            [2, 2, 1, 0, 0, 0],
            [1, 0, 1, 2, 0, 0],
            [1, 0, 0, 0, 1, 0],
            [0, 0, 0, 0, 0, 0],
            [3, 0, 0, 0, 0, 1],
        ],
    ),
}


@pytest.mark.parametrize("name", KERAS)
def test_numbers_of_keras(name: str) -> None:
    arguments, vocabulary, want = KERAS[name]
    layer = layers.TextVectorization(**arguments)
    layer.adapt(TEXTS)
    assert layer.get_vocabulary() == vocabulary
    assert layer.vocabulary_size() == len(vocabulary)
    given = np.array(TEXTS)
    columns = np.array(TEXTS, object)[:, None]
    for x in (TEXTS, given, columns, np.char.encode(given, "utf-8")):
        np.testing.assert_array_equal(layer(x), want)
    data = saving.serialize_keras_object(layer)
    data["build_config"] = layer.get_build_config()
    np.testing.assert_array_equal(saving.deserialize_keras_object(data)(TEXTS), want)


def test_tf_idf_of_keras() -> None:
    layer = layers.TextVectorization(output_mode="tf_idf")
    layer.adapt(TEXTS)
    found = layer(TEXTS)
    assert found.dtype == np.float32
    rare, common = 1.252763032913208, 0.9808290004730225
    np.testing.assert_allclose(found[0, [1, 2, 7, 10]], [2 * rare, common, rare, rare], rtol=1e-6)
    assert np.count_nonzero(found[0]) == 4
    assert not found[3].any()


def test_adapts_to_batches_as_to_the_whole() -> None:
    whole, parts = layers.TextVectorization(), layers.TextVectorization()
    whole.adapt(TEXTS)
    parts.adapt(np.array(TEXTS[i : i + 2]) for i in (0, 2, 4))
    assert parts.get_vocabulary() == whole.get_vocabulary()
    parts.adapt((np.array(TEXTS[i : i + 2]) for i in (0, 2, 4)), steps=1)
    assert "one" not in parts.get_vocabulary()


def test_one_text_is_no_batch() -> None:
    layer = layers.TextVectorization(vocabulary=["a", "b"])
    assert layer("b a z").tolist() == [3, 2, 1]
    assert layer([]).shape == (0, 0)
    rows = layers.TextVectorization(vocabulary=["a", "b"], output_mode="count")
    assert rows("b a b").tolist() == [0, 1, 2]


def test_functions_of_the_user() -> None:
    layer = layers.TextVectorization(
        standardize=np.char.upper, split=lambda x: np.char.split(x, "-"), vocabulary=["A", "ÄB"]
    )
    assert layer(["a-äb", "c"]).tolist() == [[2, 3], [1, 0]]
    with pytest.raises(TypeError, match="lambda"):
        layer.get_config()
    for wrong, match in (
        ({"standardize": lambda x: x[:1]}, "keep the shape"),
        ({"split": lambda x: x}, "list of tokens for each"),
    ):
        with pytest.raises(ValueError, match=match):
            layers.TextVectorization(vocabulary=["a"], **wrong)(["a", "b"])


def test_words_that_are_split_already() -> None:
    layer = layers.TextVectorization(split=None, vocabulary=["a b", "c"])
    assert layer([["A b!", "x"], ["c", ""]]).tolist() == [[2, 1], [3, 0]]


@pytest.mark.parametrize(
    ("arguments", "match"),
    (
        ({"ragged": True}, "padded with 0"),
        ({"output_mode": "count", "sparse": True}, "sparse"),
        ({"standardize": "upper"}, "standardize"),
        ({"split": "commas"}, "split"),
        ({"ngrams": "2"}, "ngrams"),
        ({"output_mode": "count", "output_sequence_length": 3}, "must not be set"),
        ({"output_sequence_length": 2.5}, "integer"),
        ({"max_tokens": 1}, "greater than 1"),
    ),
)
def test_refuses(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        layers.TextVectorization(**arguments)


def test_refuses_what_is_no_text() -> None:
    layer = layers.TextVectorization(vocabulary=["a"])
    for wrong, match in (
        (["a", None], "missing value"),
        (["a", float("nan")], "missing value"),
        (np.ones((2, 2)), "takes strings"),
        ([["a", "b"]], "last shape dimension must be 1"),
    ):
        with pytest.raises(ValueError, match=match):
            layer(wrong)
