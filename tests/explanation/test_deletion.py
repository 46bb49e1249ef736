"""Deletion and insertion: right explanations beat random orders, wrong ones do not."""

from __future__ import annotations

import dataclasses
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import explanation
from handmill.ir.op import Array

RNG = np.random.default_rng(0)


def bright(images: Array) -> Array:
    return np.asarray(images[:, 2:5, 3:6].sum((1, 2, 3)))


def test_areas_of_a_linear_model() -> None:
    """Of w = (3, 2, 1) at ones the score goes 6, 3, 1, 0, and comes 0, 3, 5, 6."""
    weights = np.array([3.0, 2.0, 1.0])
    found = explanation.feature_ablation(lambda r: r @ weights, np.ones((1, 3)), 0.0)
    deletion, insertion = explanation.deletion_insertion(
        found, lambda r: r @ weights, baseline=0.0, orders=2000
    )
    own, mean = np.mean([4.5, 2, 0.5]), 3.0  # a random order loses as much in every step
    assert deletion.number == pytest.approx(mean - own, abs=0.05)
    assert insertion.number == pytest.approx(np.mean([1.5, 4, 5.5]) - mean, abs=0.05)


def test_right_and_wrong_maps() -> None:
    images = RNG.random((3, 8, 8, 2)) * 0.1
    images[:, 2:5, 3:6] += 1
    right = explanation.occlusion(bright, images, window=1)
    for check in explanation.deletion_insertion(right, bright):
        assert check.passed
        assert check.number > 0
    wrong = dataclasses.replace(right, values=-right.values)
    for check in explanation.deletion_insertion(wrong, bright):
        assert not check.passed
        assert check.number < 0
    chance = dataclasses.replace(right, values=RNG.random(right.values.shape))
    assert not all(c.passed for c in explanation.deletion_insertion(chance, bright))


def test_the_class_explained_is_the_one_looked_at() -> None:
    handmill.utils.set_random_seed(0)
    model = handmill.Sequential(
        [handmill.Input((20,)), handmill.layers.Dense(4, activation="softmax")]
    )
    before = [v.numpy().tobytes() for v in model.variables]
    rows = RNG.normal(size=(4, 20))
    found = explanation.shap(model, rows, 0.0, [0, 1, 2, 3], "permutation")
    checks = explanation.deletion_insertion(found, model, baseline=0.0)
    assert [c.name for c in checks] == ["deletion", "insertion"]
    assert all(c.passed for c in checks), checks
    again = explanation.deletion_insertion(found, model, baseline=0.0)
    assert checks == again
    assert before == [v.numpy().tobytes() for v in model.variables]


def test_refusals() -> None:
    found = explanation.feature_ablation(lambda r: r[:, 0], np.ones((1, 3)), 0.0)
    with pytest.raises(ValueError, match="must be a number or a row"):
        explanation.deletion_insertion(found, lambda r: r[:, 0])
    with pytest.raises(ValueError, match="no places of the data"):
        explanation.deletion_insertion(
            dataclasses.replace(found, values=np.ones((1, 2))), lambda r: r[:, 0], baseline=0.0
        )
    with pytest.raises(ValueError, match="of one input"):
        explanation.deletion_insertion(
            dataclasses.replace(found, data=[found.data]), lambda r: r[:, 0], baseline=0.0
        )


@pytest.mark.slow
def test_the_example_of_training_again(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    path = Path(__file__).resolve().parents[2] / "examples" / "explain_roar.py"
    if not path.is_file():
        pytest.skip("no examples beside the tests")
    monkeypatch.setattr("sys.argv", [str(path), "--seeds", "2", "--epochs", "8"])
    runpy.run_path(str(path))
    lines = {line[:24].strip(): line[24:].split() for line in capsys.readouterr().out.splitlines()}
    chance, ablation = lines["a random order"], lines["taking one pixel away"]
    assert float(ablation[0]) < float(chance[0]) - 0.05
