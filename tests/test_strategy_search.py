"""Searches: all combinations, their journal, and the same table in any order."""

from __future__ import annotations

import functools
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import config, layers, strategy
from handmill.strategy import lanes
from handmill.strategy.holdout import classes_of, deal, deal_groups, hold_out
from handmill.strategy.journal import Journal, hash_of
from handmill.strategy.runs import Divergence, Lane

DRAWS = np.random.default_rng(0)
X = DRAWS.normal(size=(60, 6)).astype(np.float32)
Y = (X[:, :3].sum(axis=1) > 0).astype(np.int64)
SETTINGS = {"units": [2, 5], "rate": [0.01, 0.1]}
ASKED = {"seeds": 6, "epochs": 2, "batch_size": 16}


def build(units: int, rate: float) -> Any:
    model = handmill.Sequential(
        [handmill.Input((6,)), layers.Dense(units, "relu"), layers.Dense(2, "softmax")]
    )
    optimizer = handmill.optimizers.Adam(rate)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def try_all(settings: Any = SETTINGS, **asked: Any) -> Any:
    return handmill.try_all(build, settings, X, Y, **{**ASKED, **asked})


# All combinations.


def test_try_all_is_every_combination_under_every_seed() -> None:
    runs = try_all()
    assert runs.configurations == [
        {"units": u, "rate": r} for u in SETTINGS["units"] for r in SETTINGS["rate"]
    ]
    assert runs.scores().shape == (4, 6)
    x, y, _, held = hold_out(X, Y)
    many = handmill.train_many(build, runs.configurations, x, y, validation_data=held, **ASKED)
    assert runs.scores("val_loss").tolist() == many.scores("val_loss").tolist()
    assert str(runs).startswith("val_accuracy of 4 configurations, 6 seeds, judged on 12 rows")
    assert str(runs).endswith("The test set has not been used.")
    runs.test(X, Y)
    assert str(runs).endswith("The test set was used once.")


def test_validation_that_is_given_is_used() -> None:
    given = try_all(validation_data=(X[:20], Y[:20]))
    assert "judged on 20 rows" in str(given)
    assert "judged on 15 rows" in str(try_all(validation_split=0.25))
    splits = [(np.arange(0, 60, 2), np.arange(s, 60, 6)) for s in (1, 3, 5, 1, 3, 5)]
    assert "corrected t of Nadeau and Bengio" in str(try_all(splits=splits))


def test_numbers_of_the_training_are_called_that() -> None:
    runs = handmill.train_many(build, [{"units": 2, "rate": 0.1}], X, Y, seeds=6)
    assert str(runs).startswith("accuracy of 1 configuration, 6 seeds (higher is better)")
    assert str(runs).endswith("on rows that were learned from: it says nothing of other rows.")


@pytest.mark.slow
def test_the_same_table_for_any_order_and_threads() -> None:
    runs = try_all()
    turned = try_all({"units": [5, 2], "rate": [0.1, 0.01]})
    places = [turned.configurations.index(c) for c in runs.configurations]
    assert turned.scores("val_loss")[places].tolist() == runs.scores("val_loss").tolist()
    lines = [sorted(str(r).splitlines()) for r in (runs, turned)]
    assert lines[0] == lines[1]
    if config.has_kernels():
        before = config.num_threads()
        for threads in (1, 3):
            config.set_num_threads(threads)
            assert str(try_all()) == str(runs)
        config.set_num_threads(before)


def test_duplicates_run_once() -> None:
    with pytest.warns(handmill.TrainingWarning, match="more than once"):
        runs = try_all({"units": [2, 2], "rate": [0.01]})
    assert len(runs.configurations) == 1


