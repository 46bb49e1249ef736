"""Layers that turn tables into numbers: Normalization, Discretization, lookups, hashing.

Numbers beside "Keras" come from Keras 3.15 with TensorFlow 2.21; the layers need neither.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers, models, saving

RNG = np.random.default_rng(0)
MODES = ("int", "one_hot", "multi_hot", "count")


def again(layer: Any) -> Any:
    """The layer as a file would bring it back: config, and what was learned."""
    data = saving.serialize_keras_object(layer)
    if (build := layer.get_build_config()) is not None:
        data["build_config"] = build
    return saving.deserialize_keras_object(data)


def in_a_model(layer: Any, x: np.ndarray, dtype: str, tmp_path: Any) -> np.ndarray:
    """What the layer gives in a model, by kernels and by NumPy, saved and loaded."""
    model = handmill.Sequential([handmill.Input(x.shape[1:], dtype=dtype), layer])
    found = model.predict(x, verbose=0)
    with handmill.use_backend("numpy"):
        np.testing.assert_array_equal(model.predict(x, verbose=0), found)
    model.save(tmp_path / "m.hmill")
    loaded = models.load_model(tmp_path / "m.hmill")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), found)
    return found


# Normalization.


def adapted(**given: Any) -> Any:
    layer = layers.Normalization(**given)
    layer.adapt(np.arange(12.0).reshape(4, 3))
    return layer


@pytest.mark.parametrize("axis", (-1, None, (1, 2), 2))
@pytest.mark.parametrize("invert", (False, True))
def test_normalization(axis: Any, invert: bool, tmp_path: Any) -> None:
    x = RNG.normal(3, 5, (40, 4, 3)).astype("float32")
    layer = layers.Normalization(axis=axis, invert=invert)
    layer.adapt(x)
    kept = {-1: (2,), None: (), (1, 2): (1, 2), 2: (2,)}[axis]
    over = tuple(a for a in range(3) if a not in kept)
    mean, std = x.mean(over, np.float64, keepdims=True), x.std(over, np.float64, keepdims=True)
    want = mean + x * std if invert else (x - mean) / std
    found = in_a_model(layer, x, "float32", tmp_path)
    np.testing.assert_allclose(found, want, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(layer.mean, mean.astype("float32"), rtol=1e-6)
    assert [w.name for w in layer.weights] == ["mean", "variance", "count"]
    assert layer.trainable_weights == []


def test_normalization_adapts_to_batches_as_to_the_whole() -> None:
    x = (RNG.normal(0, 1, (1000, 3)) + np.array([1e3, 0, -5])).astype("float32")
    sources = {
        "array": x,
        "batches": [x[:300], x[300:301], x[301:]],
        "pairs": iter([(x[:500], None), (x[500:], None)]),
    }
    for name, data in sources.items():
        layer = layers.Normalization()
        layer.adapt(data)
        assert np.abs(layer.mean - x.mean(0, np.float64)).max() < 1e-4, name
        np.testing.assert_allclose(layer.variance[0], x.var(0, np.float64), rtol=1e-5)


def test_normalization_of_given_statistics() -> None:
    x = np.array([[1.0], [2.0], [3.0]])
    found = layers.Normalization(mean=3.0, variance=2.0)(x)
    np.testing.assert_allclose(found, (x - 3) / np.sqrt(2), rtol=1e-6)
    layer = layers.Normalization(axis=(1, 2), mean=[1.0, 2.0], variance=[4.0, 9.0])
    found = layer(np.ones((2, 3, 2)))
    np.testing.assert_allclose(found[0], np.tile([0, -1 / 3], (3, 1)), rtol=1e-6)
    assert again(layer).get_config() == layer.get_config()
    with pytest.raises(ValueError, match="Leave them out"):
        layer.adapt(np.ones((2, 3, 2)))


@pytest.mark.parametrize(
    ("act", "match"),
    (
        (lambda: layers.Normalization(mean=1.0), "both `mean` and `variance`"),
        (lambda: layers.Normalization(mean=[1.0, 2.0], variance=1.0), "the same shape"),
        (lambda: layers.Normalization(mean=[[1.0]], variance=[[1.0]]), "rank of `mean`"),
        (lambda: layers.Normalization(axis=3).adapt(np.ones((2, 3))), r"range \[-ndim, ndim\)"),
        (lambda: layers.Normalization().adapt([]), "empty iterable"),
        (lambda: layers.Normalization().adapt(np.ones((0, 3))), "without rows"),
        (lambda: layers.Normalization().adapt([np.ones((2, 3)), np.ones((2, 4))]), "incompatible"),
        (lambda: layers.Normalization(axis=0)(np.ones(3)), "known shape"),
        (lambda: adapted(axis=0)(np.ones((4, 3))), "axis 0 is that of the samples"),
    ),
)
def test_normalization_refuses(act: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        act()


def test_normalization_that_does_not_fit_stays_as_it_was() -> None:
    layer = layers.Normalization()
    layer.adapt(RNG.normal(size=(20, 3)))
    before = layer.get_weights()
    with pytest.raises(ValueError, match="incompatible shape"):
        layer.adapt([np.ones((2, 3)), np.ones((2, 4))])
    for a, b in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# Discretization.


@pytest.mark.parametrize("bins", (1, 4, 65, 200))
def test_discretization_is_that_of_numpy(bins: int, tmp_path: Any) -> None:
    """Few boundaries are compared one by one, many are searched by halves."""
    edges = np.sort(RNG.normal(size=bins)).astype("float32")
    x = np.concatenate([RNG.normal(size=500), edges, [np.inf, -np.inf, np.nan]])
    x = x.astype("float32")[:, None]
    found = in_a_model(layers.Discretization(edges.tolist()), x, "float32", tmp_path)
    np.testing.assert_array_equal(found, np.digitize(x, edges))
    assert found.dtype == np.int32


def test_discretization_learns_the_boundaries_of_keras() -> None:
    x = np.random.default_rng(0).normal(size=(300, 2)).astype("float32")
    for given, want in (
        ({"num_bins": 4}, [-0.698981523513794, -0.03656863421201706, 0.6836861968040466]),
        (
            {"num_bins": 5, "epsilon": 0.1},
            [-0.754605770111084, -0.21879172325134277, 0.31941401958465576, 0.903469979763031],
        ),
    ):
        layer = layers.Discretization(**given)
        layer.adapt([x[:100], x[100:]])
        np.testing.assert_allclose(layer.bin_boundaries, want, rtol=1e-6)
        np.testing.assert_array_equal(again(layer)(x), layer(x))
    with pytest.raises(ValueError, match="use `num_bins`"):
        layers.Discretization([1.0]).adapt(x)
    with pytest.raises(ValueError, match="rising order"):
        layers.Discretization([1.0, 0.0])
    with pytest.raises(ValueError, match="adapt"):
        layers.Discretization(num_bins=3)(x)


# Rows of categories.

ENCODED = {
    "one_hot": [[[0, 1, 0, 0], [0, 1, 0, 0]], [[0, 0, 0, 1], [0, 0, 0, 0]]],
    "multi_hot": [[0, 1, 0, 0], [0, 0, 0, 1]],
    "count": [[0, 2, 0, 0], [0, 0, 0, 1]],
}


@pytest.mark.parametrize("mode", ENCODED)
def test_category_encoding(mode: str, tmp_path: Any) -> None:
    x = np.array([[1, 1], [3, 4]])
    layer = layers.CategoryEncoding(num_tokens=4, output_mode=mode)
    np.testing.assert_array_equal(in_a_model(layer, x, "int32", tmp_path), ENCODED[mode])
    np.testing.assert_array_equal(layer(x[0].tolist()), ENCODED[mode][0])
    outside = {  # left out, as Keras does
        "one_hot": [[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]],
        "multi_hot": [1, 0, 0, 0],
        "count": [1, 0, 0, 0],
    }
    np.testing.assert_array_equal(layer(np.array([4, 0, -1])), outside[mode])
    if mode == "count":
        found = layer(x, count_weights=np.array([[0.5, 2.0], [3.0, 1.0]]))
        np.testing.assert_array_equal(found, [[0, 2.5, 0, 0], [0, 0, 0, 3]])
    else:
        with pytest.raises(ValueError, match="count_weights"):
            layer(x, count_weights=x)


# Lookups.


@pytest.mark.parametrize("count", (5, 64, 65, 5000))
@pytest.mark.parametrize("oov", (1, 3))
def test_integer_lookup(count: int, oov: int, tmp_path: Any) -> None:
    keys = RNG.permutation(np.arange(-100, 100_000, 7))[:count] * (1 << 20)
    layer = layers.IntegerLookup(vocabulary=keys.tolist(), num_oov_indices=oov, mask_token=0)
    x = np.concatenate([keys[:50], keys[-3:] + 1, [0, -5, 1 << 60]])[:, None]
    places = {int(k): 1 + oov + i for i, k in enumerate(keys)}
    want = [0 if v == 0 else places.get(v, 1 + v % oov) for v in x[:, 0].tolist()]
    found = in_a_model(layer, x, "int64", tmp_path)
    assert found[:, 0].tolist() == want
    back = layers.IntegerLookup(
        vocabulary=keys.tolist(), num_oov_indices=oov, mask_token=0, invert=True
    )
    known = min(count, 40)
    assert back(found[:known])[:, 0].tolist() == x[:known, 0].tolist()
    assert back([[10_000], [-1]]).tolist() == [[-1], [-1]]


def test_integer_lookup_without_a_place_for_others() -> None:
    layer = layers.IntegerLookup(vocabulary=[7, 9], num_oov_indices=0)
    assert layer([9, 7]).tolist() == [1, 0]
    with pytest.raises(ValueError, match="place in the vocabulary"):
        layer([9, 8])


def test_integer_lookup_hashes_as_keras_does() -> None:
    x = [10, 1, 2, 3, 4, 20]
    layer = layers.IntegerLookup(vocabulary=[10, 20], num_oov_indices=3, oov_method="farmhash")
    assert layer(x).tolist() == [3, 0, 1, 0, 2, 4]


@pytest.mark.parametrize("mode", (*MODES, "tf_idf"))
def test_string_lookup_learns(mode: str) -> None:
    layer = layers.StringLookup(output_mode=mode)
    layer.adapt([["a", "b", "b"], ["c", "b", "a"]])
    assert layer.get_vocabulary() == ["[UNK]", "b", "a", "c"]
    assert layer.vocabulary_size() == 4
    x = [["b", "b"], ["z", "c"]]
    common, rare = np.log(1 + 2 / 3), np.log(1 + 2 / 2)
    want = {
        "int": [[1, 1], [0, 3]],
        "one_hot": [[[0, 1, 0, 0], [0, 1, 0, 0]], [[1, 0, 0, 0], [0, 0, 0, 1]]],
        "multi_hot": [[0, 1, 0, 0], [1, 0, 0, 1]],
        "count": [[0, 2, 0, 0], [1, 0, 0, 1]],
        "tf_idf": [[0, 2 * common, 0, 0], [(2 * common + rare) / 3, 0, 0, rare]],
    }[mode]
    np.testing.assert_allclose(layer(x), want, rtol=1e-6)
    np.testing.assert_array_equal(again(layer)(x), layer(x))
    np.testing.assert_array_equal(layer(np.array(x, "S")), layer(x))


def test_string_lookup_is_that_of_keras() -> None:
    x = ["a", "", "x", "y", "z", "b"]
    layer = layers.StringLookup(vocabulary=["a", "b"], num_oov_indices=3, mask_token="")
    assert layer(x).tolist() == [4, 0, 3, 3, 2, 5]
    layer = layers.StringLookup(vocabulary=["a", "b"], num_oov_indices=3, salt=5)
    assert layer(x).tolist() == [3, 2, 2, 2, 2, 4]
    back = layers.StringLookup(vocabulary=["a"], invert=True)
    for numbers in ([[1, 0], [5, 1]], np.array([[1, 0], [5, 1]])):
        assert back(numbers).tolist() == [["a", "[UNK]"], ["[UNK]", "a"]]


def test_vocabulary_from_a_file(tmp_path: Any) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(b"red\ngreen\r\nbl\xc3\xa4u\n")
    layer = layers.StringLookup(vocabulary=str(path))
    assert layer.get_vocabulary() == ["[UNK]", "red", "green", "bläu"]
    path.unlink()
    assert again(layer)(["bläu", "x"]).tolist() == [3, 0]
    with pytest.raises(ValueError, match="does not exist"):
        layers.StringLookup(vocabulary=str(path))
    with pytest.raises(ValueError, match="stored data never say"):
        layers.StringLookup.from_config({**layer.get_config(), "vocabulary": "/etc/hostname"})


@pytest.mark.parametrize(
    "damage",
    (
        {"vocabulary": ["b", "b"]},
        {"vocabulary": {"text": "x", "lengths": "y"}},
        {"vocabulary": 3},
        {"vocabulary": ["a"]},
        {"idf_weights": None},
    ),
)
def test_damaged_vocabularies_are_refused(damage: dict[str, Any]) -> None:
    layer = layers.StringLookup(output_mode="tf_idf")
    layer.adapt([["a", "b"], ["b", "c"]])
    data = saving.serialize_keras_object(layer)
    data["build_config"] = {**layer.get_build_config(), **damage}
    with pytest.raises((ValueError, TypeError)):
        saving.deserialize_keras_object(data)
    with pytest.raises(ValueError, match="more than a row"):
        layers.StringLookup(
            vocabulary=["a"],
            idf_weights=[1.0],
            output_mode="tf_idf",
            max_tokens=1 << 40,
            pad_to_max_tokens=True,
        )


def test_large_vocabularies_are_kept_in_files(tmp_path: Any) -> None:
    words = [f"word {i} \n é" for i in range(3000)]
    layer = layers.StringLookup()
    layer.adapt(words)
    model = handmill.Sequential([handmill.Input((1,), dtype="string"), layer])
    model.save(tmp_path / "m.hmill")
    loaded = models.load_model(tmp_path / "m.hmill")
    assert loaded.layers[0].get_vocabulary() == layer.get_vocabulary()
    assert len(layer.get_vocabulary()) == 3001


@pytest.mark.parametrize(
    ("act", "error", "match"),
    (
        (lambda: layers.StringLookup(vocabulary=["a", "a"]), ValueError, "repeated"),
        (lambda: layers.StringLookup(vocabulary=[]), ValueError, "empty vocabulary"),
        (lambda: layers.StringLookup(vocabulary=["a", "b"], max_tokens=2), ValueError, "larger"),
        (lambda: layers.StringLookup(max_tokens=1), ValueError, "greater than 1"),
        (lambda: layers.StringLookup(output_mode="rows"), ValueError, "output_mode"),
        (lambda: layers.StringLookup(output_mode="count", sparse=True), ValueError, "sparse"),
        (lambda: layers.StringLookup(output_mode="count")(["a"]), RuntimeError, "adapt"),
        (lambda: layers.StringLookup(vocabulary=["a"]).adapt(["b"]), ValueError, "static"),
        (lambda: layers.StringLookup(vocabulary=["a"])(["a", None]), ValueError, "missing value"),
        (lambda: layers.StringLookup(vocabulary=["a"])([["a"], ["b", "c"]]), ValueError, "pad its"),
        (lambda: layers.StringLookup(vocabulary=["a"])([5]), ValueError, "takes strings"),
        (lambda: layers.IntegerLookup(vocabulary=[1])(["a"]), ValueError, "use StringLookup"),
        (lambda: layers.IntegerLookup(salt=3), ValueError, "farmhash"),
        (lambda: layers.StringLookup(vocabulary=["a"])(["a"], 3), TypeError, "called with"),
        (lambda: layers.Hashing(3)(["a"], bins=3), TypeError, "called with"),
        (lambda: layers.HashedCrossing(3)((["a"], ["b"]), bins=3), TypeError, "called with"),
        (
            lambda: layers.StringLookup(vocabulary=["a"], num_oov_indices=0)(["z"]),
            ValueError,
            "found OOV values",
        ),
    ),
)
def test_lookups_refuse(act: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        act()


def test_columns_of_frames() -> None:
    pandas = pytest.importorskip("pandas", reason="no pandas")
    layer = layers.StringLookup(vocabulary=["a"])
    for dtype in ("object", "string", "category"):
        assert layer(pandas.Series(["a", "c"], dtype=dtype)).tolist() == [1, 0]
        with pytest.raises(ValueError, match="entry 1 is a missing value"):
            layer(pandas.Series(["a", None], dtype=dtype))


# Hashing.

WORDS = ["", "a", "abc", "abcd", "hello wörld", "x" * 17, "y" * 33, "z" * 64, "q" * 65, "r" * 200]
NUMBERS = np.array([0, 1, -1, 12345678901, -(2**62)])


def test_hashing_is_that_of_keras(tmp_path: Any) -> None:
    found = layers.Hashing(1000)(WORDS).tolist()
    assert found == [263, 939, 385, 985, 606, 581, 150, 872, 193, 913]
    found = layers.Hashing(1000, salt=[133, 137])(WORDS).tolist()
    assert found == [900, 354, 945, 879, 216, 26, 380, 383, 250, 623]
    found = layers.Hashing(10, mask_value="a")(WORDS).tolist()
    assert found == [6, 0, 9, 1, 3, 8, 1, 3, 2, 3]
    x = NUMBERS[:, None]
    found = in_a_model(layers.Hashing(1000), x, "int64", tmp_path)
    assert found[:, 0].tolist() == [735, 849, 430, 632, 492]
    fractions = np.array([1.7, 2.0, -1.2, 3.99], "float32")  # counted as whole numbers
    for dtype in ("float32", "float64"):
        found = layers.Hashing(1000)(fractions.astype(dtype))
        np.testing.assert_array_equal(found, layers.Hashing(1000)(np.array([1, 2, -1, 3])))
    assert layers.Hashing(1000, salt=7)(NUMBERS).tolist() == [136, 559, 457, 290, 843]
    assert layers.Hashing(9, mask_value=1)(NUMBERS).tolist() == [8, 0, 7, 1, 5]


@pytest.mark.parametrize("mode", MODES)
def test_hashing_of_strings_and_of_their_digits_is_the_same(mode: str) -> None:
    """On the host and in programs, in every output mode and rank."""
    layer = layers.Hashing(5, output_mode=mode)
    for shape in ((), (6,), (3, 2), (6, 1), (2, 3, 4)):
        x = RNG.integers(0, 100, shape)
        found, want = layer(x.astype(str)), layer(x)
        np.testing.assert_array_equal(found, want)
        assert found.dtype == want.dtype


def test_hashed_crossing_is_that_of_keras() -> None:
    layer = layers.HashedCrossing(1000)
    letters, numbers = np.array(["A", "B", "A"]), np.array([101, 101, 102])
    assert layer((letters, numbers)).tolist() == [891, 754, 523]
    assert layer((np.array([5, -6, 7]), numbers)).tolist() == [125, 377, 438]
    for wrong in (letters, [letters], [letters, numbers[:2]], [letters, numbers * 0.5]):
        with pytest.raises(ValueError, match="HashedCrossing"):
            layer(wrong)


def test_weights_of_counts_have_a_gradient() -> None:
    """Also beside numbers that are in no category, in rows of more axes."""
    ids = np.array([[[0, 1], [1, 5]], [[2, 2], [-1, 0]]])
    weights = handmill.Variable(np.arange(1.0, 9.0).reshape(2, 2, 2))
    layer = layers.CategoryEncoding(3, output_mode="count")
    factors = np.arange(12.0).reshape(2, 2, 3).astype("float32")
    with handmill.GradientTape() as tape:
        found = layer(ids, count_weights=weights)
        loss = handmill.ops.sum(found * factors)
    gradient = np.asarray(tape.gradient(loss, weights))
    want = np.zeros((2, 2, 2))
    for b, n, m in np.ndindex(2, 2, 2):  # samples lie along axis 1
        if 0 <= ids[b, n, m] < 3:
            want[b, n, m] = factors[b, m, ids[b, n, m]]
    np.testing.assert_array_equal(gradient, want)


@pytest.mark.parametrize("suffix", (".keras", ".hmill"))
def test_a_vocabulary_from_a_file_is_in_the_file_of_the_model(tmp_path: Any, suffix: str) -> None:
    if suffix == ".keras":
        pytest.importorskip("h5py")
    words = tmp_path / "words.txt"
    words.write_text("a\nb\nc\n")
    layer = layers.StringLookup(vocabulary=str(words), name="index")
    words.unlink()
    model = handmill.Sequential([layer] if suffix == ".keras" else [layer, layers.Rescaling(1)])
    if suffix == ".hmill":
        model(np.array([["a"]]))
        model.save(tmp_path / "m.hmill")
    else:
        with pytest.warns(UserWarning, match="not yet been built"):
            model.save(tmp_path / "m.keras")
    again = handmill.models.load_model(tmp_path / f"m{suffix}").get_layer("index")
    assert again.get_vocabulary() == ["[UNK]", "a", "b", "c"]
    assert again(["b", "z"]).tolist() == [2, 0]
