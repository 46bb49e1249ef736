"""Losses of handmill.selfsup against their formulas in float64, and against torch's gradients."""

from __future__ import annotations

import numpy as np
import pytest

import handmill as hm
from handmill import layers, ops, selfsup
from handmill.runtime.function import TracedFunction

RNG = np.random.default_rng(3)
ZA = RNG.normal(size=(9, 5)).astype("float32")
ZB = (ZA + RNG.normal(size=(9, 5))).astype("float32")
QUEUE = RNG.normal(size=(14, 5)).astype("float32")
LABELS = np.array([0, 1, 2, 0, 1, 5, 0, 6, 1])


def unit(z):
    z = z.astype(np.float64)
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def log_sum(s):
    return np.log(np.sum(np.exp(s), axis=1))


def nt_xent(za, zb, tau):
    z = np.concatenate([unit(za), unit(zb)])
    s = z @ z.T / tau
    np.fill_diagonal(s, -np.inf)
    count = len(za)
    partner = np.roll(np.arange(2 * count), count)
    return np.mean(log_sum(s) - s[np.arange(2 * count), partner])


def info_nce(za, zb, tau):
    s = unit(za) @ unit(zb).T / tau
    return np.mean(log_sum(s) + log_sum(s.T)) / 2 - np.mean(np.diag(s))


def moco(za, zb, tau):
    near = np.sum(unit(za) * unit(zb), axis=1, keepdims=True) / tau
    s = np.concatenate([near, unit(za) @ unit(QUEUE).T / tau], axis=1)
    return np.mean(log_sum(s) - near[:, 0])


def sup_con(z, labels, tau):
    s = unit(z) @ unit(z).T / tau
    np.fill_diagonal(s, -np.inf)
    whole = log_sum(s)
    found = []
    for i, label in enumerate(labels):
        partners = [j for j in range(len(z)) if j != i and labels[j] == label]
        if partners:
            found.append(np.mean([whole[i] - s[i, p] for p in partners]))
    return np.mean(found)


def barlow(za, zb, factor):
    a, b = ((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) for z in (za, zb))
    c = a.T @ b / len(za)
    off = c - np.diag(np.diag(c))
    return np.sum((1 - np.diag(c)) ** 2) + factor * np.sum(off**2)


def vicreg(za, zb):
    loss = 25 * np.mean((za - zb) ** 2)
    for z in (za, zb):
        short = np.maximum(0, 1 - np.sqrt(z.var(0, ddof=1) + 1e-4))
        c = np.cov(z.T)
        loss += 12.5 * np.mean(short) + np.sum((c - np.diag(np.diag(c))) ** 2) / z.shape[1]
    return loss


def triplet(a, p, n, margin):
    near, far = (np.linalg.norm(a - x, axis=1) for x in (p, n))
    return np.mean(np.maximum(near - far + margin, 0))


CASES = {
    "nt_xent": (lambda a, b: selfsup.nt_xent(a, b, 0.5), lambda a, b: nt_xent(a, b, 0.5)),
    "nt_xent_sharp": (lambda a, b: selfsup.nt_xent(a, b, 0.05), lambda a, b: nt_xent(a, b, 0.05)),
    "info_nce": (lambda a, b: selfsup.info_nce(a, b, 0.1), lambda a, b: info_nce(a, b, 0.1)),
    "moco": (
        lambda a, b: selfsup.info_nce(a, b, 0.2, negatives=QUEUE),
        lambda a, b: moco(a, b, 0.2),
    ),
    "sup_con": (
        lambda a, b: selfsup.sup_con(ops.add(a, ops.multiply(b, 0.0)), LABELS, 0.3),
        lambda a, b: sup_con(a, LABELS, 0.3),
    ),
    "sup_con_views": (
        lambda a, b: selfsup.sup_con(ops.stack([a, b], axis=1), LABELS, 0.3),
        lambda a, b: sup_con(
            np.stack([a, b], axis=1).reshape(-1, a.shape[1]), np.repeat(LABELS, 2), 0.3
        ),
    ),
    "barlow_twins": (selfsup.barlow_twins, lambda a, b: barlow(a, b, 5e-3)),
    "vicreg": (selfsup.vicreg, vicreg),
    "negative_cosine": (
        selfsup.negative_cosine,
        lambda a, b: -np.mean(np.sum(unit(a) * unit(b), axis=1)),
    ),
    "triplet": (
        lambda a, b: selfsup.triplet(a, b, QUEUE[:9], 2.0),
        lambda a, b: triplet(a, b, QUEUE[:9], 2.0),
    ),
}


