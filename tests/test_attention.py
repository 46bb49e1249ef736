"""The operator of attention: the same numbers however a sequence is cut, and what masks hide."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handmill
from handmill import ops
from handmill.ops.nn.attention import attend

RNG = np.random.default_rng(0)


def normal(*shape: int, dtype: str = "float32") -> np.ndarray:
    return RNG.normal(size=shape).astype(dtype)


def with_gradients(function: Any, *arrays: Any) -> list[np.ndarray]:
    """What a function gives, and the gradients of a sum of it and its squares."""
    variables = [handmill.Variable(a) for a in arrays]
    with handmill.GradientTape() as tape:
        y = function(*variables)
        loss = ops.sum(ops.add(ops.square(y), y))
    return [np.asarray(y), *(np.asarray(g) for g in tape.gradient(loss, variables))]


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"causal": True},
    "lengths": {"lengths": np.array([3, 290], "int32")},
    "empty": {"lengths": np.array([0, 300], "int32"), "causal": True},
    "start": {"start": np.array([3, 263], "int32"), "causal": True},
    "window": {"window": 20, "causal": True},
    "mask": {"mask": RNG.random((2, 4, 21, 300)) < 0.3},
    "dropout": {"dropout": 0.3, "seed": 5, "training": True},
}


@pytest.mark.parametrize("case", CASES)
def test_the_operator_does_what_its_parts_do(case: str) -> None:
    """float64 takes all scores into memory; the words of dropout are the same."""
    arrays = [normal(2, 21, 4, 16), normal(2, 300, 2, 16), normal(2, 300, 2, 12)]
    found = with_gradients(lambda *x: attend(*x, **CASES[case]), *arrays)
    exact = [a.astype("float64") for a in arrays]
    want = with_gradients(lambda *x: attend(*x, **CASES[case]), *exact)
    for a, b in zip(found, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def test_masked_numbers_reach_no_result_and_no_gradient() -> None:
    q, k, v = normal(2, 9, 2, 8), normal(2, 40, 2, 8), normal(2, 40, 2, 8)
    lengths = np.array([30, 0], "int32")
    hidden = np.arange(40) >= lengths[:, None]
    mask = np.broadcast_to(~hidden[:, None, None], (2, 1, 9, 40)).copy()
    for given in ({"lengths": lengths}, {"mask": mask}, {"mask": mask, "causal": True}):
        clean = with_gradients(lambda *x, g=given: attend(*x, **g), q, k, v)
        for bad in (np.nan, np.inf):
            dirty = [q.copy(), k.copy(), v.copy()]
            dirty[0][1] = dirty[1][hidden] = dirty[2][hidden] = bad
            found = with_gradients(lambda *x, g=given: attend(*x, **g), *dirty)
            for a, b in zip(found, clean, strict=True):
                np.testing.assert_array_equal(a, b)
        assert not clean[0][1].any()
        assert not any(g[1].any() for g in clean[1:])


def test_cached_is_uncached_bit_for_bit() -> None:
    """One query at a time, its keys in a longer cache, gives the bits of all at once."""
    t, room = 270, 512
    q, k, v = normal(2, t, 4, 16), normal(2, t, 2, 16), normal(2, t, 2, 16)
    whole = np.asarray(attend(q, k, v, causal=True))
    cache = [np.full((2, room, 2, 16), np.nan, "float32") for _ in range(2)]
    for x, full in zip(cache, (k, v), strict=True):
        x[:, :t] = full
    for i in (0, 1, 15, 16, 63, 254, 255, 256, 257, t - 1):
        start = np.full(2, i, "int32")
        one = attend(q[:, i : i + 1], *cache, start=start, lengths=start + 1, causal=True)
        np.testing.assert_array_equal(one[:, 0], whole[:, i])
    for first, last in ((0, 7), (7, 200), (200, t)):  # the prompt in chunks
        start = np.full(2, first, "int32")
        part = attend(
            q[:, first:last], *cache, start=start, lengths=start + last - first, causal=True
        )
        np.testing.assert_array_equal(part, whole[:, first:last])


@pytest.mark.parametrize(
    ("heads", "window", "width"), ((2, None, 16), (2, 40, 24), (8, 40, 8), (4, 9, 12))
)
def test_few_rows_among_unread_keys_are_those_of_all(
    heads: int, window: int | None, width: int
) -> None:
    """Read where they lie or packed, from any key on; keys beside those that are seen are not."""
    t, room = 270, 300
    q, k, v = normal(1, t, heads, 16), normal(1, t, 2, 16), normal(1, t, 2, width)
    whole = np.asarray(attend(q, k, v, causal=True, window=window))
    for i in (0, 8, 17, 60, 255, 256, 266):
        for count in (1, 3):
            first = 0 if window is None else max(0, i - window + 1)
            cache = [np.full((1, room, 2, w), np.nan, "float32") for w in (16, width)]
            for x, full in zip(cache, (k, v), strict=True):
                x[:, first : i + count] = full[:, first : i + count]
            start = np.full(1, i, "int32")
            few = attend(
                q[:, i : i + count],
                *cache,
                start=start,
                lengths=start + count,
                causal=True,
                window=window,
            )
            np.testing.assert_array_equal(few, whole[:, i : i + count])


@pytest.mark.parametrize("times", (1, 3))
def test_keys_read_from_other_rows_are_those_keys_copied(times: int) -> None:
    """In runs, and each from a row of its own; what lies behind the queries is not read."""
    q, k, v = normal(4, times, 4, 16), normal(4, 300, 2, 16), normal(4, 300, 2, 20)
    start = np.array([299 - times, 5, 270, 40], "int32")
    lying = RNG.integers(0, 4, (4, 300)).astype("int32")
    lying[:, :120] = lying[:, :1]
    k[:, 299], v[:, 299] = np.nan, np.inf
    here = np.arange(300)
    found = with_gradients(lambda *x: attend(*x, causal=True, start=start, rows=lying), *(q, k, v))
    copied = attend(q, k[lying, here], v[lying, here], causal=True, start=start)
    np.testing.assert_array_equal(found[0], copied)
    for slopes, x in zip(found[2:], (k, v), strict=True):
        _, *wanted = with_gradients(
            lambda *x: attend(*x, causal=True, start=start), q, k[lying, here], v[lying, here]
        )
        added = np.zeros_like(x)
        np.add.at(added, (lying, here), wanted[1] if x is k else wanted[2])
        np.testing.assert_allclose(slopes, added, rtol=1e-5, atol=1e-5)


def test_batched_is_alone_bit_for_bit() -> None:
    q, k, v = normal(3, 20, 2, 8), normal(3, 20, 2, 8), normal(3, 20, 2, 8)
    lengths = np.array([20, 5, 11], "int32")
    together = attend(q, k, v, lengths=lengths, causal=True)
    for b, n in enumerate(lengths):
        alone = attend(*(x[b : b + 1, :n] for x in (q, k, v)), causal=True)
        np.testing.assert_array_equal(together[b, :n], alone[0])


def test_second_gradient() -> None:
    """That of the gradient's operator, which is differentiated by its parts."""

    def slopes(dtype: str) -> list[np.ndarray]:
        rng = np.random.default_rng(1)
        shapes = ((1, 5, 2, 4), (1, 6, 1, 4), (1, 6, 1, 4))
        variables = [handmill.Variable(rng.normal(size=s).astype(dtype)) for s in shapes]
        with handmill.GradientTape() as outer:
            with handmill.GradientTape() as inner:
                y = attend(*variables, causal=True, window=4)
                loss = ops.sum(ops.square(y))
            first = inner.gradient(loss, variables)
            total = ops.sum(ops.square(first[0])) + ops.sum(first[1] * 0.5) + ops.sum(first[2])
        return [np.asarray(g) for g in outer.gradient(total, variables)]

    for a, b in zip(slopes("float32"), slopes("float64"), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_bfloat16_computes_in_float32() -> None:
    q, k, v = normal(2, 9, 2, 8), normal(2, 9, 2, 8), normal(2, 9, 2, 8)
    small = [ops.cast(x, "bfloat16") for x in (q, k, v)]
    found = attend(*small, causal=True)
    assert ops.dtype(found) == "bfloat16"
    want = attend(*(ops.cast(x, "float32") for x in small), causal=True)
    np.testing.assert_array_equal(
        ops.cast(found, "float32"), ops.cast(ops.cast(want, "bfloat16"), "float32")
    )
