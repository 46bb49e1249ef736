"""Integers, booleans, Python numbers: promotion as in Keras, exact values, nothing wraps unseen."""

import numpy as np
import pytest

import handmill as hm
from handmill import layers, ops

BACKENDS = ("native", "numpy")


@pytest.fixture(params=BACKENDS)
def backend(request):
    with hm.use_backend(request.param):
        yield request.param


def same(found, want, dtype):
    assert np.asarray(found).dtype == dtype
    assert np.array_equal(found, want)


COMPARISONS = ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")


@pytest.mark.parametrize("dtype", ("uint8", "int8", "int32", "int64"))
@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons_with_numbers_outside_of_the_dtype(name, dtype, backend):
    info = np.iinfo(dtype)
    x = np.array([info.min, 0, 100, info.max], dtype)
    compare = getattr(np, name)
    for number in (300, -1, 255, 256, 2**40, -(2**40), 2**70, -(2**70)):
        same(getattr(ops, name)(x, number), [compare(int(v), number) for v in x], "bool")
        same(getattr(ops, name)(number, x), [compare(number, int(v)) for v in x], "bool")


@pytest.mark.parametrize("name", ("add", "subtract", "multiply", "maximum", "minimum", "power"))
def test_arithmetic_refuses_numbers_outside_of_the_dtype(name, backend):
    with pytest.raises(OverflowError, match="Python integer 300 does not fit into uint8"):
        getattr(ops, name)(np.array([1, 2], "uint8"), 300)


def test_division_by_numbers_outside_of_the_dtype(backend):
    same(ops.divide(np.array([100, 200], "uint8"), 400), np.float32([0.25, 0.5]), "float32")


def test_large_python_integers_are_kept_or_refused(backend):
    big = 2**40
    same(ops.full((2,), big, "float32"), [big, big], "float32")
    same(ops.full((2,), big, "int64"), [big, big], "int64")
    same(ops.full_like(np.ones(2, "float32"), big), [big, big], "float32")
    same(ops.cast([big], "float32"), [big], "float32")
    same(ops.convert_to_tensor([big], "int64"), [big], "int64")
    same(ops.add(np.array([1], "int64"), big), [big + 1], "int64")
    same(ops.logical_and(np.ones(1, "float32"), big), [True], "bool")
    same(ops.arange(big, big + 2, dtype="int64"), [big, big + 1], "int64")
    for call in (
        lambda: ops.convert_to_tensor(big),
        lambda: ops.convert_to_tensor(2**70),
        lambda: ops.arange(big, big + 2),
        lambda: ops.mean([2**31, 2**31]),
        lambda: ops.add(np.array([1], "int32"), 2**33),
        lambda: ops.full((2,), big, "int32"),
    ):
        with pytest.raises(OverflowError, match="does not fit into int32"):
            call()


def test_integers_stay_integers(backend):
    x = np.array([2**24 + 1, -3], "int32")
    same(ops.round(x), x, "int32")
    same(ops.relu(x), [2**24 + 1, 0], "int32")
    same(ops.round(np.array([1251, -1250, 50], "int32"), -2), [1300, -1200, 0], "int32")
    same(ops.absolute(x), [2**24 + 1, 3], "int32")
    same(ops.clip(np.array([0, 9], "uint8"), -1, 300), [0, 9], "uint8")
    same(
        ops.power(np.array([2, 1, -1, 0, -1]), np.array([-1, -2, -3, -1, -2])),
        [0, 1, -1, 0, 1],
        "int64",
    )
    same(
        ops.power(np.array([7], "int32"), np.array([30], "int32")),
        np.int32([7]) ** np.int32(30),
        "int32",
    )


def test_promotion_of_powers_and_fills(backend):
    """As in Keras: a float makes floats, bools alone become int32, `full` is float32 by default."""
    x = np.array([1, 0, 3], "int32")
    same(ops.power(x, 2.0), [1, 0, 9], "float32")
    same(ops.power(x, 2), [1, 0, 9], "int32")
    same(ops.power(x.astype(bool), np.array([2, 1, 0], "uint8")), [1, 0, 1], "uint8")
    same(ops.power(x.astype("int8"), x.astype(bool)), [1, 1, 3], "int8")
    same(ops.power(x.astype(bool), x.astype(bool)), [1, 1, 1], "int32")
    same(ops.power(x.astype(bool), 2), [1, 0, 1], "int32")
    for value in (7, 7.0, np.int64(7)):
        same(ops.full((2,), value), [7, 7], "float32")
    same(ops.full((2,), True), [1, 1], "float32")