def gradients_of(loss, *arrays):
    variables = [hm.Variable(a) for a in arrays]
    with hm.GradientTape() as tape:
        value = loss(*variables)
    return float(value), tape.gradient(value, variables)


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_are_those_of_the_formula(name):
    ours, formula = CASES[name]
    value, found = gradients_of(ours, ZA, ZB)
    assert value == pytest.approx(formula(ZA.astype("f8"), ZB.astype("f8")), rel=1e-5, abs=1e-6)
    moves = RNG.normal(size=ZA.shape), RNG.normal(size=ZB.shape)
    for i, gradient in enumerate(found):
        if gradient is None:
            assert (name, i) in {("negative_cosine", 1), ("sup_con", 1)}  # a target; unused
            continue

        def along(step, i=i):
            given = [ZA.astype("f8"), ZB.astype("f8")]
            given[i] = given[i] + step * moves[i]
            return formula(*given)

        slope = (along(1e-5) - along(-1e-5)) / 2e-5
        assert np.sum(gradient * moves[i]) == pytest.approx(slope, rel=1e-4, abs=1e-6)


def test_gradients_are_those_of_torch():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional

    def theirs(a, b):
        z = functional.normalize(torch.cat([a, b]), dim=1)
        s = (z @ z.T / 0.5).masked_fill(torch.eye(18, dtype=torch.bool), float("-inf"))
        return functional.cross_entropy(s, torch.arange(18).roll(9))

    inputs = [torch.tensor(z, requires_grad=True) for z in (ZA, ZB)]
    loss = theirs(*inputs)
    loss.backward()
    value, found = gradients_of(selfsup.nt_xent, ZA, ZB)
    assert value == pytest.approx(loss.item(), abs=1e-5)
    for ours, z in zip(found, inputs, strict=True):
        np.testing.assert_allclose(ours, z.grad.numpy(), atol=1e-5 * abs(z.grad).max().item())


def test_semi_hard_negatives():
    anchor = np.array([[0.0], [10.0]], "float32")
    positive = np.array([[1.0], [10.5]], "float32")
    # Of the first anchor, 10.5 away is the nearest that is further than its own; of the second,
    # 9 away. Both are beyond the margin of 5.
    assert float(selfsup.triplet(anchor, positive, margin=5.0)) == 0.0
    want = ((1 - 10.5 + 12) + (0.5 - 9 + 12)) / 2
    assert float(selfsup.triplet(anchor, positive, margin=12.0)) == pytest.approx(want)
    # None is further than its own: the furthest counts. Rows of one class are no negatives.
    near = np.array([[5.0], [10.5]], "float32")
    assert float(selfsup.triplet(anchor, near, margin=0.0, labels=[1, 1])) == 0.0


def test_losses_trace_with_an_open_batch():
    """Also those that are written with all pairs, as Keras's examples write them."""

    class WithPairs(hm.Model):
        def __init__(self):
            super().__init__()
            self.encoder = layers.Dense(4)

        def call(self, x):
            return self.encoder(x)

        def train_step(self, x):
            with hm.GradientTape() as tape:
                z = ops.normalize(self.encoder(x), axis=-1)
                count = ops.shape(z)[0]
                both = ops.concatenate([z, z + 0.1], axis=0)
                s = ops.matmul(both, ops.transpose(both)) - 1e9 * ops.eye(2 * count)
                labels = ops.roll(ops.arange(2 * count), count)
                first = hm.losses.sparse_categorical_crossentropy(labels, s, from_logits=True)
                hot = ops.one_hot(labels, 2 * count)
                again = hm.losses.categorical_crossentropy(hot, s, from_logits=True)
                loss = ops.mean(first) + selfsup.nt_xent(z, z + 0.1)
            weights = self.encoder.trainable_weights
            self.optimizer.apply(tape.gradient(loss, weights), weights)
            return {"loss": loss, "apart": ops.max(ops.abs(first - again))}

    model = WithPairs()
    model.compile("sgd")
    history = model.fit(RNG.normal(size=(53, 5)), batch_size=16, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert history["apart"][-1] < 1e-5


@pytest.mark.parametrize("name", ("nt_xent", "info_nce", "barlow_twins", "vicreg"))
def test_a_single_row_is_refused(name):
    with pytest.raises(ValueError, match=rf"{name}: `za` has 1 row\(s\), but at least 2"):
        getattr(selfsup, name)(ZA[:1], ZB[:1])


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="sup_con: `z` has 1 row"):
        selfsup.sup_con(ZA[:1], [0])
    with pytest.raises(ValueError, match="triplet: `za` has 1 row"):
        selfsup.triplet(ZA[:1], ZB[:1])
    with pytest.raises(ValueError, match="a label for each row"):
        selfsup.sup_con(ZA, LABELS[:4])
    for tau in (0, -1.0, np.nan, "warm"):
        for loss in (selfsup.nt_xent, selfsup.info_nce):
            with pytest.raises(ValueError, match="temperature"):
                loss(ZA, ZB, tau)
    with pytest.raises(ValueError, match="both views must have one shape"):
        selfsup.nt_xent(ZA, ZB[:, :3])
    with pytest.raises(ValueError, match=r"\(batch, dimensions\)"):
        selfsup.vicreg(ZA[:, :, None], ZB[:, :, None])
    with pytest.raises(ValueError, match="`negatives` have 4 dimensions"):
        selfsup.info_nce(ZA, ZB, negatives=QUEUE[:, :4])
    with pytest.raises(ValueError, match="lambda_param"):
        selfsup.barlow_twins(ZA, ZB, -1.0)
    with pytest.raises(ValueError, match="margin"):
        selfsup.triplet(ZA, ZB, margin=-1.0)


