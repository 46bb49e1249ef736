"""Models that learn without labels: what a step does, and what they do with bad input."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import handmill as hm
from handmill import layers, ops, selfsup
from handmill.errors import TrainingWarning

RNG = np.random.default_rng(5)
GROUPS = RNG.integers(0, 4, 192)
X = (RNG.normal(size=(4, 8))[GROUPS] * 2 + RNG.normal(size=(192, 8))).astype("float32")


def encoder(width=8):
    return hm.Sequential([layers.Dense(16, activation="relu"), layers.Dense(width)])


def made(kind, seed=1, **arguments):
    hm.utils.set_random_seed(seed)
    noise = layers.GaussianNoise(0.5, seed=3)
    model = getattr(selfsup, kind)(encoder(), noise, **arguments)
    model.compile(hm.optimizers.Adam(0.01))
    return model


def heads(**more):
    """Small ones, for quick tests."""
    return {"projector": selfsup.projection_head(8, 16, batch_norm=True), **more}


PAIRS = {
    "SimCLR": {},
    "SupCon": {},
    "TripletModel": {},
    "BarlowTwins": heads,
    "VICReg": heads,
    "SimSiam": lambda: heads(predictor=selfsup.prediction_head(8, 4)),
    "BYOL": lambda: heads(predictor=selfsup.prediction_head(8, 4)),
    "MoCo": {"queue_size": 80, "width": 128},
}


def fitted(kind, batch_size=48, epochs=4, seed=1, **fit):
    hm.utils.set_random_seed(seed)
    arguments = PAIRS[kind]
    model = made(kind, seed, **(arguments() if callable(arguments) else arguments))
    rows = (X, GROUPS) if model.NEEDS_LABELS else (X,)
    return model, model.fit(*rows, batch_size=batch_size, epochs=epochs, verbose=0, **fit).history


@pytest.mark.parametrize("kind", PAIRS)
def test_pairs_learn(kind):
    model, history = fitted(kind)
    assert list(history) == ["loss", "spread"]
    losses = history["loss"][1:] if kind == "MoCo" else history["loss"]  # a queue of noise at first
    assert losses[-1] < losses[0]
    assert 0 < history["spread"][-1] <= 1.01
    assert model.predict(X[:5], verbose=0).shape == (5, 8)
    _, again = fitted(kind)
    assert again == history


def test_what_was_learnt_tells_groups_apart():
    model, _ = fitted("SimCLR", epochs=20)
    train, test = slice(0, 128), slice(128, 192)
    raw = selfsup.knn_probe(None, X[train], GROUPS[train], X[test], GROUPS[test], k=5)
    learnt = selfsup.knn_probe(model.encoder, X[train], GROUPS[train], X[test], GROUPS[test], k=5)
    linear = selfsup.linear_probe(
        model.encoder, X[train], GROUPS[train], X[test], GROUPS[test], epochs=40
    )
    assert min(learnt.accuracy, linear.accuracy) > 0.85
    low, high = learnt.interval
    assert 0 < low < learnt.accuracy < high < 1
    assert raw.rows == 128


def test_a_step_of_simclr_is_the_loss_of_two_views():
    model = made("SimCLR", projector=layers.Dense(4))
    model.augmentation = layers.Identity()
    model.compile(hm.optimizers.SGD(0.0))
    loss = model.fit(X[:48], batch_size=48, verbose=0).history["loss"][0]
    z = model.project(X[:48])
    assert loss == pytest.approx(float(selfsup.nt_xent(z, z)), rel=1e-5)
    assert model.evaluate(X[:48], batch_size=48, verbose=0)[0] == pytest.approx(loss, rel=1e-5)


def test_image_layers_give_two_views_of_a_row():
    """Keyed by row, epoch and view: what a row becomes does not depend on its batch."""
    images = RNG.uniform(size=(24, 6, 6, 1)).astype("float32")
    seen = []

    class Looks(selfsup.LearnsViews):
        def compare(self, views, y, training):
            sums = [ops.sum(ops.square(v)) for v in views]
            apart = ops.sum(ops.square(ops.subtract(*views)))
            self.seen.assign(ops.add(self.seen, ops.stack([*sums, apart])))
            return ops.mean(self.embed(views[0], training)), self.embed(views[0], training)

    for size in (8, 24):
        model = Looks(layers.Flatten(), [layers.RandomRotation(0.3, seed=2)])
        model.projector = layers.Dense(2, kernel_initializer="zeros")
        model.seen = model.add_weight((3,), "zeros", trainable=False)
        model.compile(hm.optimizers.SGD(0.0))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TrainingWarning)  # all embeddings are 0
            model.fit(images, batch_size=size, shuffle=False, verbose=0)
        seen.append(model.seen.numpy())
    np.testing.assert_allclose(*seen, rtol=1e-5)
    assert seen[0][2] > 0.01 * seen[0][0]


@pytest.mark.slow
def test_targets_follow_the_network():
    copy_of = selfsup.MomentumCopy
    model = made("BYOL", momentum=0.9, **heads(predictor=selfsup.prediction_head(8, 4)))
    model._built_for(X[:48])
    start = [w.numpy().copy() for w in model.targets[0].copy.weights]
    for a, b in zip(start, model.encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    model.train_on_batch(X[:48])
    for slow, before, fast in zip(
        model.targets[0].copy.weights, start, model.encoder.get_weights(), strict=True
    ):
        np.testing.assert_allclose(slow.numpy(), 0.9 * before + 0.1 * fast, rtol=1e-5, atol=1e-7)
    trained = {id(v) for v in model.trainable_variables}
    assert not any(id(w) in trained for target in model.targets for w in target.weights)
    with pytest.raises(ValueError, match="`momentum` must be from 0 to 1"):
        copy_of(layers.Dense(1), 1.5)


def test_the_queue_is_a_ring():
    model = made("MoCo", queue_size=20, width=4, projector=layers.Dense(4))
    model._built_for(X[:16])
    before = model.queue.numpy().copy()
    model.augmentation = layers.Identity()
    keys = []
    for part in (X[:16], X[16:32]):
        z = np.asarray(model.targets[1](model.targets[0](part)))
        keys.append(z / np.linalg.norm(z, axis=1, keepdims=True))
        model.train_on_batch(part)
    want = before.copy()
    want[:16] = keys[0]
    want[[16, 17, 18, 19, *range(12)]] = keys[1]
    np.testing.assert_allclose(model.queue.numpy(), want, rtol=1e-4, atol=1e-6)
    assert int(model.position.numpy()) == 12
    model.evaluate(X[:16], batch_size=16, verbose=0)
    np.testing.assert_allclose(model.queue.numpy(), want, rtol=1e-4, atol=1e-6)
    weights = model.get_weights()
    with pytest.raises(ValueError, match="a queue of 20 cannot hold a batch of 32"):
        model.train_on_batch(X[:32])
    for a, b in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_second_model_whose_head_is_not_built_yet():
    """The step of the first made weights of the head: the second one's are not those."""
    losses = []
    for _ in range(3):
        hm.utils.set_random_seed(1)
        start = hm.Sequential([hm.Input((8,)), layers.Dense(16)])
        model = selfsup.SimCLR(start, layers.GaussianNoise(0.5, seed=1))
        model.compile("adam")
        losses.append(model.fit(X, batch_size=48, verbose=0).history["loss"])
    assert losses[0] == losses[1] == losses[2]


