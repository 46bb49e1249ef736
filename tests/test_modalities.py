"""Several kinds of input: two towers, and modalities that may be missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers, selfsup

pytestmark = pytest.mark.filterwarnings("ignore::handmill.TrainingWarning")
DRAWS = np.random.default_rng(0)


def towers(width: int = 8) -> Any:
    handmill.utils.set_random_seed(0)
    return selfsup.TwoTower(
        handmill.Sequential([layers.Dense(width)]), handmill.Sequential([layers.Dense(width)])
    )


def loss_of(logits: Any, right: Any) -> float:
    """The formula, in float64."""
    total = 0.0
    for z, t in ((logits, right), (logits.T, right.T)):
        shifted = z - z.max(axis=1, keepdims=True)
        log = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        total += float(-(t / t.sum(axis=1, keepdims=True) * log).sum(axis=1).mean()) / 2
    return total


@pytest.mark.parametrize("labels", (None, np.array([0, 1, 0, 2, 1, 0])))
def test_the_loss_is_the_formula(labels: Any) -> None:
    model = towers()
    x, y = DRAWS.normal(size=(6, 3)).astype("f"), DRAWS.normal(size=(6, 5)).astype("f")
    logits = np.asarray(model((x, y)), np.float64)
    a, b = (
        (z := d @ t.layers[0].get_weights()[0].astype("d") + t.layers[0].get_weights()[1])
        / np.linalg.norm(z, axis=1, keepdims=True)
        for d, t in ((x, model.first), (y, model.second))
    )
    np.testing.assert_allclose(logits, a @ b.T / 0.07, rtol=1e-5, atol=1e-5)
    model.compile(handmill.optimizers.SGD(0.0))
    names = np.arange(6) if labels is None else labels
    right = (names[:, None] == names[None]).astype("d")
    found = model.fit((x, y), labels, batch_size=6, verbose=0, shuffle=False).history["loss"][0]
    assert found == pytest.approx(loss_of(logits, right), rel=1e-5)


def test_what_belongs_together_is_found(tmp_path: Path) -> None:
    hidden = DRAWS.normal(size=(400, 4))
    x = (hidden @ DRAWS.normal(size=(4, 12))).astype("f")
    y = (hidden @ DRAWS.normal(size=(4, 9))).astype("f")
    model = towers()
    model.compile(handmill.optimizers.Adam(0.01))
    model.fit((x[:300], y[:300]), batch_size=50, epochs=15, verbose=0)
    a, b = model.first.predict(x[300:], verbose=0), model.second.predict(y[300:], verbose=0)
    assert selfsup.recall_at(a, b) > 0.8
    assert selfsup.recall_at(a, b, k=100) == 1.0
    assert selfsup.recall_at(a, b, labels=np.zeros(100)) == 1.0
    model.save(tmp_path / "m.hmill")
    again = handmill.models.load_model(tmp_path / "m.hmill")
    pair = (x[:4], y[:4])
    np.testing.assert_array_equal(again(pair), model(pair))
    model.log_scale.assign(50.0)
    assert np.abs(np.asarray(model(pair))).max() <= 100.01  # not exp(50)


def test_two_towers_that_do_not_fit() -> None:
    x = np.ones((3, 2), "f")
    with pytest.raises(ValueError, match="a pair"):
        towers()(x)
    uneven = selfsup.TwoTower(layers.Dense(3), layers.Dense(4))
    with pytest.raises(ValueError, match="one width"):
        uneven((x, x))
    with pytest.raises(ValueError, match="temperature"):
        selfsup.TwoTower(layers.Dense(3), layers.Dense(3), temperature=0)
    model = towers()
    model.compile("adam")
    with pytest.raises(ValueError, match="sample_weight"):
        model.fit((x, x), sample_weight=np.ones(3), verbose=0)
    for bad in ({"k": 0}, {"k": 4}, {"labels": [1]}, {"keys": np.ones((3, 3))}):
        with pytest.raises(ValueError, match="recall_at"):
            selfsup.recall_at(**{"queries": x, "keys": x, **bad})


@pytest.mark.slow
def test_dropped_modalities() -> None:
    layer = layers.ModalityDropout(0.5, seed=1)
    x = [np.ones((4000, 2), "f"), np.ones((4000, 3), "f"), np.ones((4000, 1), "f")]
    for same, given in zip(layer(x), x, strict=True):
        np.testing.assert_array_equal(same, given)
    layer.set_weights([np.full(2, 7.0), np.full(3, 8.0), np.full(1, 9.0)])
    found = layer(x, training=True)
    kept = np.stack([z[:, 0] == 1 for z in found], axis=1)
    assert kept.any(axis=1).all()
    # Three coins, and one of the three where all fell on the same side.
    share = (0.5 * 3 + 0.125) / 3
    np.testing.assert_allclose(kept.mean(axis=0), share, atol=0.03)
    for z, missing in zip(found, (7, 8, 9), strict=True):
        assert set(np.unique(z)) == {1.0, missing}
        assert ((z == z[:, :1]).all(axis=1)).all()  # a modality goes as a whole
    present = np.zeros((4000, 3), bool)
    present[:, 1] = True
    for training in (False, True):
        first, second, third = layer(x, present=present, training=training)
        assert (first == 7).all()
        assert (second == 1).all()
        assert (third == 9).all()


def test_a_network_that_loses_a_modality(tmp_path: Path) -> None:
    inputs = [handmill.Input((3,)), handmill.Input((2,))]
    present = handmill.Input((2,), dtype="bool")
    parts = layers.ModalityDropout(0.2, seed=2)(inputs, present=present)
    model = handmill.Model([*inputs, present], layers.Dense(1)(layers.Concatenate()(parts)))
    model.compile("adam", "mse")
    data = [DRAWS.normal(size=(20, 3)), DRAWS.normal(size=(20, 2)), DRAWS.random((20, 2)) < 0.7]
    data[2][~data[2].any(axis=1), 0] = True
    model.fit(data, np.zeros(20), epochs=2, verbose=0)
    model.save(tmp_path / "m.hmill")
    want = model.predict(data, verbose=0)
    again = handmill.models.load_model(tmp_path / "m.hmill")
    np.testing.assert_array_equal(again.predict(data, verbose=0), want)
    spoiled = [np.where(data[2][:, :1], data[0], np.nan), data[1], data[2]]
    np.testing.assert_array_equal(model.predict(spoiled, verbose=0), want)  # missing is missing


def test_rows_without_any_input_are_refused_before_the_first_step() -> None:
    draws = np.random.default_rng(0)
    x = [draws.normal(size=(64, n)).astype("float32") for n in (3, 4)]
    present = np.ones((64, 2), bool)
    present[37] = False
    ends = [handmill.Input((3,)), handmill.Input((4,)), handmill.Input((2,), dtype="bool")]
    kept = layers.ModalityDropout(0.3)(ends[:2], present=ends[2])
    model = handmill.Model(ends, layers.Dense(1)(layers.Concatenate()(kept)))
    model.compile("adam", "mse")
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"absent modalities 2 .* row 37"):
        model.fit([*x, present], np.zeros(64), batch_size=4, verbose=0)
    assert model.optimizer.iterations.numpy() == 0
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_modalities_that_do_not_fit() -> None:
    x = [np.ones((2, 3)), np.ones((2, 4))]
    with pytest.raises(ValueError, match="below 1"):
        layers.ModalityDropout(1.0)
    with pytest.raises(ValueError, match="two or more"):
        layers.ModalityDropout()([x[0]])
    with pytest.raises(ValueError, match=r"\(batch, 2\)"):
        layers.ModalityDropout()(x, present=np.ones((2, 3), bool))
    with pytest.raises(ValueError, match="absent modalities 2"):
        layers.ModalityDropout()(x, present=np.array([[True, True], [False, False]]))