def test_zeros_are_no_nan():
    za = np.zeros_like(ZA)
    for loss in (selfsup.nt_xent, selfsup.info_nce, selfsup.negative_cosine):
        value, found = gradients_of(loss, za, ZB)
        assert np.isfinite(value)
        assert all(np.isfinite(g).all() for g in found if g is not None)
        assert np.array_equal(found[0], za)
    value, found = gradients_of(lambda z: selfsup.sup_con(z, LABELS), za)
    assert np.isfinite(value)
    assert np.array_equal(found[0], za)


def test_identical_rows_give_the_loss_of_guessing():
    same = np.ones((6, 4), "float32")
    assert float(selfsup.nt_xent(same, same)) == pytest.approx(np.log(11), rel=1e-6)
    assert float(selfsup.info_nce(same, same)) == pytest.approx(np.log(6), rel=1e-6)
    assert float(selfsup.negative_cosine(same, same)) == pytest.approx(-1, rel=1e-6)
    for loss in (selfsup.barlow_twins, selfsup.vicreg):
        value, found = gradients_of(loss, same, same)
        assert np.isfinite(value)
        assert all(np.isfinite(g).all() for g in found)


def test_labels_without_a_second_member_are_left_out():
    alone = np.arange(9)
    value, found = gradients_of(lambda z: selfsup.sup_con(z, alone), ZA)
    assert value == 0.0
    assert not np.any(found[0])
    few = np.array([0, 0, *range(1, 8)])
    assert float(selfsup.sup_con(ZA, few)) == pytest.approx(sup_con(ZA, few, 0.1), rel=1e-5)


def test_negatives_of_a_queue_get_no_gradient_when_told():
    def loss(z):
        return selfsup.info_nce(ZA, ZB, negatives=ops.stop_gradient(z))

    assert gradients_of(loss, QUEUE)[1][0] is None


def test_the_same_bits_for_any_threads():
    za, zb = (RNG.normal(size=(300, 33)).astype("float32") for _ in range(2))
    before, found = hm.config.num_threads(), []
    try:
        for threads in (1, 2, 3, 7):
            hm.config.set_num_threads(threads)
            value, both = gradients_of(selfsup.nt_xent, za, zb)
            found.append((value, [g.tobytes() for g in both]))
    finally:
        hm.config.set_num_threads(before)
    assert all(f == found[0] for f in found)


@pytest.mark.skipif(not hm.config.has_kernels(), reason="plans are those of kernels")
def test_no_matrix_of_all_pairs_is_kept():
    def step(za, zb):
        with hm.GradientTape() as tape:
            tape.watch([za, zb])
            loss = selfsup.nt_xent(za, zb)
        return (loss, *tape.gradient(loss, [za, zb]))

    rows = np.ones((1024, 16), "float32")
    plan = TracedFunction(step).plan(rows, rows)
    assert not any(launch["host"] for launch in plan.summary())
    assert plan.arena_bytes < 10 * 2 * rows.nbytes  # all pairs of 2,048 rows are 128 times as much
