"""What fit, evaluate and predict take beside arrays: tables, sparse matrices, tensors of others."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import handmill
from handmill.data import Dataset
from handmill.models.layout import split
from handmill.runtime.feed import packed

pytestmark = pytest.mark.filterwarnings("ignore::handmill.errors.TrainingWarning")

X = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
Y = (np.arange(24) % 2).astype("int32")
W = np.linspace(0.5, 2, 24).astype("float32")


def model_of() -> Any:
    handmill.utils.set_random_seed(1)
    model = handmill.Sequential([handmill.Input((3,)), handmill.layers.Dense(2, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def trained(x: Any, y: Any = None, w: Any = None, **options: Any) -> tuple[Any, ...]:
    """The numbers of everything that takes data."""
    model = model_of()
    history = model.fit(x, y, batch_size=5, epochs=2, verbose=0, sample_weight=w, **options).history
    loss = model.evaluate(x, y, batch_size=5, verbose=0, sample_weight=w)
    outputs = model.predict(x, batch_size=5, verbose=0)
    streamed = np.concatenate(list(model.predict_iter(x, batch_size=5)))
    assert outputs.tobytes() == streamed.tobytes()
    return history, loss, outputs.tobytes()


def the_array(x: Any) -> Any:
    (array,) = split(x, None, None)[1]
    return array


# Tables.


@pytest.fixture(scope="module")
def pandas() -> ModuleType:
    found: ModuleType = pytest.importorskip("pandas")
    return found


@pytest.fixture(scope="module")
def polars() -> ModuleType:
    found: ModuleType = pytest.importorskip("polars")
    return found


@pytest.mark.parametrize("library", ("pandas", "polars"))
def test_frames_train_as_their_arrays(library: str) -> None:
    lib = pytest.importorskip(library)
    frame = lib.DataFrame({name: X[:, i] for i, name in enumerate("abc")})
    y, w = lib.Series(Y), lib.Series(W)
    expected = trained(X, Y, W, validation_split=0.25)
    assert trained(frame, y, w, validation_split=0.25) == expected
    with_64_bits = lib.DataFrame({name: X[:, i].astype("float64") for i, name in enumerate("abc")})
    assert trained(with_64_bits, y, w, validation_split=0.25) == expected
    slices = Dataset.from_tensor_slices((frame, y, w)).batch(5)
    arrays = Dataset.from_tensor_slices((X, Y, W)).batch(5)
    assert model_of().evaluate(slices, verbose=0) == model_of().evaluate(arrays, verbose=0)


@pytest.mark.parametrize("library", ("pandas", "polars"))
def test_dicts_of_columns_are_inputs_by_name(library: str) -> None:
    lib = pytest.importorskip(library)
    frame = lib.DataFrame({"a": X[:, 0], "b": X[:, 1]})
    inputs = {name: handmill.Input((1,), name=name) for name in "ab"}
    model = handmill.Model(inputs, handmill.layers.add([inputs["a"], inputs["b"]]))
    columns = {name: frame[name] for name in "ab"}
    found = model.predict(columns, verbose=0)
    np.testing.assert_allclose(found[:, 0], X[:, 0] + X[:, 1], rtol=1e-6)


def test_dtypes_of_pandas(pandas: ModuleType) -> None:
    def frame(**columns: Any) -> Any:
        return the_array(pandas.DataFrame(columns))

    whole = [1, 2, 3]
    assert frame(a=whole, b=whole).dtype == "int64"
    assert frame(a=np.array(whole, "int8"), b=np.array(whole, "int32")).dtype == "int64"
    assert frame(a=whole, b=[0.5, 1.5, 2.5]).dtype == "float32"
    assert frame(a=whole, b=[True, False, True]).dtype == "int64"
    assert frame(a=[True, False, True], b=[False, True, True]).dtype == "bool"
    gaps = frame(a=pandas.array([1, None, 3], "Int64"), b=whole)
    assert gaps.dtype == "float32"
    np.testing.assert_array_equal(gaps, [[1, 1], [np.nan, 2], [3, 3]])
    assert frame(a=pandas.array(whole, "Int64"), b=pandas.array(whole, "Int64")).dtype == "int64"
    assert frame(a=pandas.array([0.5, None], "Float64")).tolist()[0] == [0.5]
    assert frame(a=pandas.array([True, False], "boolean")).dtype == "bool"
    sparse = pandas.Series(pandas.arrays.SparseArray([0.0, 1.0]))
    assert the_array(sparse).tolist() == [[0.0], [1.0]]
    assert the_array(pandas.DataFrame(index=range(3))).shape == (3, 0)
    assert the_array(pandas.DataFrame({"a": whole, "b": whole})).flags.c_contiguous


def test_a_column_is_one_feature_of_each_row(pandas: ModuleType) -> None:
    """And a target that a function of one's own may subtract from predictions."""
    column = pandas.Series(np.arange(6.0))
    model = handmill.Sequential([handmill.layers.Dense(1, kernel_initializer="ones")])
    model.compile("sgd", lambda y, p: handmill.ops.mean(handmill.ops.square(y - p), axis=-1))
    weight = pandas.Series(np.ones(6))
    assert model.evaluate(column, column, sample_weight=weight, verbose=0) == 0.0
    assert model.predict(column, verbose=0).shape == (6, 1)
    assert split(column, column, weight)[1][2].shape == (6,)


