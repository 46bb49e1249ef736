"""Pruning: formulas of TF-MOT, exact counts, masks in the update, files, bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest

import handmill
from handmill import _core, compress, layers, optimizers
from handmill.callbacks import Prune
from handmill.compress.choice import choose, erk_counts, granularity_of, largest
from handmill.compress.schedules import ConstantSparsity, PolynomialDecay
from handmill.optimizers.masks import owner_of, set_mask

X = np.random.default_rng(0).normal(size=(96, 12)).astype("float32")
Y = (X[:, :3].sum(axis=1) > 0).astype("int32")


def model_of(optimizer="adam", **dense):
    handmill.utils.set_random_seed(3)
    model = handmill.Sequential(
        [handmill.Input((12,)), layers.Dense(20, "relu", **dense), layers.Dense(2)]
    )
    loss = handmill.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    return model


def zeros(model):
    return [int(np.count_nonzero(w == 0)) for w in model.get_weights()[::2]]


def test_schedules_are_those_of_tf_mot():
    decay = PolynomialDecay(0.2, 0.9, 100, 300, power=3, frequency=50)
    for step in (0, 100, 137, 300, 400):
        p = min(1, max(0, (step - 100) / 200))
        assert decay(step) == pytest.approx(0.9 + (0.2 - 0.9) * (1 - p) ** 3)
    assert [s for s in range(500) if decay.is_due(s)] == [100, 150, 200, 250, 300]
    constant = ConstantSparsity(0.5, 3, end_step=10, frequency=4)
    assert [s for s in range(40) if constant.is_due(s)] == [3, 7]
    assert ConstantSparsity(0.5, 2, frequency=7).is_due(2 + 7 * 1000)


def test_counts_are_exact_and_ties_go_to_the_lower_index():
    rng = np.random.default_rng(1)
    for size in (1, 2, 17, 256):
        scores = rng.integers(0, 4, size).astype("float32")
        for count in range(0, size + 1, max(1, size // 9)):
            kept = largest(scores, count)
            want = np.zeros(size, bool)
            want[np.lexsort((np.arange(size), -scores))[:count]] = True
            np.testing.assert_array_equal(kept, want)
    one = choose([np.ones((3, 5), "float32")], 0.6, granularity_of("weight"), "layer")[0]
    np.testing.assert_array_equal(one.ravel(), [True] * 6 + [False] * 9)


def test_granularities():
    rng = np.random.default_rng(2)
    w = rng.normal(size=(3, 40)).astype("float32")
    block = choose([w], 0.5, granularity_of("block"), "layer")[0]
    blocks = [block[:, a:b] for a, b in ((0, 16), (16, 32), (32, 40))]
    assert all((b.all(axis=1) | ~b.any(axis=1)).all() for b in blocks)
    assert sum(int(b[:, 0].sum()) for b in blocks) == round(9 * 0.5)
    channel = choose([w], 0.5, granularity_of("channel"), "layer")[0]
    norms = np.linalg.norm(w, axis=0)
    np.testing.assert_array_equal(channel[0], norms >= np.sort(norms)[20])
    assert (channel == channel[0]).all()
    w = rng.normal(size=(3, 2, 5)).astype("float32")  # 6 inputs: a group of 4, and half a group
    two = choose([w], 0.0, granularity_of("2:4"), "layer")[0].reshape(6, 5)
    assert (two[:4].sum(axis=0) == 2).all()
    assert (two[4:].sum(axis=0) == 1).all()
    small, big = np.full((4, 4), 0.1, "float32"), np.full((4, 4), 9.0, "float32")
    masks = choose([small, big], 0.5, granularity_of("weight"), "global")
    assert [int(m.sum()) for m in masks] == [1, 15]  # something stays of each


def test_small_kernels_lose_less():
    """Erdos-Renyi-Kernel: the part that stays is as the sum of the sizes over their product."""
    # The last layer would hold 815 of its 640 weights, so it holds all, and the first bears it.
    assert erk_counts([(784, 64), (64, 10)], [50176, 640], 0.8) == [10163 - 640, 640]
    shapes = [(3, 3, 16, 32), (3, 3, 32, 64), (400, 120), (1, 7)]
    sizes = [math.prod(shape) for shape in shapes]
    for sparsity in (0.0, 0.3, 0.9, 0.99, 0.9999):
        counts = erk_counts(shapes, sizes, sparsity)
        total = max(round(sum(sizes) * (1 - sparsity)), 4)
        assert sum(counts) == total
        assert all(1 <= count <= size for count, size in zip(counts, sizes, strict=True))
        parts = [
            c / s * math.prod(h) / sum(h) for c, s, h in zip(counts, sizes, shapes, strict=True)
        ]
        open_ = [p for p, c, s in zip(parts, counts, sizes, strict=True) if 50 < c < s]
        assert not open_ or max(open_) == pytest.approx(min(open_), rel=0.02)
    assert erk_counts([(12, 9)], [9], 0.5) == [4]  # of one kernel as much as of any
    assert erk_counts([(0, 3), (2, 2)], [0, 4], 0.5) == [0, 2]
    model = model_of()
    report = compress.prune(model, 0.8)
    assert [row[2] for row in report.rows] == zeros(model)
    assert sum(zeros(model)) == 280 - 56
    assert zeros(model)[1] < 0.8 * 40
    blocks = compress.prune(model_of(), 0.5, "block")
    assert sum(row[2] for row in blocks.rows) >= 0.4 * 280
    half = compress.prune(model_of(), granularity="2:4")
    assert [row[2] for row in half.rows] == [120, 20]
    with pytest.raises(ValueError, match="leave `scope` out"):
        compress.prune(model, granularity="2:4", scope="erk")


@pytest.mark.parametrize(
    "make",
    (
        lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        lambda: optimizers.AdamW(0.01, weight_decay=0.1),
        lambda: optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=3),
        lambda: optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=2),
        lambda: optimizers.LossScaleOptimizer(optimizers.RMSprop(0.01)),
        lambda: optimizers.MultiOptimizer(
            optimizers.OptimizerMap(optimizers.SGD(0.1), {".*kernel": optimizers.Lion(0.01)})
        ),
        lambda: optimizers.ScheduleFreeAdamW(0.01),
    ),
    ids=["sgd", "adamw", "ema", "accumulated", "loss_scale", "multi", "schedule_free"],
)
def test_no_update_brings_a_weight_back(make):
    model = model_of(make(), kernel_constraint="unit_norm")
    model.fit(X, Y, verbose=0)  # momenta are not zero
    report = compress.prune(model, 0.7, scope="layer")
    before = model.get_weights()
    model.fit(X, Y, epochs=3, verbose=0)
    assert zeros(model) == [r[2] for r in report.rows] == [240 - 72, 40 - 12]
    for old, new in zip(before[::2], model.get_weights()[::2], strict=True):
        assert (new[old == 0] == 0).all()
        assert not np.array_equal(old, new)


def test_a_model_that_is_compiled_again_stays_pruned():
    """With another optimizer, wrapped, for a part of the weights; until masks are taken off."""
    model = model_of()
    compress.prune(model, 0.5, scope="layer")
    loss = model.loss
    for optimizer in ("sgd", optimizers.LossScaleOptimizer(optimizers.AdamW(0.1))):
        model.compile(optimizer, loss)
        model.fit(X, Y, epochs=2, verbose=0)
        assert zeros(model) == [120, 20]
    model.layers[0].trainable = False
    model.compile("adam", loss)
    model.fit(X, Y, verbose=0)
    assert zeros(model) == [120, 20]
    compress.strip_pruning(model)
    model.compile("adam", loss)
    model.fit(X, Y, verbose=0)
    assert zeros(model) == [120, 0]


def test_files_and_threads_keep_masks_and_bits(tmp_path):
    threads = handmill.config.num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            _core.set_num_threads(count)
            model = model_of(optimizers.SGD(0.1, momentum=0.9))
            prune = Prune(PolynomialDecay(0.0, 0.8, 1, 9, frequency=2), scope="layer")
            model.fit(X, Y, batch_size=16, epochs=2, verbose=0, callbacks=[prune])
            model.save(tmp_path / "m.hmill")
            again = handmill.models.load_model(tmp_path / "m.hmill")
            for one in (model, again):
                one.fit(X, Y, batch_size=16, epochs=2, verbose=0)
                found.append(b"".join(w.tobytes() for w in one.get_weights()))
            assert zeros(again) == [240 - 48, 40 - 8]
    finally:
        _core.set_num_threads(threads)
    assert len(set(found)) == 1


def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    def run(model, epochs, **kwargs):
        prune = Prune(PolynomialDecay(0.0, 0.8, 2, 20, frequency=3), scope="layer")
        model.fit(X, Y, 16, epochs, verbose=0, callbacks=[prune], **kwargs)
        return [w.tobytes() for w in model.get_weights()]

    whole = run(model_of(), 5)
    run(model_of(), 2, resume=tmp_path / "run.hmill")
    assert run(model_of(), 5, resume=tmp_path / "run.hmill") == whole


def test_keras_files_tell_what_keras_does_not_know(tmp_path):
    pytest.importorskip("h5py")
    model = model_of()
    compress.prune(model, 0.5, scope="layer")
    with pytest.warns(UserWarning, match="strip_pruning"):
        model.save(tmp_path / "m.keras")
    again = handmill.models.load_model(tmp_path / "m.keras")
    again.fit(X, Y, verbose=0)
    assert zeros(again) == zeros(model) == [120, 20]
    compress.strip_pruning(model)
    model.fit(X, Y, verbose=0)
    assert zeros(model) == [0, 0]


def test_without_an_optimizer_only_the_weights_change():
    model = handmill.Sequential([handmill.Input((12,)), layers.Dense(4)])
    report = compress.prune(model, 0.5)
    assert not report.lasting
    assert "not compiled" in str(report)
    assert zeros(model) == [24]
    assert report.sparsity == 0.5


def test_a_layer_can_be_chosen():
    model = model_of()
    name = model.layers[-1].name
    assert len(compress.prune(model, 0.5, layers=[name]).rows) == 1
    model.layers[0].trainable = False
    assert (
        len(compress.prune(model_of(), 0.5, layers=lambda layer: layer.name == "x" or 1).rows) == 2
    )


@pytest.mark.parametrize("bad", (-0.1, 1.0, 1.5, float("nan"), True, "half", None))
def test_a_sparsity_out_of_range_is_refused_and_changes_nothing(bad):
    model = model_of()
    before = model.get_weights()
    with pytest.raises((ValueError, TypeError), match=r"schedule|sparsity"):
        compress.prune(model, bad)
    assert all(map(np.array_equal, before, model.get_weights()))
    with pytest.raises((ValueError, TypeError)):
        ConstantSparsity(bad, 0)


def test_bad_schedules():
    with pytest.raises(ValueError, match="comes before"):
        ConstantSparsity(0.5, 10, 5)
    with pytest.raises(ValueError, match="comes before"):
        PolynomialDecay(0.0, 0.5, 10, 5)
    for power in (0, -1):
        with pytest.raises(ValueError, match="power"):
            PolynomialDecay(0.0, 0.5, 0, 5, power=power)
    with pytest.warns(UserWarning, match="weights come back"):
        PolynomialDecay(0.8, 0.5, 0, 5)
    prune = Prune(ConstantSparsity(0.5, 1000))
    with pytest.warns(handmill.TrainingWarning, match="begins at step 1000"):
        model_of().fit(X, Y, verbose=0, callbacks=[prune])


def test_bad_arguments_and_models():
    model = model_of()
    for name in ("4:4", "5:4", "0:4", "filters", 3):
        with pytest.raises(ValueError, match="granularity"):
            compress.prune(model, granularity=name)
    with pytest.raises(ValueError, match="leave `schedule` out"):
        compress.prune(model, 0.75, "2:4")
    with pytest.raises(ValueError, match="leave `scope` out"):
        compress.prune(model, granularity="2:4", scope="global")
    with pytest.raises(ValueError, match="`scope`"):
        compress.prune(model, 0.5, scope="all")
    with pytest.raises(ValueError, match="no layer 'encoder'"):
        compress.prune(model, 0.5, layers=["encoder"])
    with pytest.raises(TypeError, match="`layers`"):
        compress.prune(model, 0.5, layers="dense")
    with pytest.raises(ValueError, match="must be built"):
        compress.prune(handmill.Sequential([layers.Dense(3)]), 0.5)
    with pytest.raises(ValueError, match="no kernels"):
        compress.prune(handmill.Sequential([handmill.Input((3,)), layers.Dropout(0.5)]), 0.5)
    before = model.get_weights()
    model.layers[-1].kernel.assign(np.full((20, 2), np.nan, "float32"))
    with pytest.raises(ValueError, match="NaN"):
        compress.prune(model, 0.5, scope="layer")
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    model = model_of()
    compress.prune(model, 0.5, scope="layer")
    kernel = model.layers[0].kernel
    with pytest.raises(ValueError, match="must be bool of shape"):
        set_mask(owner_of(model.optimizer, kernel), kernel, np.ones((3, 3), bool))
    for masked in ([-1], ["0"], [0, 0], 3):
        with pytest.raises(ValueError, match="masked"):
            optimizers.SGD.from_config({**optimizers.SGD().get_config(), "masked": masked})


def test_schedules_that_an_earlier_training_has_passed():
    """Steps are the optimizer's: without masks the first batch is due, whatever the frequency."""
    y = X[:, :2]
    for schedule, ended in (
        (PolynomialDecay(0.0, 0.75, begin_step=0, end_step=4, frequency=2), True),
        (ConstantSparsity(0.75, 0), False),
        (0.75, False),
    ):
        model = handmill.Sequential([handmill.Input((12,)), layers.Dense(16), layers.Dense(2)])
        model.compile("adam", "mse")
        model.fit(X, y, batch_size=8, verbose=0)
        prune = Prune(schedule, scope="layer")
        if ended:
            with pytest.warns(handmill.errors.TrainingWarning, match="pruned at once"):
                model.fit(X, y, batch_size=8, verbose=0, callbacks=[prune])
        else:
            model.fit(X, y, batch_size=8, verbose=0, callbacks=[prune])
        zeros = [int(np.count_nonzero(w == 0)) for w in model.get_weights()[::2]]
        assert zeros == [144, 24]
        model.fit(X, y, batch_size=8, verbose=0, callbacks=[prune])  # masks are there: no warning


