"""A tuning decides how fast a CPU family computes, never what."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from core_programs import Training, node, program

from handmill import _core
from levels import levels

# Around the register tiles, the panels, the limits of the tunings (rows that are copied, few rows,
# long rows, blocks) and the cuts of K, and the kinds of memory that take their own path.
ROWS = (1, 2, 7, 8, 9, 13, 16, 17, 24, 33, 65, 193)
COLUMNS = (1, 10, 31, 64, 100, 129, 520)
DEPTHS = (1, 20, 257, 600, 1024)


@pytest.fixture(autouse=True)
def _restore():
    before = _core.isa(), _core.tuning(), _core.num_threads()
    yield
    _core.set_isa(before[0])
    _core.set_tuning(before[1])
    _core.set_num_threads(before[2])


def operands(M, N, K, turned):
    rng = np.random.default_rng(M + N * 1000 + K)
    a = rng.standard_normal((K, M) if "a" in turned else (M, K), np.float32)
    b = rng.standard_normal((N, K) if "b" in turned else (K, N), np.float32)
    return a, b


def by_every_tuning(build):
    """What build() gives, by tuning: the same for all."""
    results = {}
    for name in _core.tunings():
        _core.set_tuning(name)
        results[name] = build()
    assert len(results) >= 4
    first, *others = results
    for other in others:
        np.testing.assert_array_equal(results[first], results[other], err_msg=other)


@pytest.mark.parametrize("isa", levels())
@pytest.mark.parametrize("turned", ("", "a", "b", "ab"))
def test_every_tuning_gives_the_same_bits(isa, turned):
    _core.set_isa(isa)
    flags = {"transpose_a": "a" in turned, "transpose_b": "b" in turned}
    for M, N, K in itertools.product(ROWS, COLUMNS, DEPTHS):
        a, b = operands(M, N, K, turned)
        made = program(
            [a.shape, b.shape, (M, N)], [node("matmul", (0, 1), (2,), **flags)], inputs=[0, 1],
            outputs=[2],
        )  # fmt: skip
        by_every_tuning(lambda made=made, a=a, b=b: made.specialize(1)(a, b))


@pytest.mark.parametrize("isa", levels())
@pytest.mark.parametrize(("M", "N", "K"), ((2050, 2049, 64), (8, 4096, 2048), (1030, 72, 1024)))
def test_large_products_too(isa, M, N, K):
    _core.set_isa(isa)
    a, b = operands(M, N, K, "")
    made = program(
        [a.shape, b.shape, (M, N)], [node("matmul", (0, 1), (2,))], inputs=[0, 1], outputs=[2]
    )
    by_every_tuning(lambda: made.specialize(1)(a, b))


@pytest.mark.parametrize("isa", levels())
@pytest.mark.parametrize("M", (1, 8, 16, 100))
def test_weights_packed_once_too(isa, M):
    """B is a constant: packed whatever the rows, where it has 4096 elements or more."""
    _core.set_isa(isa)
    for N, K in ((33, 40), (72, 64), (200, 300)):
        a, b = operands(M, N, K, "")
        made = program(
            [a.shape, b.shape, (M, N)], [node("matmul", (0, 1), (2,))], inputs=[0], outputs=[2],
            constants=[(1, b)],
        )  # fmt: skip
        by_every_tuning(lambda made=made, a=a: made.specialize(1)(a))


@pytest.mark.parametrize("isa", levels())
@pytest.mark.parametrize("batch", (8, 96))
def test_training_too(isa, batch):
    _core.set_isa(isa)
    training = Training(batch)

    def after_some_steps():
        training.plan = training.program.specialize(batch)
        return np.concatenate([x.ravel() for x in training.run(3)])

    by_every_tuning(after_some_steps)


def test_a_tuning_is_chosen_by_name():
    assert _core.tuning() in _core.tunings()
    for name in _core.tunings():
        _core.set_tuning(name)
        assert _core.tuning() == name
    with pytest.raises(RuntimeError, match=r'no tuning "8086"; there are: .*zen4'):
        _core.set_tuning("8086")


def test_a_function_asks_again_for_another_tuning():
    made = program([(3, 3)], inputs=[0], outputs=[0])
    asked = []
    plans = []  # a Function does not keep them

    def miss(x):
        asked.append(_core.tuning())
        plans.append(made.specialize(1))
        return plans[-1]

    function = _core.Function(miss)
    x = np.ones((3, 3), np.float32)
    for name in (*_core.tunings(), *_core.tunings()):
        _core.set_tuning(name)
        function(x)
    assert asked == list(_core.tunings())