def test_strings_are_no_data_sets() -> None:
    model = model_of()
    for call in (model.fit, model.evaluate, model.predict):
        with pytest.raises(ValueError, match=r"Unrecognized data type: x='rows\.csv'"):
            call("rows.csv", verbose=0)


def test_batches_of_a_py_dataset_in_order() -> None:
    class Squares(handmill.utils.PyDataset):
        def __init__(self, known: int | None) -> None:
            super().__init__()
            self.known = known

        @property
        def num_batches(self) -> int | None:
            return self.known

        def __getitem__(self, index: int) -> Any:
            return np.full((2, 3), float(index)), np.full((2, 2), float(index))

    assert [int(x[0, 0]) for x, _ in Squares(3)] == [0, 1, 2]
    endless = iter(Squares(None))
    assert [int(next(endless)[0][0, 0]) for _ in range(5)] == [0, 1, 2, 3, 4]


def test_dtypes_of_polars(polars: ModuleType) -> None:
    frame = polars.DataFrame({"a": [1, 2], "b": [0.5, 1.5], "c": [True, None]})
    np.testing.assert_array_equal(the_array(frame), [[1, 0.5, 1], [2, 1.5, np.nan]])
    assert the_array(frame).dtype == "float32"
    assert the_array(frame[["a"]]).dtype == "int64"
    assert the_array(frame["a"].cast(polars.UInt8)).dtype == "uint8"
    with pytest.raises(ValueError, match=r"`x` is a query \(LazyFrame\): pass x.collect"):
        model_of().fit(frame.lazy(), verbose=0)


