"""More of what keras.ops has in common with NumPy: against NumPy, traced, and differentiated.

Each function runs on arrays and traced, with kernels and with NumPy alone.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest

import handmill
from handmill import config, layers, ops
from handmill.errors import ShapeError
from handmill.ir.gradient import gradients
from handmill.ir.graph import current_graph
from handmill.runtime.function import TracedFunction

RNG = np.random.default_rng(11)
X = RNG.normal(size=(4, 6, 5)).astype(np.float32)
M = RNG.normal(size=(4, 6)).astype(np.float32)
V = RNG.normal(size=7).astype(np.float32)
GAPS = np.where(RNG.random((4, 6)) < 0.3, np.nan, M).astype(np.float32)
GAPS[0, :] = [np.nan, 1, 2, 3, 4, np.nan]
INTS = RNG.integers(-9, 10, (4, 6)).astype(np.int32)


@pytest.fixture(autouse=True, params=("native", "numpy"))
def backend(request):
    if request.param == "native":
        pytest.importorskip("handmill._core", reason="a build without kernels")
    with config.use_backend(request.param):
        yield


# name: (call of ops or numpy, operands)
CASES = {
    "deg2rad": (lambda f, x: f.deg2rad(x), X),
    "rad2deg": (lambda f, x: f.rad2deg(x), X),
    "sinc": (lambda f, x: f.sinc(f.concatenate([x, x * 0])), X),
    "sinh": (lambda f, x: f.sinh(x), X),
    "cosh": (lambda f, x: f.cosh(x), X),
    "arcsin": (lambda f, x: f.arcsin(f.tanh(x)), X),
    "arccos": (lambda f, x: f.arccos(f.tanh(x)), X),
    "arctan": (lambda f, x: f.arctan(x), X),
    "arctan2": (lambda f, x: f.arctan2(x, x[::-1]), X),
    "arcsinh": (lambda f, x: f.arcsinh(x), X),
    "arccosh": (lambda f, x: f.arccosh(1 + f.abs(x)), X),
    "arctanh": (lambda f, x: f.arctanh(f.tanh(x)), X),
    "i0": (lambda f, x: f.i0(x), X),
    "hypot": (lambda f, x: f.hypot(x, 3.0), X),
    "cbrt": (lambda f, x: f.cbrt(x), X),
    "fabs": (lambda f, x: f.fabs(x), X),
    "true_divide": (lambda f, x: f.true_divide(x, 3), INTS),
    "signbit": (lambda f, x: f.signbit(x), X),
    "heaviside": (lambda f, x: f.heaviside(x, 0.5), X),
    "fmax": (lambda f, x: f.fmax(x, x[::-1]), GAPS),
    "fmin": (lambda f, x: f.fmin(x, x[::-1]), GAPS),
    "fmod": (lambda f, x: f.fmod(x, 0.75), X),
    "gcd": (lambda f, x: f.gcd(x, 6), INTS),
    "lcm": (lambda f, x: f.lcm(x, x[::-1]), INTS),
    "left_shift": (lambda f, x: f.left_shift(x, 3), INTS),
    "right_shift": (lambda f, x: f.right_shift(x, 2), INTS),
    "nextafter": (lambda f, x: f.nextafter(x, np.float32(0)), X),
    "ldexp": (lambda f, x: f.ldexp(x, np.int32(3)), X),
    "logaddexp2": (lambda f, x: f.logaddexp2(x, x[::-1]), X),
    "nan_to_num": (lambda f, x: f.nan_to_num(x, nan=2.0), GAPS),
    "isposinf": (lambda f, x: f.isposinf(1 / (x * 0)), X),
    "isneginf": (lambda f, x: f.isneginf(1 / (x * 0)), X),
    "isclose": (lambda f, x: f.isclose(x, x + 0.1, rtol=0.1), X),
    "isclose_nan": (lambda f, x: f.isclose(x, x, equal_nan=True), GAPS),
    "allclose": (lambda f, x: f.allclose(x, x + 1e-7), X),
    "real": (lambda f, x: f.real(x), X),
    "imag": (lambda f, x: f.imag(x), X),
    "conj": (lambda f, x: f.conj(x), X),
    "isreal": (lambda f, x: f.isreal(x), X),
    "angle": (lambda f, x: f.angle(x), X),
    "append": (lambda f, x: f.append(x, x[:, 1:], axis=1), X),
    "append_flat": (lambda f, x: f.append(x, [1.0]), X),
    "hstack": (lambda f, x: f.hstack([x, x]), X),
    "vstack": (lambda f, x: f.vstack([x, x]), V),
    "dstack": (lambda f, x: f.dstack([x, x]), V),
    "array_split": (lambda f, x: f.array_split(x, 4, axis=1)[0], X),
    "hsplit": (lambda f, x: f.hsplit(x, 3)[1], X),
    "dsplit": (lambda f, x: f.dsplit(x, [2])[1], X),
    "fliplr": (lambda f, x: f.fliplr(x), X),
    "rot90": (lambda f, x: f.rot90(x, 3, (1, 2)), X),
    "rot90_half": (lambda f, x: f.rot90(x, 2, (2, 1)), X),
    "diagonal": (lambda f, x: f.diagonal(x, 1, 2, 1), X),
    "trace": (lambda f, x: f.trace(x, -1, 1, 2), X),
    "diff": (lambda f, x: f.diff(x, 2, axis=1), X),
    "diff_bool": (lambda f, x: f.diff(x > 0), X),
    "trapezoid": (lambda f, x: f.trapezoid(x, dx=0.5, axis=1), X),
    "trapezoid_x": (lambda f, x: f.trapezoid(x, np.float32([0, 1, 3, 4, 9])), X),
    "ptp": (lambda f, x: f.ptp(x, axis=1), X),
    "inner": (lambda f, x: f.inner(x, np.ones((2, 5), np.float32)), X),
    "kron": (lambda f, x: f.kron(x, np.float32([[1, 2]])), X),
    "cross": (lambda f, x: f.cross(x[..., :3], x[..., 2:]), X),
    "cross_axes": (lambda f, x: f.cross(x[:, :3], x[:, 3:], axis=1), X),
    "vander": (lambda f, x: f.vander(x, 4, increasing=True), V),
    "cumprod": (lambda f, x: f.cumprod(x, axis=1), X),
    "nansum": (lambda f, x: f.nansum(x, axis=1), GAPS),
    "nanprod": (lambda f, x: f.nanprod(x, axis=1), GAPS),
    "nanmax": (lambda f, x: f.nanmax(x, axis=1), GAPS),
    "nanmin": (lambda f, x: f.nanmin(x, axis=1, keepdims=True), GAPS),
    "nanargmax": (lambda f, x: f.nanargmax(x, axis=1), GAPS),
    "nanargmin": (lambda f, x: f.nanargmin(x, axis=1), GAPS),
    "nanmean": (lambda f, x: f.nanmean(x, axis=1), GAPS),
    "nanvar": (lambda f, x: f.nanvar(x, axis=1), GAPS),
    "nanstd": (lambda f, x: f.nanstd(x, axis=1), GAPS),
    "nancumsum": (lambda f, x: f.nancumsum(x, axis=1), GAPS),
    "nancumprod": (lambda f, x: f.nancumprod(x, axis=1), GAPS),
    "median": (lambda f, x: f.median(x, axis=(1, 2)), X),
    "nanmedian": (lambda f, x: f.nanmedian(x, axis=1), GAPS),
    "quantile": (lambda f, x: f.quantile(x, [0.1, 0.5], axis=1), X),
    "quantile_batch": (lambda f, x: f.quantile(x, 0.3, axis=0, keepdims=True), X),
    "quantile_nan": (lambda f, x: f.quantile(x, 0.5, axis=1), GAPS),
    "nanquantile": (lambda f, x: f.nanquantile(x, [0.2, 1.0], axis=1, keepdims=True), GAPS),
    "percentile": (lambda f, x: f.percentile(x, 30, axis=1, method="lower"), X),
    "nanpercentile": (lambda f, x: f.nanpercentile(x, 30.0, axis=1), GAPS),
    "corrcoef": (lambda f, x: f.corrcoef(x), M),
    "histogram": (lambda f, x: f.histogram(x, 4)[0], V),
    "histogram_edges": (lambda f, x: f.histogram(x, 4, (-1, 1))[1], V),
    "searchsorted": (lambda f, x: f.searchsorted(np.float32([-1, 0, 1]), x), X),
    "digitize": (lambda f, x: f.digitize(x, np.float32([1, 0, -1])), X),
    "isin": (lambda f, x: f.isin(x, [1, 3, -2], invert=True), INTS),
    "select": (lambda f, x: f.select([x > 1, x > 0], [x, 2 * x], -1.0), X),
    "unravel_index": (lambda f, x: f.unravel_index(f.abs(x), (3, 4))[1], INTS),
    "repeat_each": (lambda f, x: f.repeat(x, [2, 0, 1, 1, 3], axis=2), X),
    "roll_several": (lambda f, x: f.roll(x, (1, -2), axis=(1, 2)), X),
    "concatenate_flat": (lambda f, x: f.concatenate([x, x[:1]], axis=None), X),
    "copy": (lambda f, x: f.copy(x), X),
}


@pytest.mark.parametrize("name", CASES)
def test_as_numpy_and_as_traced(name):
    call, x = CASES[name]
    with np.errstate(all="ignore"):
        want = np.asarray(call(np, x))
        got = np.asarray(call(ops, x))
    traced = TracedFunction(lambda v: call(ops, v), name, batched=False)(x)
    for found in (got, traced):
        assert found.shape == want.shape
        np.testing.assert_allclose(found.astype(np.float64), want, rtol=4e-6, atol=2e-6)
    assert got.dtype == traced.dtype


WHOLE = (
    *("histogram", "histogram_edges", "corrcoef", "vander", "append_flat", "concatenate_flat"),
    *("vstack", "dstack", "nan_to_num"),
)


@pytest.mark.parametrize("name", sorted({*CASES} - {*WHOLE}))
def test_any_batch_size(name):
    """One trace serves batches of every size."""
    call, x = CASES[name]
    function = TracedFunction(lambda v: call(ops, v), name)
    with np.errstate(all="ignore"):
        for rows in (x, x[:3]):
            want = np.asarray(call(np, rows))
            np.testing.assert_allclose(
                np.asarray(function(rows), np.float64), want, rtol=4e-6, atol=2e-6
            )


def gradient_of(fn, *arrays):
    def run(*values):
        return tuple(gradients(current_graph(), ops.sum(fn(*values)), list(values)))

    found = TracedFunction(run, batched=False)(*arrays)
    return found if isinstance(found, tuple) else (found,)


SMOOTH = {
    "hypot": lambda x: ops.hypot(x, x[::-1] + 3.0),
    "cross": lambda x: ops.cross(x[:, :3], x[:, 3:]) ** 2,
    "kron": lambda x: ops.kron(x, x) ** 2,
    "cumprod": lambda x: ops.cumprod(x, axis=1) * M,
    "cbrt": lambda x: ops.cbrt(x + 5.0),
    "logaddexp2": lambda x: ops.logaddexp2(x, 2.0 * x),
    "sinc": ops.sinc,
    "arctan2": lambda x: ops.arctan2(x, x + 5.0),
    "median": lambda x: ops.median(x, axis=1) ** 2,
    "quantile": lambda x: ops.quantile(x, [0.3, 0.9], axis=1) ** 2,
    "trapezoid": lambda x: ops.trapezoid(x**2, axis=0),
    "corrcoef": lambda x: ops.corrcoef(x) * np.arange(4, dtype=np.float32),
    "correlate": lambda x: ops.correlate(ops.ravel(x), ops.ravel(x)[:5], "same") * 0.5,
    "vander": lambda x: ops.vander(ops.ravel(x)[:5], 4) * 0.1,
    "nanmean": lambda x: ops.nanmean(ops.where(x > 0, x, np.nan) ** 2, axis=1),
    "nanvar": lambda x: ops.nanvar(ops.where(x > 0, x, np.nan), axis=1),
    "nanmedian": lambda x: ops.nanmedian(ops.where(x > 0.1, x, np.nan), axis=1) ** 2,
    "select": lambda x: ops.select([x > 1, x > 0], [x**2, 2 * x], 0.0),
    "i0": ops.i0,
    "fmax": lambda x: ops.fmax(x**2, 0.5),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_against_differences(name):
    function = SMOOTH[name]
    (dx,) = gradient_of(function, M)
    for place in ((0, 0), (1, 3), (3, 5)):
        step = np.zeros_like(M, np.float64)
        step[place] = 1e-4
        ends = [ops.sum(function((M + s).astype(np.float64))) for s in (step, -step)]
        np.testing.assert_allclose(dx[place], (ends[0] - ends[1]) / 2e-4, rtol=2e-3, atol=2e-4)


def test_gradients_where_formulas_divide_by_zero():
    zero = np.zeros(2, np.float32)
    assert [d.tolist() for d in gradient_of(ops.hypot, zero, zero)] == [[0, 0], [0, 0]]
    assert gradient_of(ops.sinc, zero)[0].tolist() == [0, 0]
    x = np.float32([2, 0, 3, 0, 5])
    (dx,) = gradient_of(ops.cumprod, x)
    assert dx.tolist() == [1.0, 2.0 + 6.0, 0.0, 0.0, 0.0]
    dx, dy = gradient_of(ops.hypot, np.float32([3, 1]), np.float32([3, 0]))
    np.testing.assert_allclose([dx, dy], [[0.5**0.5, 1], [0.5**0.5, 0]], rtol=1e-6)


def test_what_is_beyond_the_ends():
    inf = float("inf")
    assert ops.hypot([inf, 1e30], [float("nan"), 1e30]).tolist()[0] == inf
    np.testing.assert_allclose(ops.hypot(np.float32(3e38), np.float32(1e38)), 3.1622777e38)
    assert ops.ldexp(np.float32(1e-45), np.int32(200)) == np.ldexp(np.float32(1e-45), 200)
    assert ops.left_shift(np.int32([1, 1, -8]), [31, 32, 40]).tolist() == [-(2**31), 0, 0]
    assert ops.right_shift(np.int32([8, -8, -8]), [40, 40, -1]).tolist() == [0, -1, -1]
    assert ops.nan_to_num(np.float64([inf, -inf])).tolist() == [
        np.finfo("d").max,
        np.finfo("d").min,
    ]
    assert ops.nanargmax([float("nan")] * 2) == -1
    assert np.isnan(ops.nanmax([float("nan")]))
    assert ops.quantile([1.0, 2.0, inf], 0.5) == 2
    assert [i.tolist() for i in ops.unravel_index([-1, 99], (2, 3))] == [[1, 1], [2, 2]]
    counts, edges = ops.histogram(np.zeros(3, np.float32), 2)
    assert counts.tolist() == [0, 3]
    assert edges.tolist() == [-0.5, 0.0, 0.5]


@pytest.mark.parametrize("mode", ("valid", "same", "full"))
@pytest.mark.parametrize("sizes", ((7, 3), (3, 7), (6, 4), (4, 6), (5, 5), (1, 4)))
def test_correlate(mode, sizes):
    x, y = (np.arange(1, n + 1, dtype=np.float32) ** 2 for n in sizes)
    np.testing.assert_allclose(ops.correlate(x, y, mode), np.correlate(x, y, mode))


@pytest.mark.parametrize("method", ("linear", "lower", "higher", "midpoint", "nearest"))
def test_methods_of_quantiles(method):
    x = np.float32([[1, 2, 3, 5], [9, 8, 4, 7]])
    q = np.float32([0.0, 0.3, 0.5, 1.0])
    want = np.quantile(x, q, axis=1, method=method)
    np.testing.assert_allclose(ops.quantile(x, q, axis=1, method=method), want, rtol=1e-6)


def test_sizes_that_depend_on_numbers():
    """They are found outside of programs, and refused inside in words that say why."""
    x = np.int32([[3, 1], [3, 0]])
    assert [i.tolist() for i in ops.nonzero(x)] == [[0, 0, 1], [0, 1, 0]]
    assert [i.tolist() for i in ops.where(x)] == [[0, 0, 1], [0, 1, 0]]
    found = ops.unique(x, return_index=True, return_inverse=True, return_counts=True)
    assert [f.tolist() for f in found] == [[0, 1, 3], [3, 1, 0], [[2, 1], [2, 0]], [1, 1, 2]]
    assert ops.unique(x, size=4).tolist() == [0, 1, 3, 0]
    assert ops.unique(x, size=2).tolist() == [0, 1]
    assert ops.bincount(x[0], weights=np.float32([0.5, 2])).tolist() == [0, 2, 0, 0.5]
    assert ops.bincount(x).tolist() == [[0, 1, 0, 1], [1, 0, 0, 1]]
    for function in (ops.nonzero, ops.unique, ops.bincount):
        with pytest.raises(TypeError, match=r"depends on the .* program"):
            TracedFunction(function)(x)


def test_refusals_name_the_argument():
    cases = [
        (ValueError, "side=", lambda: ops.searchsorted([1.0], [1.0], side="middle")),
        (ValueError, "mode=", lambda: ops.correlate([1.0], [1.0], mode="half")),
        (ValueError, "method=", lambda: ops.quantile([1.0], 0.5, method="mean")),
        (ValueError, "bins=", lambda: ops.histogram([1.0], bins=0)),
        (ValueError, "range=", lambda: ops.histogram([1.0], range=(1, 0))),
        (ValueError, "indexing=", lambda: ops.meshgrid([1.0], indexing="ab")),
        (ValueError, "signature=", lambda: ops.vectorize(ops.sum, signature="n->")),
        (ValueError, "negative", lambda: ops.bincount([-1])),
        (TypeError, "integers", lambda: ops.ldexp([1.0], [1.0])),
        (TypeError, "length", lambda: ops.hanning(2.5)),
        (ShapeError, "vectors of two or three", lambda: ops.cross(M, M)),
        (ShapeError, "rot90", lambda: ops.rot90(M, axes=(0, 0))),
        (ShapeError, "sorted row", lambda: ops.searchsorted(M, M)),
        (ShapeError, "counts", lambda: ops.repeat(V, [1, 2])),
        (TypeError, "complex", lambda: ops.abs(np.array([1j]))),
        (TypeError, "as arrays only", lambda: ops.view_as_complex(handmill.KerasTensor((3, 2)))),
        (TypeError, "as arrays only", lambda: ops.polar(handmill.KerasTensor((3,)), 1.0)),
        (ShapeError, r"last axis.*\(4, 6\)", lambda: ops.view_as_complex(M)),
    ]
    for kind, text, call in cases:
        with pytest.raises(kind, match=text):
            call()


@pytest.mark.parametrize("dtype", ("complex64", "complex128"))
def test_complex_numbers_are_arrays(dtype):
    z = (RNG.normal(size=(3, 4)) + 1j * RNG.normal(size=(3, 4))).astype(dtype)
    z[0, 0] = 2.0
    for name in ("real", "imag", "conj", "conjugate", "isreal", "angle"):
        found, wanted = getattr(ops, name)(z), getattr(np, name)(z)
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
    pairs = ops.view_as_real(z)
    np.testing.assert_array_equal(pairs, np.stack([z.real, z.imag], -1))
    for again in (ops.view_as_complex(pairs), ops.polar(np.abs(z), ops.angle(z))):
        assert again.dtype == z.dtype
        np.testing.assert_allclose(again, z, rtol=1e-5)
    np.testing.assert_array_equal(ops.view_as_real([1 + 2j, 3.0]), np.float32([[1, 2], [3, 0]]))
    np.testing.assert_array_equal(ops.view_as_real([1.0]), np.float32([[1, 0]]))


def test_windows_and_ranges():
    for name in ("bartlett", "blackman", "hamming", "hanning"):
        for size in (0, 1, 6):
            found = getattr(ops, name)(size)
            assert found.dtype == "float32"
            np.testing.assert_allclose(found, getattr(np, name)(size), atol=1e-7)
    np.testing.assert_allclose(ops.kaiser(np.int64(6), 3.5), np.kaiser(6, 3.5), rtol=1e-6)
    np.testing.assert_allclose(ops.logspace(0, 3, 5, base=2.0), np.logspace(0, 3, 5, base=2.0))
    np.testing.assert_allclose(ops.geomspace(-1, -8, 4), [-1, -2, -4, -8])
    for name, ends in (
        ("linspace", (0.0, 4.0)),
        ("logspace", (0.0, 2.0)),
        ("geomspace", (1.0, 9.0)),
    ):
        low, high = (np.full(3, end, np.float32) for end in ends)
        for axis in (0, 1):
            ours = functools.partial(getattr(ops, name), num=5, axis=axis)
            traced = TracedFunction(ours, batched=False)(low, high)
            want = getattr(np, name)(low, high, num=5, axis=axis)
            np.testing.assert_allclose(traced, want, rtol=4e-6)


def test_vectorize():
    first = ops.vectorize(lambda a, b: ops.where(a > b, a, b))
    assert first(np.float32([[1], [5]]), np.float32([2, 3])).tolist() == [[2, 3], [5, 5]]
    traces = ops.vectorize(ops.trace, signature="(d,d)->()")
    assert traces(np.ones((3, 4, 4), np.float32)).tolist() == [4, 4, 4]
    plus = ops.vectorize(lambda a, n: a + n, excluded={1})
    assert plus(np.float32([1, 2]), 3).tolist() == [4, 5]


def test_bytes_of_another_dtype():
    x = np.float32([[1.0, -2.0]])
    for dtype in ("int32", "uint8", "int64"):
        want = x.view(dtype)
        assert ops.view(x, dtype).tolist() == want.tolist()
        traced = TracedFunction(lambda v: ops.view(v, dtype), batched=False)(x)  # noqa: B023
        assert traced.dtype == dtype
        assert traced.tolist() == want.tolist()
    with pytest.raises(ShapeError, match="hold no int64"):
        TracedFunction(lambda v: ops.view(v, "int64"), batched=False)(np.ones((2, 3), np.float32))


def test_likes_of_tensors_of_the_functional_api():
    """Their sizes are not known yet: there is nothing to fill but what comes with the tensor."""
    x = layers.Input((3,))
    found = [ops.zeros_like(x), ops.ones_like(x), ops.full_like(x, 7), ops.imag(x)]
    model = handmill.Model(x, ops.stack(found, axis=-1))
    y = model(np.float32([[1, np.nan, 0]]))
    assert y.tolist() == [[[0, 1, 7, 0]] * 3]