@pytest.mark.parametrize(
    ("settings", "asked", "kind", "message"),
    (
        ({"unit": [2], "rate": [0.1]}, {}, ValueError, "no argument 'unit'.*mean 'units'"),
        ({"units": [2]}, {}, ValueError, "lacks 'rate'"),
        ({"units": [], "rate": [1.0]}, {}, ValueError, "'units' has no values to try"),
        ({"units": 2, "rate": [1.0]}, {}, TypeError, r"must be a list.*write \[2\]"),
        ({"units": "ab", "rate": [1.0]}, {}, TypeError, "must be a list"),
        ([{"units": 2}], {}, TypeError, "handmill.train_many"),
        (
            {"units": range(1000), "rate": [i / 1000 for i in range(1000)]},
            {},
            ValueError,
            "1000 units x 1000 rate are 1,000,000 combinations and 6,000,000 trainings.*limit=",
        ),
        (SETTINGS, {"limit": 23}, ValueError, "Pass limit=24"),
        (SETTINGS, {"epochs": 0}, ValueError, "epochs"),
        (SETTINGS, {"seeds": 0}, ValueError, "seeds"),
        (SETTINGS, {"seeds": 2.5}, TypeError, "`seeds` must be how many, such as 8"),
        (SETTINGS, {"seeds": True}, TypeError, "`seeds` must be how many.*Received: True"),
        (SETTINGS, {"seeds": None}, TypeError, "`seeds` must be how many"),
        (SETTINGS, {"seeds": "8"}, TypeError, "`seeds` must be how many"),
        (SETTINGS, {"seeds": [1, 1]}, ValueError, "different whole numbers"),
        (
            SETTINGS,
            {"validation_data": (np.where(X > 2, np.nan, X), Y)},
            ValueError,
            "the validation data: x has NaN in row",
        ),
    ),
)
def test_bad_searches(settings: Any, asked: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        try_all(settings, **asked)


# Rows that are put aside.


def test_targets_that_are_all_alike_are_refused_before_training() -> None:
    def net() -> Any:
        return build(2, 0.1)

    for y, message in (
        (np.full(60, 3), "y holds nothing but class 3 in 60 rows: there is nothing to learn"),
        (np.full((60, 1), 0.5), "y holds nothing but 0.5 in 60 rows"),
    ):
        for call in (
            lambda y=y: handmill.try_all(build, SETTINGS, X, y, **ASKED),
            lambda y=y: handmill.tune(build, SETTINGS, X, y, trials=2),
            lambda y=y: strategy.cross_validate(net, X, y, [{}]),
            lambda y=y: strategy.lr_range_test(net, X, y),
            lambda y=y: strategy.learning_curve(net, X, y),
        ):
            with pytest.raises(ValueError, match=message):
                call()


def test_what_makes_batches_is_no_table_of_rows() -> None:
    for x in (iter(X), handmill.data.Dataset.from_tensor_slices((X, Y)).batch(8)):
        for call in (
            lambda x=x: handmill.try_all(build, SETTINGS, x, Y, **ASKED),
            lambda x=x: handmill.tune(build, SETTINGS, x, Y, trials=2),
        ):
            with pytest.raises(TypeError, match=r"`x` must be arrays.*received"):
                call()


def test_rows_are_put_aside_by_class() -> None:
    y = np.repeat([0, 1, 2], [50, 30, 20])
    x = np.arange(100)
    kept, y_kept, weight, (x_held, y_held) = hold_out(x, y)
    assert weight is None
    assert np.bincount(y_held).tolist() == [10, 6, 4]
    assert sorted([*kept, *x_held]) == list(range(100))
    assert (y_kept == y[kept]).all()
    assert hold_out(x, y)[0].tolist() == kept.tolist()
    assert len(hold_out(x, y, np.ones(100))[3]) == 3
    two = {"a": x, "b": -x}
    assert hold_out(two, y)[0]["b"].tolist() == (-kept).tolist()
    with pytest.raises(ValueError, match="9 rows are too few"):
        hold_out(x[:9], y[:9])
    with pytest.raises(ValueError, match="equally many rows"):
        hold_out(x, y[:50])


def test_folds_are_even() -> None:
    y = np.repeat([0, 1, 2], [17, 8, 30])
    folds = deal(55, y, 5, seed=3)
    for fold in range(5):
        part = np.bincount(y[folds == fold], minlength=3)
        assert abs(part - np.array([3.4, 1.6, 6.0])).max() <= 1
    assert np.bincount(folds).tolist() == [11] * 5
    groups = np.repeat(np.arange(12), [9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 5])
    dealt = deal_groups(groups, 4, seed=0)
    assert all(len(set(dealt[groups == g])) == 1 for g in range(12))
    assert np.bincount(dealt).max() - np.bincount(dealt).min() <= 3
    with pytest.raises(ValueError, match="at least as many groups, there are 2"):
        deal_groups(np.array([1, 1, 2]), 3, seed=0)


def test_classes_are_whole_numbers_that_repeat() -> None:
    assert classes_of(np.array([[3], [1], [3]]), 3).tolist() == [1, 0, 1]  # type: ignore[union-attr]
    assert classes_of(np.array([0.5, 1.0]), 2) is None
    assert classes_of(np.arange(100), 100) is None
    assert classes_of(np.eye(3, dtype=int), 3) is None
    assert classes_of(None, 3) is None


# The journal.


def test_a_journal_makes_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs.jsonl"
    first = try_all(journal=path)
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + 24

    def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("trained again")

    with monkeypatch.context() as patch:
        patch.setattr(handmill.Model, "fit", never)
        again = try_all(journal=path)
    assert str(again) == str(first)
    assert path.read_bytes() == b"".join(lines)
    # Half of it, and a line that was torn: the rest is trained, to the same table.
    path.write_bytes(b"".join(lines[:13]) + lines[13][:40])
    assert str(try_all(journal=path)) == str(first)
    assert path.read_bytes() == b"".join(lines)
    more = try_all({"units": [2, 5, 7], "rate": [0.01, 0.1]}, journal=path, seeds=7)
    assert more.scores("val_loss")[:4, :6].tolist() == first.scores("val_loss").tolist()
    assert len(path.read_bytes().splitlines()) == 1 + 24 + 4 + 14
    assert again.model(1, 3).get_weights()[0].tolist() == more.model(1, 3).get_weights()[0].tolist()


def test_a_journal_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    try_all({"units": [2], "rate": [0.1]}, journal=path)
    content = path.read_bytes()
    for change, message in (
        ({"batch_size": 8}, "other settings: .*'batch_size': 16.*now .*'batch_size': 8"),
        ({"validation_split": 0.2}, "other data"),
    ):
        with pytest.raises(ValueError, match=message):
            try_all({"units": [2], "rate": [0.1]}, journal=path, **change)
    with pytest.raises(ValueError, match="other data"):
        handmill.try_all(build, SETTINGS, X + 1, Y, journal=path, **ASKED)

    def other(units: int, rate: float) -> Any:
        return build(units, rate * 2)

    with pytest.raises(ValueError, match=r"other code of build\(\)"):
        handmill.try_all(other, SETTINGS, X, Y, journal=path, **ASKED)
    path.write_bytes(content.replace(handmill.__version__.encode(), b"9.9", 1))
    with pytest.raises(ValueError, match=r"other versions of handmill: 9\.9, now"):
        try_all(journal=path)
    damaged = content.replace(b'"history"', b'"hist"', 1)
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"line 2 of the journal .* is damaged"):
        try_all(journal=path)
    assert path.read_bytes() == damaged
    for text in (b"a,b,c\n1,2,3\n", b"1,2,3"):
        path.write_bytes(text)
        with pytest.raises(ValueError, match="is not a journal of handmill"):
            try_all(journal=path)
        assert path.read_bytes() == text