@pytest.mark.parametrize(
    ("make", "text"),
    (
        (lambda p: p.Series(["u", "v"], name="city"), r"column 'city'.*StringLookup"),
        (lambda p: p.Series([1, "v"], name="city"), r"column 'city' of it has dtype object"),
        (lambda p: p.Series(["u", "v"], dtype="category"), r"it has dtype category.*cat\.codes"),
        (lambda p: p.to_datetime(p.Series(["2020-01-01"] * 2)), r"datetime64.*column\.dt\.hour"),
    ),
)
def test_columns_without_numbers_are_named_in_pandas(
    pandas: ModuleType, make: Callable[[Any], Any], text: str
) -> None:
    column = make(pandas)
    model = model_of()
    before = model.get_weights()
    with pytest.raises(ValueError, match=text):
        model.fit(column, Y[:2], verbose=0)
    frame = pandas.DataFrame({"a": [1.0, 2.0], "when": column})
    with pytest.raises(ValueError, match=r"`x` must hold numbers, but column 'when' of it"):
        model.predict(frame, verbose=0)
    with pytest.raises(ValueError, match="`y` must hold numbers"):
        model.fit(X[:2], column, verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_columns_without_numbers_are_named_in_polars(polars: ModuleType) -> None:
    frame = polars.DataFrame({"a": [1.0], "city": ["u"]})
    for wrong, text in (
        (frame, r"column 'city' of it has dtype String.*StringLookup"),
        (frame["city"].cast(polars.Categorical), r"to_dummies"),
        (frame.select(polars.lit([1, 2]).alias("l")), r"column 'l'.*numpy\.stack"),
    ):
        with pytest.raises(ValueError, match=text):
            model_of().predict(wrong, verbose=0)


@pytest.mark.parametrize("library", ("pandas", "polars"))
def test_data_sets_hold_columns_of_texts(library: str) -> None:
    lib = pytest.importorskip(library)
    frame = lib.DataFrame({"a": [1, 2], "city": ["u", "v"]})
    data = Dataset.from_tensor_slices({name: frame[name] for name in ("a", "city")})
    assert [(int(e["a"]), str(e["city"])) for e in data] == [(1, "u"), (2, "v")]
    with pytest.raises(ValueError, match="column 'city'"):
        Dataset.from_tensor_slices(frame)


@pytest.mark.parametrize("rows", (1, 1023, 1025, 5000))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_columns_become_rows(rows: int, dtype: str) -> None:
    columns = np.random.default_rng(0).normal(size=(7, rows)).astype(dtype)
    found = packed(columns.T, "float32")
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, columns.T.astype("float32"))
    row_major = np.ascontiguousarray(columns)
    assert packed(row_major) is row_major


@pytest.mark.parametrize("library", ("pandas", "polars"))
def test_large_frames_are_their_columns(library: str) -> None:
    lib = pytest.importorskip(library)
    rng = np.random.default_rng(0)
    rows = 1 << 15
    columns = {
        "a": rng.normal(size=rows).astype("float32"),
        "b": rng.normal(size=rows),
        "c": rng.integers(-(1 << 40), 1 << 40, rows),
        "d": rng.integers(0, 2, rows).astype(bool),
        "e": rng.integers(0, 256, rows).astype("uint8"),
    }
    columns["b"][5] = np.nan
    for names, dtype in (
        ("abcde", "float32"),
        ("bb", "float32"),
        ("cde", "int64"),
        ("ee", "uint8"),
    ):
        found = the_array(lib.DataFrame({f"{i}": columns[n] for i, n in enumerate(names)}))
        assert found.dtype == dtype
        assert found.flags.c_contiguous
        expected = np.stack([columns[n].astype(dtype) for n in names], axis=1)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ("bool", "int8", "int64", "float32", "float64"))
@pytest.mark.parametrize("shape", ((1, 1), (70, 3), (5000, 33), (40, 700), (3, 0), (0, 3)))
def test_columns_of_every_dtype_become_rows(dtype: str, shape: tuple[int, int]) -> None:
    _core = pytest.importorskip("handmill._core")
    rng = np.random.default_rng(0)
    kinds = ("float32", "int32", "uint8", "bool", "float64")
    columns = [rng.integers(0, 2, shape[0]).astype(kinds[i % 5]) for i in range(shape[1])]
    found = np.full(shape, 9, dtype) if dtype != "bool" else np.zeros(shape, bool)
    _core.interleave(columns, found)
    for i, column in enumerate(columns):
        np.testing.assert_array_equal(found[:, i], column.astype(dtype))


def test_columns_that_do_not_fit_are_refused() -> None:
    _core = pytest.importorskip("handmill._core")
    rows = np.zeros((4, 2), np.float32)
    column = np.zeros(4, np.float32)
    locked = rows.copy()
    locked.flags.writeable = False
    for columns, y, text in (
        ([column], rows, "expected 2 columns, got 1"),
        ([column, column[:3]], rows, r"must have shape \(4,\)"),
        ([column, column], locked, "can be written"),
        ([column, column], column, "a table"),
    ):
        with pytest.raises(ValueError, match=text):
            _core.interleave(columns, y)
    with pytest.raises(TypeError, match="C-contiguous"):
        _core.interleave([column, np.zeros(8, np.float32)[::2]], rows)