def test_small_integers_sum_in_int32(backend):
    a, b = np.array([[100, 100]], "int8"), np.ones((2, 1), "int8")
    same(ops.matmul(a, b), [[200]], "int32")
    same(ops.einsum("ij,jk->ik", a, b), [[200]], "int32")
    # Beside bool they stay what they are, as in Keras.
    flags = np.array([[True], [False]])
    for sums in (ops.matmul, ops.dot, ops.inner, ops.tensordot, ops.vdot):
        same(sums(a[0], flags[:, 0], *([1] if sums is ops.tensordot else [])), 100, "int8")
    same(ops.matmul(a, flags), [[100]], "int8")
    same(ops.einsum("ij,jk->ki", a, flags), [[100]], "int8")
    same(ops.prod(np.array([200, 200], "uint8")), 40000, "int32")
    same(ops.sum(np.array([200, 200], "uint8")), 400, "int32")


def test_booleans(backend):
    x = np.array([True, False, True])
    same(ops.cumsum(x), [1, 1, 2], "int32")
    same(ops.prod(x), 0, "int32")
    same(ops.square(x), [1, 0, 1], "int32")
    same(ops.power(x, x), [1, 1, 1], "int32")
    same(ops.tril(np.ones((2, 2), bool)), [[1, 0], [1, 1]], "bool")
    same(ops.diag(x), np.diag(x), "bool")
    same(ops.max(x, initial=0), True, "bool")
    same(ops.min(x[:0], initial=1), True, "bool")
    same(ops.bincount(np.array([3, 1, 3], "uint8")), [0, 1, 0, 2], "int32")
    same(ops.bincount(np.array([], "uint8"), minlength=2), [0, 0], "int32")
    for call in (ops.negative, ops.sign, lambda v: ops.subtract(v, v)):
        with pytest.raises(ValueError, match="not of bool"):
            call(x)


@pytest.mark.parametrize(
    "dtype", ("float16", "int16", "uint16", "uint32", "longdouble", ">i4", ">f8", ">i2")
)
def test_dtypes_that_values_do_not_have(dtype, backend):
    """They become what holds them, whichever way the call takes."""
    x = np.array([5, 3, 100]).astype(dtype)
    kind, size = x.dtype.kind, x.dtype.itemsize
    floats = "float32" if size < 8 else "float64"
    held = (
        floats
        if kind == "f"
        else "int32"
        if x.dtype.newbyteorder("=") in ("i2", "u2", "i4")
        else "int64"
    )
    for call in (
        ops.negative,
        ops.transpose,
        lambda v: ops.maximum(v, v),
        lambda v: ops.where(v > 3, v, v),
    ):
        assert call(x).dtype == held
    same(ops.multiply(x, x), x.astype(held) ** 2, held)


def test_unsigned_numbers_beyond_int64_are_refused(backend):
    with pytest.raises(OverflowError, match="does not fit into int64"):
        ops.negative(np.array([2**63], "uint64"))


def test_errors_have_words(backend):
    x = np.arange(6, dtype="float32")
    for call, text in (
        (lambda: ops.celu(x, 0), "alpha"),
        (lambda: ops.arange(0, 3, 0), "step"),
        (lambda: ops.split(x, 0), "parts must be 1 or more"),
        (lambda: ops.tensordot(x, x, 2), "2 axes of each operand"),
        (lambda: ops.tril(x), "a matrix was expected"),
        (lambda: ops.diag(np.float32(1)), "a vector or a matrix"),
    ):
        with pytest.raises(ValueError, match=text):
            call()


@pytest.mark.parametrize(("low", "high"), ((np.nan, 5), (-1, np.nan)))
def test_clip_with_nan_is_nan(low, high, backend):
    x = np.array([-2, 0, 3], "float32")
    assert np.isnan(ops.clip(x, low, high)).all()


