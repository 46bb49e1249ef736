"""The loss of a head without logits is the loss of the logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handmill as hm
from handmill import hub, ops
from handmill.errors import ShapeError
from handmill.runtime.function import TracedFunction

RNG = np.random.default_rng(3)


def operands(*shape: int, tokens: int = 700, width: int = 16) -> Any:
    targets = RNG.integers(0, tokens, shape).astype("int32")
    hidden = RNG.normal(size=(*shape, width)).astype("float32")
    return targets, hidden, RNG.normal(size=(tokens, width)).astype("float32")


def of_logits(targets: Any, hidden: Any, table: Any) -> Any:
    logits = ops.matmul(hidden, ops.transpose(table))
    return ops.sparse_categorical_crossentropy(targets, logits, from_logits=True)


@pytest.mark.parametrize("shape", ((1,), (5,), (2, 3), (70,), (0,)))
@pytest.mark.parametrize("backend", ("native", "numpy"))
def test_losses_are_those_of_logits(shape: Any, backend: str) -> None:
    given = operands(*shape)
    with hm.use_backend(backend):
        found = hub.linear_cross_entropy(*given)
        np.testing.assert_allclose(found, of_logits(*given), rtol=2e-5, atol=2e-5)


def test_gradients_are_those_of_logits() -> None:
    targets, hidden, table = operands(3, 40)
    weights = RNG.normal(size=(3, 40)).astype("float32")
    found = []
    for loss in (hub.linear_cross_entropy, of_logits):
        x, e = hm.Variable(hidden), hm.Variable(table)
        with hm.GradientTape() as tape:
            total = ops.sum(loss(targets, x, e) * weights)
        found.append([np.asarray(g) for g in tape.gradient(total, [x, e])])
    for mine, other in zip(*found, strict=True):
        np.testing.assert_allclose(mine, other, rtol=2e-4, atol=2e-5)


def test_ignored_places_have_no_loss_and_no_gradient() -> None:
    targets, hidden, table = operands(3, 8)
    marked = targets.copy()
    marked[1, 2:] = -100
    x, e = hm.Variable(hidden), hm.Variable(table)
    with hm.GradientTape() as tape:
        losses = hub.linear_cross_entropy(marked, x, e, ignore_class=-100)
        total = ops.sum(losses)
    slopes = np.asarray(tape.gradient(total, [x, e])[0])
    wanted = np.where(marked == -100, 0.0, hub.linear_cross_entropy(targets, hidden, table))
    np.testing.assert_array_equal(losses, wanted)
    assert not slopes[1, 2:].any()
    assert slopes[0].any()
    with pytest.raises(ValueError, match="token -100"):
        hub.linear_cross_entropy(marked, hidden, table)


def test_logits_are_nowhere_in_memory() -> None:
    targets, hidden, table = operands(2048, tokens=4096)
    programs = [
        TracedFunction(f, "loss", batched=False) for f in (hub.linear_cross_entropy, of_logits)
    ]
    held = [program.plan(targets, hidden, table).arena_bytes for program in programs]
    assert held[0] < 2048 * 4096 * 4 / 16 < held[1]


def test_what_does_not_fit_is_named() -> None:
    targets, hidden, table = operands(4)
    with pytest.raises(ShapeError, match=r"hidden \(\.\.\., C\)"):
        hub.linear_cross_entropy(targets[:3], hidden, table)
    with pytest.raises(ShapeError):
        hub.linear_cross_entropy(targets, hidden, table[:, :5])
    with pytest.raises(ValueError, match="700"):
        hub.linear_cross_entropy(np.array([1, 2, 3, 700]), hidden, table)