# Sparse matrices.


@pytest.mark.parametrize(
    "kind", ("csr_matrix", "csc_matrix", "coo_array", "lil_matrix", "dok_matrix")
)
def test_sparse_matrices_train_as_their_arrays(kind: str) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    dense = np.where(X > 0, X, 0)
    matrix = getattr(sparse, kind)(dense)
    options = {"validation_split": 0.25, "class_weight": {0: 1.0, 1: 3.0}}
    assert trained(matrix, Y, W, **options) == trained(dense, Y, W, **options)
    model = model_of()
    assert model.train_on_batch(matrix, Y) == model_of().train_on_batch(dense, Y)
    np.testing.assert_array_equal(model.predict_on_batch(matrix), model(dense))
    with pytest.raises(ValueError, match="cardinality is ambiguous"):
        model.fit(matrix, Y[:3], verbose=0)


def test_sparse_matrices_beside_arrays_and_as_targets() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    inputs = {name: handmill.Input((3,), name=name) for name in "ab"}

    def run(make: Callable[[Any], Any]) -> list[Any]:
        handmill.utils.set_random_seed(1)
        added = handmill.layers.add([inputs["a"], inputs["b"]])
        model = handmill.Model(inputs, handmill.layers.Dense(3)(added))
        model.compile("sgd", "mse")
        return model.fit({"a": make(X), "b": X}, make(X), verbose=0, epochs=2).history["loss"]  # type: ignore[no-any-return]

    assert run(sparse.csr_matrix) == run(np.asarray)


# Tensors of other libraries, and what makes batches.


class Exported:
    """Gives its numbers through DLPack alone."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


def test_dlpack() -> None:
    expected = trained(X, Y, W)
    assert trained(Exported(X), Exported(Y), Exported(W)) == expected
    data = Dataset.from_tensor_slices((Exported(X), Exported(Y)))
    assert [int(y) for _, y in data] == Y.tolist()


def test_tensors_of_torch() -> None:
    torch = pytest.importorskip("torch")
    expected = trained(X, Y, W)
    assert trained(torch.from_numpy(X), torch.from_numpy(Y), torch.from_numpy(W)) == expected


def test_data_loaders_of_torch() -> None:
    torch = pytest.importorskip("torch")
    pairs = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    loader = torch.utils.data.DataLoader(pairs, batch_size=5)
    arrays = Dataset.from_tensor_slices((X, Y)).batch(5)

    def numbers(data: Any) -> Any:
        model = model_of()
        history = model.fit(data, epochs=2, verbose=0, validation_data=data).history
        return history, model.predict(data, verbose=0).tobytes()

    assert numbers(loader) == numbers(arrays)

    class Stream(torch.utils.data.IterableDataset):  # type: ignore[misc, name-defined]
        def __iter__(self) -> Any:
            return zip(X, Y, strict=True)

    assert numbers(torch.utils.data.DataLoader(Stream(), batch_size=5)) == numbers(arrays)
    left, right = handmill.utils.split_dataset(pairs, 0.5)
    assert [int(y) for _, y in left] + [int(y) for _, y in right] == Y.tolist()


def test_arrays_of_jax() -> None:
    jnp = pytest.importorskip("jax.numpy")
    assert trained(jnp.asarray(X), jnp.asarray(Y)) == trained(X, Y)


def test_lists_of_numbers() -> None:
    assert trained(X.tolist(), Y.tolist(), W.tolist()) == trained(X, Y, W)


def test_class_names_become_no_categories_by_themselves() -> None:
    for labels in (["a", "b"], np.array(["a", None], object)):
        with pytest.raises(ValueError, match=r"return_inverse=True"):
            handmill.utils.to_categorical(labels)
    np.testing.assert_array_equal(handmill.utils.to_categorical([1.0, 0.0]), [[0, 1], [1, 0]])
    with pytest.raises(ValueError, match="expected whole numbers, got float64"):
        handmill.utils.to_categorical([0.5])