def test_cast_saturates(backend):
    x = np.array([300.5, -1e10, np.nan, np.inf, 2.0**63], "float32")
    same(ops.cast(x, "uint8"), [255, 0, 0, 255, 255], "uint8")
    same(ops.cast(x, "int32"), [300, -(2**31), 0, 2**31 - 1, 2**31 - 1], "int32")
    same(ops.cast(x, "int64"), [300, -10_000_000_000, 0, 2**63 - 1, 2**63 - 1], "int64")


MATRIX = np.array([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]], "float32")


@pytest.mark.parametrize("order", (None, 1, -1, np.inf, -np.inf, "fro"))
@pytest.mark.parametrize("keepdims", (False, True))
def test_norms_of_matrices(order, keepdims, backend):
    for axis in (None, (0, 1), (1, 0)):
        want = np.linalg.norm(MATRIX, order, axis, keepdims)
        assert np.allclose(ops.norm(MATRIX, order, axis, keepdims), want)
    stack = np.stack([MATRIX, -2 * MATRIX])
    want = np.linalg.norm(stack, order, (1, 2), keepdims)
    assert np.allclose(ops.norm(stack, order, (1, 2), keepdims), want)


@pytest.mark.parametrize("order", (None, 0, 1, 2, 3, 0.5, -1, np.inf, -np.inf))
def test_norms_of_vectors(order, backend):
    assert np.allclose(ops.norm(MATRIX, order, 1), np.linalg.norm(MATRIX, order, 1))


def test_norms_that_are_not_supported(backend):
    with pytest.raises(ValueError, match="of matrices must be"):
        ops.norm(MATRIX, 3)
    with pytest.raises(ValueError, match="vectors or matrices"):
        ops.norm(np.ones((2, 2, 2), "float32"), 1)


EINSUMS = (
    ("...ij,...jk->...ik", (2, 3, 4), (2, 4, 5)),
    ("...ij,...jk->...ik", (2, 3, 4), (4, 5)),
    ("...ij,...jk->...ik", (7, 1, 3, 4), (2, 4, 5)),
    ("...i->...", (2, 3, 4)),
    ("i...->...i", (2, 3, 4)),
    ("...i,...i", (2, 3), (2, 3)),
    ("ii->", (3, 3)),
    ("ii->i", (3, 3)),
    ("ii", (3, 3)),
    ("iij->j", (3, 3, 2)),
    ("iii->i", (3, 3, 3)),
    ("...ii->...i", (2, 3, 3)),
    ("ii,ij->j", (3, 3), (3, 4)),
    ("ba", (2, 3)),
)


@pytest.mark.parametrize("case", EINSUMS, ids=lambda case: case[0])
def test_einsum_forms(case, backend):
    text, *shapes = case
    operands = [np.arange(np.prod(s), dtype="float32").reshape(s) - 3 for s in shapes]
    assert np.allclose(ops.einsum(text, *operands), np.einsum(text, *operands))


def test_einsum_refuses():
    x = np.ones((2, 3), "float32")
    for text in ("ii->i", "i->i", "...ijk->...", "ij->iij", "ij->k", "...i->i", "i1->i"):
        with pytest.raises(ValueError, match=r"einsum|letter|result"):
            ops.einsum(text, x)


def test_sparse_and_dense_crossentropy_of_unnormalized_rows_agree(backend):
    p = np.array([[2.0, 1.0, 1.0], [0.5, 0.5, 1.0]], "float32")
    y = np.array([1, 0])
    sparse = ops.sparse_categorical_crossentropy(y, p)
    dense = ops.categorical_crossentropy(np.eye(3, dtype="float32")[y], p)
    assert np.allclose(sparse, np.log([4.0, 4.0]), atol=1e-6)
    assert np.allclose(dense, sparse, atol=1e-6)


def test_softmax_layer_takes_a_mask(backend):
    x = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]], "float32")
    keep = np.array([[True, True, False], [False, False, False]])
    share = np.exp([1.0, 2.0]) / np.exp([1.0, 2.0]).sum()
    found = np.asarray(layers.Softmax()(x, mask=keep))
    assert np.allclose(found, [[*share, 0.0], [0.0, 0.0, 0.0]])
    assert np.allclose(layers.Softmax()(x, mask=keep.astype("float32")), found)
    assert np.allclose(layers.Softmax(axis=(0, 1))(x).sum(), 1.0)
    with pytest.raises(ValueError, match="must be broadcastable to the inputs"):
        layers.Softmax()(x, mask=np.ones((3, 2), bool))