def test_rows_that_fill_no_batch_are_left_out():
    rows = []

    class Counts(selfsup.SimCLR):
        def compare(self, views, y, training):
            rows.append(views[0].shape[0])
            return super().compare(views, y, training)

    model = Counts(encoder(), layers.GaussianNoise(0.5))
    model.compile("adam")
    model.fit(X[:49], batch_size=16, epochs=2, verbose=0)
    assert int(model.optimizer.iterations.numpy()) == 6
    with pytest.raises(ValueError, match="at least 2"):  # a last batch of one
        model.evaluate(X[:49], batch_size=16, verbose=0)
    with pytest.raises(ValueError, match="at least 2"):
        model.fit(X[:1], verbose=0)


def collapsed_model():
    model = made("SimSiam", projector=layers.Dense(4, kernel_initializer="zeros"))
    model.projector.bias_initializer = hm.initializers.Constant(1.0)
    model.predictor = layers.Identity()
    return model


def test_collapse_is_named_after_the_first_epoch():
    model = collapsed_model()
    with pytest.warns(TrainingWarning, match=r"embeddings collapsed: std .* of 0\.5"):
        history = model.fit(X, batch_size=48, epochs=2, verbose=0).history
    assert history["spread"][0] < 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrainingWarning)
        fitted("SimCLR", epochs=1)


def test_what_collapse_says():
    z = RNG.normal(size=(400, 8))
    found = selfsup.collapse(z)
    assert found.spread == pytest.approx(1, abs=0.02)
    assert 7.5 < found.effective_rank <= 8
    assert str(found).startswith("std 0.35 of 0.35")
    line = selfsup.collapse(np.outer(RNG.normal(size=400), np.ones(8)))
    assert line.is_collapsed
    assert line.effective_rank == pytest.approx(1, abs=1e-6)
    same = selfsup.collapse(np.ones((5, 3)))
    assert same.is_collapsed
    assert same.std == 0
    assert selfsup.collapse(np.zeros((5, 3))).std == 0
    for bad, words in ((z[:1], "two rows"), (z[0], "two rows"), (z * np.nan, "row 0")):
        with pytest.raises(ValueError, match=words):
            selfsup.collapse(bad)


