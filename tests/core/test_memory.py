"""Where buffers lie: the planner alone, and random programs against NumPy."""

import numpy as np
import pytest
from core_programs import node, program, random, state, tile
from hypothesis import given, settings
from hypothesis import strategies as st

from handmill import _core

pytestmark = pytest.mark.alone


@st.composite
def lifetimes(draw):
    n = draw(st.integers(0, 30))
    sizes = draw(st.lists(st.integers(0, 1000) | st.just(64), min_size=n, max_size=n))
    first = draw(st.lists(st.integers(0, 20), min_size=n, max_size=n))
    last = [f + draw(st.integers(0, 8)) for f in first]
    index = st.integers(0, max(n - 1, 0))
    alias = draw(st.lists(st.tuples(index, index), max_size=20)) if n else []
    return sizes, first, last, alias


@settings(max_examples=300, deadline=None)
@given(lifetimes())
def test_living_buffers_do_not_overlap(drawn):
    sizes, first, last, alias = drawn
    offsets, total, lower_bound = _core.plan_memory(sizes, first, last, alias)
    assert total >= lower_bound
    assert total % 64 == 0
    offered = set(alias)
    for i in range(len(sizes)):
        assert offsets[i] % 64 == 0
        assert 0 <= offsets[i] <= offsets[i] + sizes[i] <= total
        for j in range(i):
            alive_together = first[i] <= last[j] and first[j] <= last[i]
            overlap = offsets[i] < offsets[j] + sizes[j] and offsets[j] < offsets[i] + sizes[i]
            if alive_together and overlap:
                early, late = (i, j) if first[i] < first[j] else (j, i)
                assert (late, early) in offered
                assert last[early] == first[late]
                assert (sizes[early], offsets[early]) == (sizes[late], offsets[late])


def test_lower_bound_and_reuse():
    # a chain: two buffers are alive at a time
    n = 10
    offsets, total, bound = _core.plan_memory([64] * n, list(range(n)), list(range(1, n + 1)), [])
    assert total == bound == 128
    # in place all the way: one buffer
    alias = [(i + 1, i) for i in range(n - 1)]
    offsets, total, _ = _core.plan_memory([64] * n, list(range(n)), list(range(1, n + 1)), alias)
    assert (total, set(offsets)) == (64, {0})


def test_one_buffer_is_taken_over_only_once():
    offsets, total, _ = _core.plan_memory([64, 64, 64], [0, 1, 1], [1, 2, 2], [(1, 0), (2, 0)])
    assert total == 128
    assert offsets[1] != offsets[2]


@pytest.mark.parametrize(
    "bad",
    (
        ([1], [0], [], []),
        ([-1], [0], [0], []),
        ([1], [1], [0], []),
        ([1], [0], [0], [(0, 1)]),
        ([1], [0], [0], [(-1, 0)]),
    ),
)
def test_planner_checks(bad):
    with pytest.raises(ValueError, match=r"\w"):
        _core.plan_memory(*bad)


def test_bounds_are_kept_on_networks():
    """Greedy is near the lower bound for shapes like those of training steps."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        layers = int(rng.integers(2, 12))
        sizes = [int(s) * 64 for s in rng.integers(1, 200, 2 * layers)]
        first = list(range(2 * layers))
        last = [2 * layers - i for i in range(layers)] + [i + layers + 1 for i in range(layers)]
        last = [max(f, e) for f, e in zip(first, last, strict=True)]
        _, total, bound = _core.plan_memory(sizes, first, last, [])
        assert total <= 1.3 * bound


# --- Random programs -----------------------------------------------------------------------------

OPERATIONS = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "maximum": np.maximum,
    "neg": lambda a: -a,
    "abs": np.abs,
}


class RandomProgram:
    """A program of elementwise nodes and views, and what NumPy makes of it."""

    def __init__(self, seed, size):
        rng = np.random.default_rng(seed)
        self.values, self.nodes = [], []
        n_inputs, n_variables = int(rng.integers(1, 4)), int(rng.integers(0, 5))
        n_sources = n_inputs + n_variables
        half = rng.random() < 0.3
        shapes = [((2, size // 2) if half and rng.random() < 0.5 else (size,)) for _ in range(60)]
        for i in range(n_sources):
            self.values.append(shapes[i])
        self.contents = [random(*shape, seed=seed + i) for i, shape in enumerate(self.values)]
        self.inputs = list(range(n_inputs))
        self.old = self.contents[n_inputs:].copy()
        self.states = [state(array) for array in self.old]
        for _ in range(int(rng.integers(1, 25))):
            self.add_node(rng)
        pick = lambda: int(rng.integers(0, len(self.values)))  # noqa: E731
        self.outputs = [pick() for _ in range(int(rng.integers(0, 4)))]
        self.updates = []
        for v in range(n_inputs, n_sources):
            fitting = [i for i, s in enumerate(self.values) if s == self.values[v]]
            if rng.random() < 0.8:
                self.updates.append((v, int(rng.choice(fitting))))
        self.program = program(
            self.values,
            self.nodes,
            inputs=self.inputs,
            outputs=self.outputs,
            variables=[(n_inputs + i, s) for i, s in enumerate(self.states)],
            updates=self.updates,
        )
        self.n_inputs = n_inputs

    def add_node(self, rng):
        out = len(self.values)
        a = int(rng.integers(0, out))
        if rng.random() < 0.15:
            shape = (
                (self.contents[a].size,)
                if len(self.values[a]) == 2
                else (2, self.contents[a].size // 2)
            )
            self.nodes.append(node("view", (a,), (out,)))
            self.contents.append(self.contents[a].reshape(shape))
            self.values.append(shape)
            return
        name = str(rng.choice(list(OPERATIONS)))
        same = [i for i, s in enumerate(self.values) if s == self.values[a]]
        unary = name in ("neg", "abs")
        operands = [a] if unary else [a, int(rng.choice(same))]
        alias = [(0, p) for p in range(len(operands)) if rng.random() < 0.8]
        self.nodes.append(tile(name, operands, out, alias=alias))
        self.contents.append(OPERATIONS[name](*(self.contents[i] for i in operands)))
        self.values.append(self.values[a])

    def check(self, **how):
        plan = self.program.specialize(1, **how)
        assert plan.arena_bytes >= plan.lower_bound_bytes
        results = plan(*self.contents[: self.n_inputs])
        results = results if isinstance(results, tuple) else (results,)
        for got, value in zip(results, self.outputs, strict=True):
            np.testing.assert_array_equal(got, self.contents[value])
        new = dict(self.updates)
        for i, s in enumerate(self.states):
            want = self.contents[new.get(self.n_inputs + i, self.n_inputs + i)]
            np.testing.assert_array_equal(s.copy(), want)
        return plan


@pytest.mark.parametrize("size", (6, 40000))
@pytest.mark.parametrize("threads", (1, 3))
def test_random_programs(size, threads):
    before = _core.num_threads()
    _core.set_num_threads(threads)
    try:
        for seed in range(150 if size == 6 else 40):
            made = RandomProgram(seed, size)
            made.check()
            for s, array in zip(made.states, made.old, strict=True):
                s.write(array)
            plan = made.check(keep_all=True)
            for s, array in zip(made.states, made.old, strict=True):
                s.write(array)
            for number, got in plan.values(*made.contents[: made.n_inputs]).items():
                np.testing.assert_array_equal(got, made.contents[number])
    finally:
        _core.set_num_threads(before)