@pytest.mark.parametrize("optimizer", ("adam", "scaled"))
def test_copies_keep_what_is_pruned(optimizer):
    """Other weights, the same zeros, also when the copy is trained."""
    if optimizer == "scaled":
        optimizer = optimizers.LossScaleOptimizer(optimizers.Adam())
    model = model_of(optimizer)
    compress.prune(model, 0.75, scope="layer")
    copy = handmill.models.clone_model(model)
    pairs = list(zip(model.get_weights()[::2], copy.get_weights()[::2], strict=True))
    assert all(np.array_equal(a == 0, b == 0) for a, b in pairs)
    assert not any(np.array_equal(a, b) for a, b in pairs)
    copy.fit(X, Y, epochs=2, verbose=0)
    assert zeros(copy) == zeros(model) == [180, 30]


def test_copies_that_cannot_keep_it_say_so():
    model = model_of()
    compress.prune(model, 0.5, scope="layer")

    def wider(layer):
        config = {**layer.get_config(), "units": 2 if layer is model.layers[-1] else 24}
        return type(layer).from_config(config)

    with pytest.warns(UserWarning, match="does not keep the zeros of pruned weights.*dense"):
        copy = handmill.models.clone_model(model, clone_function=wider)
    assert zeros(copy) == [0, 0]
    assert copy.fit(X, Y, verbose=0) is not None


def test_copies_of_models_that_are_not_pruned_say_nothing(recwarn):
    handmill.models.clone_model(model_of())
    assert not recwarn.list
