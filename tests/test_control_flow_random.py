"""Random loops in loops in branches: both executors, arrays and comparison agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handmill
from handmill import config, ops
from handmill.inspection.comparison import compare_function
from handmill.runtime.function import TracedFunction


class Maker:
    """Writes a random function of two (3, 4) arrays; the same one for the same seed.

    Each call draws the same numbers again, so that the function can be traced and run.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rng = np.random.default_rng(seed)

    def __call__(self, x: Any, y: Any) -> Any:
        self._rng = np.random.default_rng(self._seed)
        results = self.block([x, y], 3, depth=2)
        return tuple(results[-3:])

    def pick(self, values: list[Any]) -> Any:
        return values[self._rng.integers(len(values))]

    def block(self, values: list[Any], count: int, depth: int) -> list[Any]:
        """``values`` and what is computed from them."""
        values = list(values)
        for _ in range(count):
            kinds = ["unary", "binary", "matmul", "reduce", "slice"]
            if depth:
                kinds += ["scan", "scan", "cond", "switch", "map", "fori", "while"]
            values += getattr(self, self.pick(kinds))(values, depth)
        return values

    def body(self) -> Any:
        """Wraps a function so that it draws the same each time, and nothing from its caller."""
        start = int(self._rng.integers(1 << 30))

        def wrap(function: Any) -> Any:
            def run(*args: Any) -> Any:
                kept, self._rng = self._rng, np.random.default_rng(start)
                try:
                    return function(*args)
                finally:
                    self._rng = kept

            return run

        return wrap

    def unary(self, values: list[Any], depth: int) -> list[Any]:
        function = self.pick([ops.tanh, ops.sin, ops.relu, ops.negative, lambda x: x * 0.5])
        return [function(self.pick(values))]

    def binary(self, values: list[Any], depth: int) -> list[Any]:
        function = self.pick([ops.add, ops.subtract, ops.maximum, lambda a, b: a * b * 0.25])
        return [function(self.pick(values), self.pick(values))]

    def matmul(self, values: list[Any], depth: int) -> list[Any]:
        a, b = self.pick(values), self.pick(values)
        return [ops.tanh(ops.matmul(ops.matmul(a, ops.transpose(b)), a))]

    def reduce(self, values: list[Any], depth: int) -> list[Any]:
        return [self.pick(values) - ops.mean(self.pick(values), axis=0)]

    def slice(self, values: list[Any], depth: int) -> list[Any]:
        x = self.pick(values)
        return [ops.concatenate([x[1:], x[:1]])]

    def scan(self, values: list[Any], depth: int) -> list[Any]:
        n_carry, n_xs, n_ys = (int(self._rng.integers(low, 3)) for low in (0, 0, 1))
        length = int(self._rng.integers(1, 4))
        reverse = bool(self._rng.integers(2))
        init = [self.pick(values) for _ in range(n_carry)]
        xs = [ops.stack([self.pick(values) for _ in range(length)]) for _ in range(n_xs)]
        body = self.body()

        @body
        def step(carry: Any, row: Any) -> Any:
            inner = self.block([*values, *carry, *row], 3, depth - 1)
            own = [*inner[-2:], *carry, *row]
            return tuple(self.pick(own) for _ in carry), tuple(self.pick(own) for _ in range(n_ys))

        last, ys = ops.scan(step, tuple(init), tuple(xs), length=length, reverse=reverse)
        return [*last, *[y[self._rng.integers(length)] for y in ys], *[ops.mean(y, 0) for y in ys]]

    def map(self, values: list[Any], depth: int) -> list[Any]:
        xs = ops.stack([self.pick(values), self.pick(values)])
        body = self.body()

        @body
        def step(row: Any) -> Any:
            return self.block([*values, row], 2, depth - 1)[-1]

        return [ops.map(step, xs)[1]]

    def fori(self, values: list[Any], depth: int) -> list[Any]:
        body = self.body()

        @body
        def step(i: Any, x: Any) -> Any:
            return self.block([*values, x, x * ops.cast(i, "float32") * 0.1], 2, depth - 1)[-1]

        return [ops.fori_loop(1, 1 + int(self._rng.integers(4)), step, self.pick(values))]

    def cond(self, values: list[Any], depth: int) -> list[Any]:
        truth = ops.greater(ops.mean(self.pick(values)), 0.05)
        return self.choose(lambda a, b: ops.cond(truth, a, b), 2, values, depth)

    def switch(self, values: list[Any], depth: int) -> list[Any]:
        index = ops.cast(ops.mean(self.pick(values)) * 3.0, "int32")
        return self.choose(lambda *found: ops.switch(index, found), 3, values, depth)

    def choose(self, choice: Any, count: int, values: list[Any], depth: int) -> list[Any]:
        def branch() -> Any:
            inner = self.block(values, 2, depth - 1)
            return self.pick(inner), inner[-1]

        branches = [self.body()(branch) for _ in range(count)]
        return list(choice(*branches))

    def while_(self, values: list[Any], depth: int) -> list[Any]:
        body = self.body()
        most = int(self._rng.integers(4))
        captured = self.pick(values)

        @body
        def step(i: Any, x: Any) -> Any:
            return i + 1, self.block([captured, x], 2, depth - 1)[-1]

        def going(i: Any, x: Any) -> Any:
            return ops.logical_and(i < most, ops.mean(x) < ops.mean(captured) + 1.0)

        return [ops.while_loop(going, step, (ops.cast(0, "int32"), self.pick(values)))[1]]