def test_a_journal_knows_what_build_is_bound_to(tmp_path: Path) -> None:
    counted: list[int] = []

    def made(around: float, default: float = 0.1, **named: float) -> Any:
        def build(units: int, rate: float = default) -> Any:
            counted.append(units)  # what changes by itself is no part of what it does
            return around, named.get("beta", 0.9)

        return build

    class Called:
        def __call__(self, units: int) -> Any:
            return units

    def head(build: Any) -> bytes:
        path = tmp_path / "head.jsonl"
        Journal(path, {}, X, build).close()
        content = path.read_bytes()
        path.unlink()
        return content

    first = head(made(1.0))
    made(1.0)(3)
    assert head(made(1.0)) == first
    others = (
        made(2.0),
        made(1.0, 0.2),
        functools.partial(made(1.0), rate=0.5),
        functools.partial(made(1.0), rate=0.6),
        functools.partial(made(2.0), rate=0.6),
        Called(),
    )
    assert len({first, *map(head, others)}) == 1 + len(others)


def test_train_many_has_a_journal_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs.jsonl"
    given = {"seeds": 3, "epochs": 2, "batch_size": 16, "validation_batch_size": 7}
    configurations = [{"units": 2, "rate": 0.1}, {"units": 5, "rate": 0.1}]

    def run(**changed: Any) -> Any:
        given_now = {**given, "journal": path, "validation_data": (X[:9], Y[:9]), **changed}
        return handmill.train_many(build, configurations, X, Y, **given_now)

    first = run()
    with pytest.raises(ValueError, match=r"other settings: .*'validation_batch_size': 7"):
        run(validation_batch_size=8)
    monkeypatch.setattr(lanes.Lanes, "_start", None)  # nothing is trained again
    again = run()
    assert again.scores("val_loss").tolist() == first.scores("val_loss").tolist()


