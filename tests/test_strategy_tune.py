"""The search: its points, its rungs, its finalists, its budget, its journal."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers
from handmill.strategy import Float, Int
from handmill.strategy.deadline import look, within
from handmill.strategy.sobol import sobol
from handmill.strategy.space import checked_space, drawn

DRAWS = np.random.default_rng(0)
X = DRAWS.normal(size=(80, 6)).astype(np.float32)
Y = (X[:, :3].sum(axis=1) > 0).astype(np.int64)
SPACE = {"units": [2, 3, 4], "rate": Float(1e-4, 0.5, log=True)}
ASKED = {"trials": 12, "epochs": 6, "seeds": 6, "finalists": 2, "batch_size": 16}


def build(units: int, rate: float) -> Any:
    model = handmill.Sequential(
        [handmill.Input((6,)), layers.Dense(units, "relu"), layers.Dense(2, "softmax")]
    )
    optimizer = handmill.optimizers.Adam(rate)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def tune(space: Any = SPACE, **asked: Any) -> Any:
    return handmill.tune(build, space, X, Y, **{**ASKED, **asked})


# Points.


def test_points_are_those_of_sobol() -> None:
    qmc = pytest.importorskip("scipy.stats.qmc")
    theirs = qmc.Sobol(21, scramble=False).random(256)
    assert (sobol(256, 21, seed=None) == theirs).all()


def test_scrambled_points_leave_no_gaps() -> None:
    points = sobol(256, 21, seed=5)
    for column in points.T:  # each of 256 slices once
        assert sorted((column * 256).astype(int)) == list(range(256))
    first = (points[:, :2] * 16).astype(int)  # each of 16 x 16 cells once
    assert len({tuple(cell) for cell in first}) == 256
    assert (sobol(256, 21, seed=5) == points).all()
    assert (sobol(256, 21, seed=6) != points).any()
    with pytest.raises(ValueError, match="from 1 to 21 dimensions"):
        sobol(4, 22)


def test_spaces() -> None:
    space = checked_space({"a": Int(1, 3), "b": Float(0.0, 1.0), "c": ("x", "y")})
    made = list(drawn(space, 60, seed=0))
    assert len({repr(m) for m in made}) == 60
    assert {m["a"] for m in made} == {1, 2, 3}
    assert {m["c"] for m in made} == {"x", "y"}
    assert abs(np.mean([m["b"] for m in made]) - 0.5) < 0.05
    few = list(drawn(checked_space({"a": Int(1, 3), "c": ["x", "y"]}), 100, seed=0))
    assert len(few) == 6  # all that there are
    assert Int(0, 9).at(0.0) == 0
    assert Int(0, 9).at(0.9999) == 9
    assert Float(2.0, 4.0).at(0.25) == 2.5


# The search.


def test_tune_finds_what_is_good() -> None:
    found = tune(trials=16)
    assert len(found.trials) == 16
    assert found.complete
    assert found.best["rate"] > 1e-3
    assert "16 configurations tried" in str(found)
    assert "2 configurations, 6 seeds, judged on 16 rows" in str(found)
    epochs = [t.epochs for t in found.trials]
    assert [epochs.count(n) for n in (2, 6)] == [10, 6]  # a third goes on
    ended = sorted((t for t in found.trials if t.epochs == 6), key=lambda t: -t.score)
    assert [t.configuration for t in ended[:2]] == found.runs.configurations
    assert min(t.score for t in ended) >= 0.5
    assert found.runs.seeds == [1, 2, 3, 4, 5, 6]  # not 0, by which they were found
    alone = handmill.train_many(
        build, [found.best], *hold_out_data()[:2], seeds=found.runs.seeds, epochs=6, batch_size=16,
        validation_data=hold_out_data()[3],
    )  # fmt: skip
    best = found.comparison().best
    assert found.runs.scores("val_loss")[best].tolist() == alone.scores("val_loss")[0].tolist()
    assert found.model().get_weights()[0].tolist() == alone.model(0).get_weights()[0].tolist()
    found.test(X, Y)
    assert "used once" in str(found)


def hold_out_data() -> Any:
    from handmill.strategy.holdout import hold_out

    return hold_out(X, Y)


def test_tune_without_pruning_trains_all_to_the_end() -> None:
    found = tune(prune=False, trials=4, epochs=3)
    assert [t.epochs for t in found.trials] == [3] * 4
    small = {"units": [2, 3], "rate": [0.1]}
    assert len(tune(small, trials=50, epochs=2).trials) == 2


def test_tune_searches_by_a_metric_that_is_named() -> None:
    found = tune(metric="val_loss")
    scores = [t.score for t in found.trials if t.epochs == 6]
    assert max(scores) < np.median([t.score for t in found.trials])
    assert "(lower is better)" in str(found)
    with pytest.raises(ValueError, match="Unknown number: 'val_los'"):
        tune(metric="val_los")


def test_what_diverges_is_behind() -> None:
    found = tune({"units": [2], "rate": [0.01, 1e30, 0.1]}, trials=3, epochs=3)
    assert [t.failure is not None for t in found.trials].count(True) == 1
    assert "1 diverged" in str(found)
    assert all(c["rate"] < 1 for c in found.runs.configurations)


def test_where_all_diverge_it_says_so() -> None:
    found = tune({"units": [2], "rate": [1e30, 1e31]}, trials=2, epochs=2)
    for ask in (lambda: found.best, found.comparison, found.model):
        with pytest.raises(ValueError, match="all of 2 configurations diverged, the first as"):
            ask()
    assert "all of 2 configurations diverged" in str(found)
    runs = handmill.try_all(build, {"units": [2], "rate": [1e30]}, X, Y, seeds=2, epochs=2)
    assert str(runs).endswith("at step 2); nothing can be compared")


@pytest.mark.slow
def test_a_search_goes_on_by_its_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tune.jsonl"
    whole = tune()
    assert str(tune(journal=path)) == str(whole)
    lines = path.read_bytes().splitlines(keepends=True)
    for kept in (1, 7, 14, len(lines) - 3):  # killed in the first rung, later, among the finalists
        path.write_bytes(b"".join(lines[:kept]) + lines[kept][:30])
        again = tune(journal=path)
        assert str(again) == str(whole)
        assert again.trials == whole.trials
        assert sorted(path.read_bytes().splitlines()) == sorted(b"".join(lines).splitlines())

    def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("trained again")

    monkeypatch.setattr(handmill.Model, "fit", never)
    assert str(tune(journal=path)) == str(whole)


def test_optuna_proposes() -> None:
    optuna = pytest.importorskip("optuna", reason="no optuna")
    found = tune(sampler=optuna.samplers.RandomSampler(seed=0), trials=20)
    again = tune(sampler=optuna.samplers.RandomSampler(seed=0), trials=20)
    assert str(found) == str(again)
    assert len(found.trials) == 20
    with pytest.raises(TypeError, match="Received: int"):
        tune(sampler=3)


# Budgets.


def test_a_deadline_ends_its_work_and_nothing_else() -> None:
    inner: list[bool] = []

    def endless() -> None:
        while True:
            look()

    assert within(0.02, endless)
    look()  # outside there is no end
    assert within(0.02, lambda: inner.append(within(60.0, endless)))
    assert inner == []  # the earlier end counts
    assert not within(None, list)
    assert within(-1.0, endless)
    with pytest.raises(KeyError):
        within(10.0, lambda: {}[0])  # type: ignore[var-annotated]
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(within(0.02, endless)))
    thread.start()
    thread.join()
    assert ended == [True]


@pytest.mark.slow
@pytest.mark.alone
def test_a_budget_is_kept_and_what_is_lacking_is_said() -> None:
    took: list[float] = []
    while len(took) < 3 and min(took, default=math.inf) >= 1.5:  # other processes only add
        begun = time.perf_counter()
        found = tune(trials=100_000, epochs=9, budget=0.5)
        took.append(time.perf_counter() - begun)
    assert min(took) < 1.5, took  # a step, and what else the machine does
    assert not found.complete
    assert "NOT COMPLETE: the budget ended" in str(found)
    nothing = tune(budget=1e-4)
    assert "cannot tell" in str(nothing)
    with pytest.raises(ValueError, match="before any settings were trained"):
        assert nothing.best
    generous = tune(budget=600.0)
    assert generous.complete


@pytest.mark.parametrize(
    ("space", "asked", "kind", "message"),
    (
        ({"unit": [2], "rate": [0.1]}, {}, ValueError, "no argument 'unit'.*mean 'units'"),
        ({"units": [], "rate": [1.0]}, {}, ValueError, "'units' has no values"),
        ({"units": 3, "rate": [1.0]}, {}, TypeError, "strategy.Float"),
        ([1], {}, TypeError, "dict such as"),
        ({}, {}, ValueError, "from 1 to 21 settings"),
        (SPACE, {"trials": 0}, ValueError, "trials"),
        (SPACE, {"eta": 1}, ValueError, "eta"),
        (SPACE, {"budget": -1}, ValueError, "more than 0"),
        (SPACE, {"budget": math.nan}, ValueError, "finite"),
        (SPACE, {"seed": -1}, ValueError, "seed must be a whole number of 0 or more"),
        (SPACE, {"seed": 1.5}, ValueError, "seed must be a whole number of 0 or more"),
    ),
)
def test_bad_searches(space: Any, asked: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        tune(space, **asked)


def test_bad_ranges() -> None:
    for make, message in (
        (lambda: Float(1, 0), "low must not be above high"),
        (lambda: Float(0, 1, log=True), "above 0"),
        (lambda: Float(0, math.inf), "finite"),
        (lambda: Int(0.5, 2), "whole number"),  # type: ignore[arg-type]
        (lambda: Int(0, 2, log=True), "above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory under /proc")
def test_memory_is_flat_over_many_trials() -> None:
    """In a process of its own: one that ran thousands of tests has memory to give and to take.

    The allocator takes pages by steps, so the middle one of five differences is judged: what leaks
    with each trial is in all of them. Blocks of Python's own allocator are counted one by one.
    """
    code = """
import gc
import sys
from pathlib import Path
from handmill.strategy import Float, tuning
import test_strategy_tune

def held():
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 200, sys.getallocatedblocks() / 200

tuning.BRACKET = 64
space = {"units": [2, 3, 4], "rate": Float(1e-4, 0.5, log=True)}
for seed in range(8):
    test_strategy_tune.tune(space, trials=200, epochs=1, seeds=1, seed=seed)
    if seed > 1:
        print(*held())
"""
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parent), *sys.path]))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = np.array([line.split() for line in done.stdout.splitlines()], np.float64)
    nbytes, blocks = np.median(np.diff(found, axis=0), axis=0)
    assert nbytes < 200, found  # of a trial
    assert blocks < 1, found