setattr(Maker, "while", Maker.while_)


def arrays(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(3, 4)).astype("float32") for _ in range(2)]


def check(seed: int) -> None:
    run, given = Maker(seed), arrays(seed)
    native = TracedFunction(run, batched=False)
    found = native(*given)
    again = native(*given)
    for a, b in zip(found, again, strict=True):
        np.testing.assert_array_equal(a, b)
    if config.has_kernels():
        compare_function(native, given).raise_if_failed()
    with handmill.use_backend("numpy"):
        others = [TracedFunction(run, batched=False)(*given), run(*given)]
    for other in others:
        for a, b in zip(found, other, strict=True):
            np.testing.assert_allclose(a, np.asarray(b), rtol=1e-3, atol=1e-3)


def check_gradient(seed: int) -> None:
    run, given = Maker(seed), arrays(seed)

    def gradient(x: Any, y: Any) -> Any:
        with handmill.GradientTape() as tape:
            x, y = tape.watch(x), tape.watch(y)
            loss = sum([ops.sum(z * z) for z in run(x, y)])
        found = tape.gradient(loss, [x, y])
        return tuple(
            ops.zeros_like(a) if d is None else d for a, d in zip([x, y], found, strict=True)
        )

    native = TracedFunction(gradient, batched=False)
    found = native(*given)
    if config.has_kernels():
        compare_function(native, given).raise_if_failed()
    with handmill.use_backend("numpy"):
        others = [TracedFunction(gradient, batched=False)(*given), gradient(*given)]
    for other in others:
        for a, b in zip(found, other, strict=True):
            scale = max(float(np.abs(b).max()), 1.0)
            np.testing.assert_allclose(a / scale, np.asarray(b) / scale, atol=2e-3)


def seeds(first: int, plain: int, all_of_them: int) -> list[object]:
    """The first few, and as slow ones the others."""
    later = range(first + plain, first + all_of_them)
    return [
        *range(first, first + plain),
        *(pytest.param(seed, marks=pytest.mark.slow) for seed in later),
    ]


@pytest.mark.parametrize("seed", seeds(0, 8, 40))
def test_random_programs(seed: int) -> None:
    check(seed)


@pytest.mark.parametrize("seed", seeds(100, 6, 30))
def test_random_gradients(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Maker, "while", Maker.fori)
    check_gradient(seed)