def test_a_journal_has_one_writer(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with (
        Journal(tmp_path / "a", {}, X),
        pytest.raises(RuntimeError, match="another process writes"),
    ):
        Journal(tmp_path / "a", {}, X)
    Journal(tmp_path / "a", {}, X).close()


def test_a_journal_keeps_numbers_and_failures(tmp_path: Path) -> None:
    failed = Lane(0, 3, {"loss": [0.1 + 0.2, math.nan]}, Divergence(1, 7, "loss was NaN at step 7"))
    settings = {"f": np.mean, "a": (1, 2.5), "n": np.float32(0.1)}
    with Journal(tmp_path / "a", {}, None) as journal:
        journal.add(settings, failed, {"loss": "down"}, epochs=5)
    with Journal(tmp_path / "a", {}, None) as journal:
        found = journal.find(settings, 3, 5)
        assert found is not None
        assert found.history["loss"][0] == 0.1 + 0.2
        assert found.failure == failed.failure
        assert journal.directions == {"loss": "down"}
        assert journal.find(settings, 3, 4) is None
        assert len(journal) == 1
        with pytest.raises(ValueError, match="cannot name"):
            journal.find({"f": lambda: 1}, 0, 1)


def test_hash_of_data_sees_everything() -> None:
    same = [X, {"a": Y}, None, 1.0]
    assert hash_of(same) == hash_of([X.copy(order="F"), {"a": Y}, None, 1.0])
    others = [
        [X, {"b": Y}, None, 1.0],
        [X.T, {"a": Y}, None, 1.0],
        [X.astype(np.float64), {"a": Y}, None, 1.0],
        [X, {"a": Y}, 0, 1.0],
    ]
    assert len({hash_of(same), *map(hash_of, others)}) == 5
    assert hash_of(np.array(["a", "b"], object)) != hash_of(np.array(["a", "c"], object))


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[2])
import test_strategy_search as t
from handmill.strategy import journal
add = journal.Journal.add
def dying(self, *args, **kwargs):
    add(self, *args, **kwargs)
    if len(self) == 7:
        self._file.write(b'{"configuration": {"uni')
        self._file.flush()
        os.kill(os.getpid(), 9)
journal.Journal.add = dying
t.try_all(journal=sys.argv[1])
"""


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_table(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    done = subprocess.run(
        (sys.executable, "-c", KILLED, str(path), str(Path(__file__).parent)),
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == -9, done.stderr
    content = path.read_bytes()
    assert len(content.splitlines()) == 1 + 7 + 1
    assert json.loads(content.splitlines()[7])["seed"] in range(6)
    assert str(try_all(journal=path)) == str(try_all())
    assert path.read_bytes().startswith(content[: content.rfind(b"\n") + 1])
