"""Functions with loops and branches, written once for ``handmill.ops`` and ``keras.ops``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import handmill
from handmill import ops

RNG = np.random.default_rng(10)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype("float32")


@dataclass(frozen=True)
class Case:
    """A function of an ``ops`` module and arrays.

    Attributes:
        name: of the test.
        function: takes the module and the arrays, returns a flat tuple of tensors.
        arrays: its operands.
        wrt: positions of the operands with a gradient; none: no gradient is tested.
        exact: whether every way to run it gives the same bits.
    """

    name: str
    function: Callable[..., Any]
    arrays: tuple[Any, ...]
    wrt: tuple[int, ...] = ()
    exact: bool = False

    def __call__(self, k: Any, *arrays: Any) -> tuple[Any, ...]:
        found = self.function(k, *arrays)
        return found if isinstance(found, tuple) else (found,)


def rnn(reverse: bool = False) -> Callable[..., Any]:
    def run(k: Any, x: Any, h: Any, w: Any) -> Any:
        def step(now: Any, row: Any) -> Any:
            after = k.tanh(k.matmul(now, w) + row)
            return after, after * 2.0

        return k.scan(step, h, x, reverse=reverse)

    return run


def gated(k: Any, x: Any, h: Any, c: Any, w: Any, u: Any, b: Any) -> Any:
    """An LSTM: two carries, three captured weights, slices and concatenations."""

    def step(carry: Any, row: Any) -> Any:
        h, c = carry
        z = k.matmul(row, w) + k.matmul(h, u) + b
        i, f, g, o = k.split(z, 4, axis=-1)
        c = k.sigmoid(f) * c + k.sigmoid(i) * k.tanh(g)
        h = k.sigmoid(o) * k.tanh(c)
        return (h, c), h

    (h, c), ys = k.scan(step, (h, c), x)
    return h, c, ys


def nested_structures(k: Any, x: Any, y: Any) -> Any:
    def step(carry: Any, row: Any) -> Any:
        total = carry["total"] + row["x"] * row["pair"][0]
        return {"total": total, "none": None, "last": (row["x"],)}, [total, None, (carry["last"],)]

    init = {"total": y[0], "none": None, "last": (x[0],)}
    last, ys = k.scan(step, init, {"x": x, "pair": (y, None)})
    assert last["none"] is None
    assert ys[1] is None
    return last["total"], last["last"][0], ys[0], ys[2][0][0]


def no_rows(k: Any, x: Any) -> Any:
    def step(now: Any, row: Any) -> Any:
        assert row is None
        return now * 0.5 + 1.0, None

    last, none = k.scan(step, x, length=5)
    assert none is None
    return last


def rows_alone(k: Any, x: Any) -> Any:
    """No carry at all."""
    none, ys = k.scan(lambda _, row: (None, k.exp(row)), None, x)
    assert none is None
    return ys


def swap(k: Any, x: Any, y: Any) -> Any:
    """Carries that change places: no step may write over what it still reads."""
    (a, b, c), ys = k.scan(lambda s, _: ((s[1], s[2], s[0]), s[0]), (x, y, x + y), length=4)
    return a, b, c, ys


def unchanged(k: Any, x: Any, y: Any) -> Any:
    """A carry that is handed on, a result that is an operand, one that is a constant."""
    (a, b), (p, q, r) = k.scan(
        lambda s, row: ((s[0], row), (s[1], y, k.ones((2,), dtype="float32"))), (y, x[0]), x
    )
    return a, b, p, q, r


def twice_the_same(k: Any, x: Any) -> Any:
    """One value as several results."""
    (a, b), (p, q) = k.scan(lambda s, row: ((s[0] + row, s[0] + row), (row, row)), (x[0], x[1]), x)
    return a, b, p, q


def collatz(k: Any, n: Any) -> Any:
    def step(count: Any, n: Any) -> Any:
        half = n // 2
        return count + 1, k.where(half * 2 == n, half, 3 * n + 1)

    return k.while_loop(lambda count, n: n != 1, step, (k.convert_to_tensor(0), n))


def newton(k: Any, x: Any) -> Any:
    """A square root by iteration, with a captured value in condition and body."""

    def going(s: Any) -> Any:
        return k.max(k.abs(s * s - x)) > 1e-3

    return k.while_loop(going, lambda s: 0.5 * (s + x / s), x, maximum_iterations=40)


def while_structures(k: Any, x: Any) -> Any:
    state, (i, none) = k.while_loop(
        lambda state, pair: pair[0] < 3,
        lambda state, pair: [{"x": state["x"] * 2.0}, (pair[0] + 1, None)],
        [{"x": x}, (k.convert_to_tensor(0), None)],
    )
    assert none is None
    return state["x"], i


def most(count: int) -> Callable[..., Any]:
    def run(k: Any, x: Any) -> Any:
        return k.while_loop(lambda x: k.sum(x) < 100.0, lambda x: x + 1.0, x, count)

    return run


def powers(k: Any, x: Any, w: Any) -> Any:
    return k.fori_loop(0, 3, lambda i, y: k.tanh(k.matmul(y, w)) + k.cast(i, "float32"), x)


def from_two(k: Any, x: Any) -> Any:
    return k.fori_loop(2, 6, lambda i, s: (s[0] + x[i], s[1] * 2.0), (x[0], x[1]))


def fori_of_values(k: Any, n: Any, x: Any) -> Any:
    return k.fori_loop(1, n, lambda i, y: y + k.cast(i, "float32"), x)


def fori_backwards(k: Any, x: Any) -> Any:
    return k.fori_loop(4, 1, lambda i, y: y * 2.0, x)


def scan_in_scan(k: Any, x: Any, w: Any) -> Any:
    def outer(carry: Any, row: Any) -> Any:
        def inner(now: Any, item: Any) -> Any:
            after = now * w + item * carry
            return after, k.sin(after)

        last, ys = k.scan(inner, row[0], row)
        return carry + k.sum(ys), last

    total, lasts = k.scan(outer, k.sum(w, keepdims=True), x)
    return total, lasts


def cond_in_scan(k: Any, x: Any, w: Any) -> Any:
    def step(now: Any, row: Any) -> Any:
        after = k.cond(
            k.sum(row) > 0, lambda: k.tanh(now * w + row), lambda: now - 0.5 * k.square(row)
        )
        return after, after

    return k.scan(step, x[0], x)


def scan_in_cond(k: Any, p: Any, x: Any, w: Any) -> Any:
    def loop() -> Any:
        return k.scan(lambda now, row: (k.tanh(now * w + row), now), x[0], x)

    return k.cond(p, loop, lambda: (x[1], x * w))


def while_in_scan(k: Any, x: Any) -> Any:
    def step(total: Any, row: Any) -> Any:
        big = k.while_loop(lambda v: k.max(k.abs(v)) < 10.0, lambda v: v * 2.0, row + 0.1)
        return total + big, big

    return k.scan(step, k.zeros_like(x[0]), x)


def scan_in_while(k: Any, x: Any) -> Any:
    def step(i: Any, y: Any) -> Any:
        return i + 1, k.scan(lambda now, row: (now + row, now * row), x[0], y)[1]

    return k.while_loop(lambda i, y: i < 2, step, (k.convert_to_tensor(0), x))


def switch_in_fori(k: Any, x: Any) -> Any:
    branches = [lambda y: y + 1.0, k.sin, lambda y: y * x]
    return k.fori_loop(0, 4, lambda i, y: k.switch(i, branches, y), x)


def cond_in_cond(k: Any, p: Any, q: Any, x: Any) -> Any:
    return k.cond(
        p,
        lambda: k.cond(q, lambda: x * 2.0, lambda: x * x),
        lambda: k.cond(q, lambda: x, k_neg(k, x)),
    )


def k_neg(k: Any, x: Any) -> Callable[[], Any]:
    return lambda: k.negative(x)


def map_rows(k: Any, x: Any, w: Any) -> Any:
    return k.map(lambda row: k.softmax(k.matmul(row, w)), x)


def map_nested(k: Any, x: Any) -> Any:
    found = k.map(lambda r: {"a": k.map(lambda v: v * v, r[0]), "b": r[1] + 1.0}, (x, x))
    return found["a"], found["b"]


def vectorized(k: Any, x: Any, y: Any) -> Any:
    return k.vectorized_map(lambda r: k.sum(r[0] * r[1]), (x, y))


def integers_and_bools(k: Any, n: Any, b: Any) -> Any:
    def step(carry: Any, row: Any) -> Any:
        count, seen = carry
        return (count + row, k.logical_or(seen, row > 3)), (k.multiply(count, 2), seen)

    (count, seen), (p, q) = k.scan(step, (n[0], b), n)
    return count, seen, p, q


def affine(k: Any, a: Any, b: Any, reverse: bool = False) -> Any:
    """The recurrence x = a * x + b in parallel."""

    def combine(p: Any, q: Any) -> Any:
        return p[0] * q[0], p[1] * q[0] + q[1]

    return tuple(k.associative_scan(combine, (a, b), reverse=reverse))


def associative(size: int, axis: int = 0, reverse: bool = False) -> Case:
    shape = [2, 3]
    shape[axis] = size

    def run(k: Any, x: Any) -> Any:
        return k.associative_scan(lambda p, q: p * q, x, reverse=reverse, axis=axis)

    name = f"associative_{size}_axis_{axis}" + ("_reverse" if reverse else "")
    return Case(name, run, (normal(*shape),), (0,))


def gather(k: Any, x: Any, order: Any) -> Any:
    """Rows of a captured array by an index of the loop."""
    return k.scan(lambda now, i: (now + x[i], now * k.take(x, i, axis=0)), x[0], order)


def loss_of(k: Any, found: tuple[Any, ...]) -> Any:
    """A scalar to which every float result contributes by its place."""
    total = 0.0
    for at, y in enumerate(found):
        if "float" in str(y.dtype):
            places = np.arange(1, np.prod(y.shape) + 1, dtype="float32").reshape(y.shape)
            total = total + k.sum(y * k.cast(np.sin(places * (at + 1)), y.dtype))
    return total


def gradient_of(case: Case, which: Any = None) -> Any:
    """The gradient of a case, as a function of its arrays."""

    def run(*arrays: Any) -> tuple[Any, ...]:
        with handmill.GradientTape() as tape:
            given = list(arrays)
            for i in case.wrt:
                given[i] = tape.watch(given[i])
            found = case(ops, *given)
            loss = loss_of(ops, found if which is None else (found[which],))
        found = tape.gradient(loss, [given[i] for i in case.wrt])
        return tuple(
            ops.zeros_like(given[i]) if dx is None else dx
            for i, dx in zip(case.wrt, found, strict=True)
        )

    return run


T, B, N = 5, 3, 4
X, H, W = normal(T, B, N), normal(B, N), normal(N, N)
TRUE, FALSE = np.bool_(True), np.bool_(False)

CASES = [
    Case("rnn", rnn(), (X, H, W), (0, 1, 2)),
    Case("rnn_reverse", rnn(True), (X, H, W), (0, 1, 2)),
    Case("rnn_one_step", rnn(), (X[:1], H, W), (0, 1, 2)),
    Case("rnn_no_step", rnn(), (X[:0], H, W), (0, 1, 2)),
    Case("lstm", gated, (X, H, H * 0.5, normal(N, 16), normal(N, 16), normal(16)), tuple(range(6))),
    Case("nested_structures", nested_structures, (X, normal(T, B, N)), (0, 1)),
    Case("no_rows", no_rows, (H,), (0,)),
    Case("rows_alone", rows_alone, (X,), (0,)),
    Case("swap", swap, (H, normal(B, N)), (0, 1), exact=True),
    Case("unchanged", unchanged, (X, H), (0, 1), exact=True),
    Case("twice_the_same", twice_the_same, (X,), (0,)),
    Case("collatz", collatz, (np.int32(27),), exact=True),
    Case("newton", newton, (np.abs(X) + 0.5,)),
    Case("while_structures", while_structures, (H,), exact=True),
    Case("at_most_3", most(3), (H,), exact=True),
    Case("at_most_0", most(0), (H,), exact=True),
    Case("never", most(9), (H + 100,), exact=True),
    Case("fori", powers, (H, W), (0, 1)),
    Case("fori_from_two", from_two, (normal(7, 2),), (0,)),
    Case("fori_of_values", fori_of_values, (np.int32(5), H), exact=True),
    Case("fori_backwards", fori_backwards, (H,), (0,), exact=True),
    Case("scan_in_scan", scan_in_scan, (normal(3, 4, 2), normal(2)), (0, 1)),
    Case("cond_in_scan", cond_in_scan, (X, normal(N)), (0, 1)),
    Case("scan_in_cond", scan_in_cond, (TRUE, X, normal(N)), (1, 2)),
    Case("scan_in_cond_not", scan_in_cond, (FALSE, X, normal(N)), (1, 2)),
    Case("while_in_scan", while_in_scan, (X,)),
    Case("scan_in_while", scan_in_while, (X,)),
    Case("switch_in_fori", switch_in_fori, (H,), (0,)),
    *[
        Case(f"cond_in_cond_{p}_{q}", cond_in_cond, (p, q, H), (2,), exact=True)
        for p in (TRUE, FALSE)
        for q in (TRUE, FALSE)
    ],
    Case("map", map_rows, (X, W), (0, 1)),
    Case("map_nested", map_nested, (H,), (0,)),
    Case("vectorized_map", vectorized, (H, normal(B, N)), (0, 1)),
    Case(
        "integers_and_bools", integers_and_bools, (np.arange(6, dtype="int32"), FALSE), exact=True
    ),
    Case("affine", affine, (normal(6, 2), normal(6, 2)), (0, 1)),
    *[associative(size) for size in (1, 2, 3, 4, 7, 8)],
    associative(5, 1),
    associative(5, 1, reverse=True),
    associative(6, reverse=True),
    Case("gather", gather, (normal(6, 3), np.int32([3, 0, 5, 3])), (0,)),
]