def test_probes_leave_the_model_as_it_was():
    model, _ = fitted("SimCLR", epochs=1)
    before = [v.numpy().tobytes() for v in (*model.variables, *model.optimizer.variables)]
    state = hm.random.state()
    for probe in (selfsup.knn_probe, selfsup.linear_probe):
        first, second = (probe(model.encoder, X, GROUPS, X[:20], GROUPS[:20]) for _ in range(2))
        np.testing.assert_array_equal(first.predictions, second.predictions)
    after = [v.numpy().tobytes() for v in (*model.variables, *model.optimizer.variables)]
    assert after == before
    assert hm.random.state() == state
    assert hm.Sequential([layers.Dense(1)]).name.startswith("sequential")


def test_neighbours_are_exact():
    x, y = RNG.normal(size=(60, 6)).astype("float32"), RNG.integers(0, 3, 60)
    test = RNG.normal(size=(30, 6)).astype("float32")
    cosines = (test @ x.T) / np.outer(np.linalg.norm(test, axis=1), np.linalg.norm(x, axis=1))
    votes = np.zeros((30, 3))
    for i in range(30):
        for j in np.argsort(-cosines[i])[:7]:
            votes[i, y[j]] += np.exp(cosines[i, j] / 0.1)
    found = selfsup.knn_probe(None, x, y, test, np.zeros(30, int), k=7).predictions
    np.testing.assert_array_equal(found, votes.argmax(axis=1))
    # Of equal neighbours the first ones count.
    ties = selfsup.knn_probe(None, np.ones((4, 2)), [1, 1, 0, 0], np.ones((1, 2)), [1], k=2)
    assert ties.accuracy == 1.0


@pytest.mark.parametrize("probe", ("linear_probe", "knn_probe"))
def test_probes_refuse(probe):
    probe = getattr(selfsup, probe)
    for y, words in (
        (GROUPS[:5], "192 rows, `y` 5 labels"),
        (GROUPS - 1, "class numbers from 0"),
        (GROUPS + 0.5, "class numbers"),
        (np.eye(4)[GROUPS], "class numbers"),
    ):
        with pytest.raises(ValueError, match=words):
            probe(None, X, y, X, GROUPS)
    with pytest.raises(ValueError, match="`x` has 8 features, `x_test` 3"):
        probe(None, X, GROUPS, X[:, :3], GROUPS)
    spoilt = X.copy()
    spoilt[7, 2] = np.nan
    with pytest.raises(ValueError, match="row 7 of `x` are not finite"):
        probe(None, spoilt, GROUPS, X, GROUPS)


def test_arguments_without_a_meaning_are_refused():
    model = made("SimCLR")
    with pytest.raises(ValueError, match="call fit\\(x\\), without y"):
        model.fit(X, GROUPS)
    with pytest.raises(ValueError, match="needs labels"):
        made("SupCon").fit(X)
    with pytest.raises(ValueError, match="weights of samples"):
        model.fit(X, sample_weight=np.ones(192))
    with pytest.raises(ValueError, match="takes no loss, metrics"):
        model.compile("adam", loss="mse", metrics=["mae"])
    with pytest.raises(ValueError, match="`encoder` must be a layer"):
        selfsup.SimCLR(lambda x: x)
    with pytest.raises(ValueError, match="`temperature` must be above 0"):
        selfsup.SimCLR(encoder(), temperature=0)
    with pytest.raises(ValueError, match="`temperature` must be above 0"):
        selfsup.MoCo(encoder(), temperature=-1)
    cut = selfsup.SimCLR(encoder(), layers.Lambda(lambda x: x[:, :4]))
    cut.compile("adam")
    with pytest.raises(ValueError, match="it must keep the shape"):
        cut.fit(X, verbose=0)
    moco = selfsup.MoCo(encoder(), projector=layers.Dense(5), width=4)
    moco.compile("adam")
    with pytest.raises(ValueError, match="gives 5 dimensions, but width=4"):
        moco.fit(X, verbose=0)


@pytest.mark.parametrize("kind", ("SimCLR", "MoCo", "BYOL"))
def test_saved_and_loaded(kind, tmp_path):
    model, _ = fitted(kind, epochs=1)
    path = tmp_path / "model.hmill"
    model.save(path)
    again = hm.models.load_model(path)
    assert type(again) is type(model)
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
    histories = [m.fit(X, batch_size=48, shuffle=False, verbose=0).history for m in (model, again)]
    assert histories[0] == histories[1]


def test_views_may_come_from_a_data_set():
    model = made("SimCLR")
    data = hm.data.Dataset.from_tensor_slices(X).batch(48)
    assert model.fit(data, epochs=2, verbose=0).history["loss"][1] > 0
    history = model.fit(X, batch_size=48, validation_data=(X[:96], None), verbose=0).history
    assert set(history) == {"loss", "spread", "val_loss", "val_spread"}


def test_a_probe_as_callback():
    probe = selfsup.Probe(X[:100], GROUPS[:100], X[100:], GROUPS[100:], every=2, k=5)
    _, history = fitted("SimCLR", epochs=4, callbacks=probe)
    assert len(history["probe"]) == 2
    assert history["probe"][-1] > 0.6
