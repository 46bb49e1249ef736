"""Cross-validation and ensembles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers, strategy
from handmill.strategy.folds import splits_of

DRAWS = np.random.default_rng(0)
X = DRAWS.normal(size=(90, 6)).astype(np.float32)
Y = (X[:, :3].sum(axis=1) > 0).astype(np.int64) + (X[:, 0] > 1)


def build(units: int = 4) -> Any:
    model = handmill.Sequential(
        [handmill.Input((6,)), layers.Dense(units, "relu"), layers.Dense(3, "softmax")]
    )
    optimizer = handmill.optimizers.Adam(0.02)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def test_every_row_judges_once_in_each_repeat() -> None:
    splits = splits_of(90, Y, 5, 2, None, seed=0)
    assert len(splits) == 10
    for repeat in (splits[:5], splits[5:]):
        assert sorted(np.concatenate([test for _, test in repeat])) == list(range(90))
        for train, test in repeat:
            assert sorted([*train, *test]) == list(range(90))
            share = np.bincount(Y[test], minlength=3) - np.bincount(Y, minlength=3) / 5
            assert abs(share).max() < 1
    assert splits[0][1].tolist() != splits[5][1].tolist()
    groups = np.arange(90) // 7
    for train, test in splits_of(90, Y, 5, 1, groups, seed=0):
        assert not set(groups[train]) & set(groups[test])


def test_cross_validation_is_training_on_each_split() -> None:
    runs = strategy.cross_validate(build, X, Y, [{"units": 2}, {"units": 8}], epochs=3, repeats=2)
    assert runs.scores().shape == (2, 10)
    train, test = splits_of(90, Y, 5, 2, None, seed=0)[7]
    handmill.utils.set_random_seed(7)
    model = build(8)
    history = model.fit(
        X[train], Y[train], validation_data=(X[test], Y[test]), epochs=3, verbose=0
    ).history
    assert runs.scores("val_loss")[1, 7] == history["val_loss"][-1]
    found = runs.comparison()
    assert found.split_rows == (len(train), len(test))
    assert "10 splits" in str(runs)
    assert "corrected t of Nadeau and Bengio" in str(runs)
    alone = strategy.cross_validate(build, X, Y, epochs=2)
    assert "1 configuration, 5 splits" in str(alone)


@pytest.mark.parametrize(
    ("y", "asked", "message"),
    (
        (np.repeat([0, 1], [87, 3]), {}, "class 1 has 3 rows, but 5 folds need at least 5"),
        (np.zeros(90, int), {}, "nothing but class 0 in 90 rows"),
        (Y, {"folds": 91}, "91 folds need at least 91 rows, there are 90"),
        (Y, {"folds": 1}, "folds must be"),
        (Y, {"groups": np.zeros(90)}, "at least as many groups, there are 1"),
        (Y, {"groups": np.zeros(3)}, "each of 90 rows"),
    ),
)
def test_bad_folds(y: Any, asked: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        strategy.cross_validate(build, X, y, **asked)


# Ensembles.


def trained(**asked: Any) -> Any:
    return handmill.train_many(
        build, [{"units": 2}, {"units": 5}], X[:60], Y[:60], seeds=4, epochs=6,
        validation_data=(X[60:], Y[60:]), **asked,
    )  # fmt: skip


def test_an_ensemble_is_chosen_greedily() -> None:
    runs = trained()
    found = strategy.ensemble(runs, X[60:], Y[60:], size=6)

    def loss(outputs: Any) -> float:
        picked = outputs[np.arange(30), Y[60:]]
        return float(-np.log(picked).mean())

    outputs = [
        runs.model(lane.configuration, lane.seed).predict(X[60:], verbose=0) for lane in runs.lanes
    ]
    chosen: list[int] = []
    track = []
    for _ in range(6):
        losses = [loss(np.mean([outputs[k] for k in [*chosen, i]], axis=0)) for i in range(8)]
        chosen.append(int(np.argmin(losses)))
        track.append(min(losses))
    best = chosen[: int(np.argmin(track)) + 1]
    names = [(lane.configuration, lane.seed) for lane in runs.lanes]
    assert set(found.members) == {names[k] for k in best}
    shares = {names[k]: best.count(k) / len(best) for k in best}
    assert dict(zip(found.members, found.shares, strict=True)) == pytest.approx(shares)
    assert found.loss == pytest.approx(min(track), rel=1e-4)
    assert found.single == pytest.approx(track[0], rel=1e-4)
    assert loss(found.predict(X[60:])) == pytest.approx(found.loss, rel=1e-4)
    assert "where the best model alone has" in str(found)


def test_bad_ensembles() -> None:
    runs = trained(keep_weights=False)
    with pytest.raises(ValueError, match="pass keep_weights=True"):
        strategy.ensemble(runs, X[60:], Y[60:])
    with pytest.raises(ValueError, match="size must be"):
        strategy.ensemble(runs, X[60:], Y[60:], size=0)
    with pytest.raises(TypeError, match="`runs` must be what train_many"):
        strategy.ensemble([1], X[60:], Y[60:])
