"""CTC: the probability of labels that may stand anywhere in a sequence."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers, losses, ops
from layer_parity import errors_of, normal, weights_of


def by_counting(logits: np.ndarray, label: list[int], steps: int, blank: int) -> float:
    """Adds up the probabilities of all ways to say a label."""
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    total = 0.0
    for way in itertools.product(range(logits.shape[1]), repeat=steps):
        said = [c for c, _ in itertools.groupby(way) if c != blank]
        if said == label:
            total += float(np.prod([chances[t, c] for t, c in enumerate(way)]))
    return -np.log(total)


LABELS = np.array([[1, 2, 1], [2, 2, 0], [1, 0, 0], [2, 2, 7], [0, 9, 9]])
COUNTS = np.array([3, 2, 1, 2, 0])
STEPS = np.array([5, 5, 4, 3, 2])


def test_each_way_to_say_a_label_counts() -> None:
    logits = normal(5, 5, 3).astype("float64")
    rows = zip(logits, LABELS, COUNTS, STEPS, strict=True)
    want = [by_counting(x, list(y[:n]), t, 0) for x, y, n, t in rows]
    found = ops.ctc_loss(LABELS, logits, COUNTS, STEPS)  # padding may be anything
    assert found.dtype == "float64"
    np.testing.assert_allclose(found, want, rtol=1e-10)
    with handmill.use_backend("numpy"):
        again = ops.ctc_loss(LABELS, logits, COUNTS, STEPS)
    np.testing.assert_allclose(again, want, rtol=1e-10)
    other = ops.ctc_loss(np.array([[0, 1]]), logits[:1], np.array([2]), np.array([4]), mask_index=2)
    np.testing.assert_allclose(other, [by_counting(logits[0], [0, 1], 4, 2)], rtol=1e-10)
    x = handmill.Input(batch_shape=(1, 5, 3))
    model = handmill.Model(x, ops.ctc_loss(LABELS[:1], x, COUNTS[:1], STEPS[:1]))
    np.testing.assert_allclose(model(logits[:1].astype("float32")), found[:1], rtol=1e-5)


@pytest.mark.slow
def test_the_gradient_is_that_of_the_sum() -> None:
    logits = normal(5, 5, 3).astype("float64")
    v = handmill.Variable(logits, dtype="float64")
    with handmill.GradientTape() as tape:
        loss = ops.sum(ops.ctc_loss(LABELS, v, COUNTS, STEPS))
    found = np.asarray(tape.gradient(loss, v))
    for place in itertools.product(range(5), (0, 3), (1,)):
        moved = [logits.copy(), logits.copy()]
        moved[0][place] -= 1e-5
        moved[1][place] += 1e-5
        low, high = (ops.sum(ops.ctc_loss(LABELS, m, COUNTS, STEPS)) for m in moved)
        np.testing.assert_allclose(found[place], (high - low) / 2e-5, rtol=1e-5, atol=1e-8)
    assert not found[3, 3:].any()  # steps behind the end


@pytest.mark.peers
def test_numbers_of_keras(keras: Any) -> None:
    logits = normal(5, 5, 3)
    counts, steps = COUNTS.copy(), STEPS.copy()
    steps[0] = 2  # fewer than three labels need
    found = ops.ctc_loss(LABELS, logits, counts, steps)
    want = np.asarray(keras.ops.ctc_loss(np.minimum(LABELS, 2), logits, counts, steps))
    np.testing.assert_allclose(found, want, rtol=2e-6)
    assert found[0] > 99_000
    np.testing.assert_allclose(
        losses.CTC()(LABELS[:3], logits[:3]), keras.losses.CTC()(LABELS[:3], logits[:3]), rtol=2e-6
    )
    for y, x in ((LABELS[0], logits), (LABELS, logits[0])):
        theirs, ours = errors_of(keras, lambda k, y=y, x=x: k.losses.ctc(y, x))
        assert ours[:40] == theirs[:40]


@pytest.mark.peers
def test_training_as_in_keras(keras: Any) -> None:
    x, y = normal(24, 9, 5), np.random.default_rng(1).integers(0, 4, (24, 4))
    models = []
    for k in (keras, handmill):
        model = k.Sequential([k.layers.Input((9, 5)), k.layers.Dense(6, "tanh"), k.layers.Dense(4)])
        model.compile(k.optimizers.Adam(0.01), k.losses.CTC())
        models.append(model)
    theirs, ours = models
    ours.set_weights(weights_of(theirs))
    want, found = (
        m.fit(x, y, batch_size=10, epochs=3, shuffle=False, verbose=0).history["loss"]
        for m in models
    )
    np.testing.assert_allclose(found, want, rtol=1e-5)
    program, _ = ours.step_to_compare(x, y)
    assert [s["kernel"] for s in program.plan(x, y).summary() if s["host"]] == []
    assert handmill.compare(ours, x, y).ok


def test_lengths_and_labels_that_do_not_fit() -> None:
    model = handmill.Sequential([layers.Input((None, 5)), layers.Dense(4)])
    model.compile("sgd", "ctc")
    x, y = normal(6, 9, 5), np.full((6, 3), 2)
    assert model.train_on_batch(x, y) > 0
    assert model.train_on_batch(x[:, :7], y) > 0
    before = model.get_weights()
    y[4, 1] = 4
    with pytest.raises(ValueError, match=r"label 4 is not an integer from 0 to 3.*row 4"):
        model.train_on_batch(x, y)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match=r"ctc_loss: expected labels of shape.*output=\(9, 5\)"):
        ops.ctc_loss(y[:1], x[0], [3], [9])


@pytest.mark.parametrize("backend", ("native", "numpy"))
@pytest.mark.parametrize(
    ("counts", "steps", "text"),
    (
        ([3, 4], [5, 5], "target_length 4 is not an integer from 0 to 3 .*row 1"),
        ([-1, 3], [5, 5], "target_length -1 is not"),
        ([3, 3], [6, 5], "output_length 6 is not an integer from 0 to 5"),
        ([3, 3], [5, -1], "output_length -1 is not .*row 1"),
    ),
)
def test_lengths_beyond_what_is_there(
    backend: str, counts: list[int], steps: list[int], text: str
) -> None:
    """Keras takes as many as there are, or loses the end and gives a number all the same."""
    with handmill.use_backend(backend), pytest.raises(ValueError, match=text):
        ops.ctc_loss(LABELS[:2], normal(2, 5, 3), np.array(counts), np.array(steps))


def test_labels_and_blanks_that_are_no_classes() -> None:
    """Numbers are looked at as they were given."""
    x, counts, steps = normal(1, 5, 3), np.array([1]), np.array([5])
    for label in (1.5, 2**32 + 1, np.nan, -1):
        with pytest.raises(ValueError, match="is not an integer from 0 to 2"):
            ops.ctc_loss(np.array([[label]]), x, counts, steps)
    found = [ops.ctc_loss(np.array([[1]], d), x, counts, steps) for d in ("int32", "float64", "u1")]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    with pytest.raises(ValueError, match=r"output_length 4.5 is not"):
        ops.ctc_loss(np.array([[1]]), x, counts, np.array([4.5]))
    with pytest.raises(ValueError, match="mask_index is one of the 3 classes"):
        ops.ctc_loss(np.array([[1]]), x, counts, steps, mask_index=3)
    with pytest.raises(ValueError, match="mask_index is one of the 3 classes"):
        ops.ctc_decode(x, steps, mask_index=-4)


@pytest.mark.peers
def test_labels_longer_than_sequences(keras: Any) -> None:
    """No way of saying them has a probability: Keras's number, and a gradient that is finite."""
    y, x = np.array([[1, 2, 1, 2, 1, 2], [1, 1, 1, 0, 0, 0]]), normal(2, 4, 3)
    counts, steps = np.array([6, 3]), np.array([4, 4])  # the second needs five steps
    want = np.asarray(keras.ops.ctc_loss(y, x, counts, steps))
    for backend in ("native", "numpy"):
        with handmill.use_backend(backend):
            found = ops.ctc_loss(y, x, counts, steps)
        np.testing.assert_allclose(found, want, rtol=2e-6)
    assert (found > 99_000).all()
    v = handmill.Variable(x)
    with handmill.GradientTape() as tape:
        loss = ops.sum(ops.ctc_loss(y, v, counts, steps))
    assert np.isfinite(np.asarray(tape.gradient(loss, v))).all()


Labels = tuple[int, ...]


def most_probable(
    logits: np.ndarray, paths: int, blank: int
) -> list[tuple[tuple[int, ...], float]]:
    """All labels that can be said, by the probability of all ways to say them."""
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    totals: dict[Labels, float] = {}
    for way in itertools.product(range(logits.shape[1]), repeat=len(logits)):
        said = tuple(c for c, _ in itertools.groupby(way) if c != blank)
        totals[said] = totals.get(said, 0.0) + float(
            np.prod([chances[t, c] for t, c in enumerate(way)])
        )
    ranked = sorted(totals.items(), key=lambda item: -item[1])[:paths]
    return [(said, float(np.log(total))) for said, total in ranked]


@pytest.mark.parametrize("blank", (0, 1, -1))
def test_a_search_finds_the_most_probable_labels(blank: int) -> None:
    logits, steps = 2 * normal(3, 5, 3).astype("float64"), np.array([5, 3, 0])
    labels, scores = ops.ctc_decode(logits, steps, "beam_search", top_paths=4, mask_index=blank)
    assert (labels.shape, labels.dtype, scores.shape) == ((4, 3, 5), np.int32, (3, 4))
    for b, count in enumerate(steps):
        wanted = most_probable(logits[b, :count], 4, blank % 3)
        for place, (said, score) in enumerate(wanted):
            assert labels[place, b].tolist() == [*said, *[-1] * (5 - len(said))]
            np.testing.assert_allclose(scores[b, place], score, rtol=1e-10, atol=1e-12)
    assert np.isneginf(scores[2, 1:]).all()  # of no steps there is one way, to say nothing
    assert (labels[1:, 2] == -1).all()


def test_greedy_labels() -> None:
    x = np.eye(4)[[[1, 1, 0, 1, 3, 3], [2, 0, 0, 2, 2, 1]]] * 2
    labels, scores = ops.ctc_decode(x, [6, 5])
    assert labels.tolist() == [[[1, 1, 3, -1, -1, -1], [2, 2, -1, -1, -1, -1]]]
    assert scores.tolist() == [[-12.0], [-10.0]]
    labels, _ = ops.ctc_decode(x, [6, 5], merge_repeated=False, mask_index=3)
    assert labels.tolist() == [[[1, 1, 0, 1, -1, -1], [2, 0, 0, 2, 2, -1]]]


@pytest.mark.slow  # JAX compiles the search
@pytest.mark.parametrize("strategy", ("greedy", "beam_search"))
def test_decoding_as_keras(strategy: str) -> None:
    keras = pytest.importorskip("keras")
    x, steps = 3 * normal(4, 6, 5).astype("float32"), np.array([6, 4, 1, 5])
    more = {"beam_width": 3, "top_paths": 3} if strategy == "beam_search" else {}
    wanted = keras.ops.ctc_decode(x, steps, strategy, mask_index=2, **more)
    found = ops.ctc_decode(x, steps, strategy, mask_index=2, **more)
    np.testing.assert_array_equal(found[0], np.asarray(wanted[0]))
    np.testing.assert_allclose(found[1], np.asarray(wanted[1]), rtol=1e-4)
    logits, lengths = handmill.Input((6, 5)), handmill.Input((), dtype="int32")
    model = handmill.Model(
        [logits, lengths], ops.ctc_decode(logits, lengths, strategy, mask_index=2, **more)
    )
    for a, b in zip(model([x, steps]), found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    (
        ({"strategy": "best"}, "greedy"),
        ({"beam_width": 0}, "beam_width must be a whole number"),
        ({"top_paths": 1.5}, "top_paths must be a whole number"),
        ({"inputs": np.zeros((2, 3))}, r"\(batch, steps, classes\).*\(2, 3\)"),
        ({"sequence_lengths": np.zeros((2, 2))}, r"lengths of shape \(batch,\)"),
    ),
)
def test_decoding_what_does_not_fit(arguments: dict[str, Any], words: str) -> None:
    given = {"inputs": np.zeros((2, 3, 4)), "sequence_lengths": [3, 3], "strategy": "beam_search"}
    with pytest.raises(ValueError, match=words):
        ops.ctc_decode(**{**given, **arguments})
    labels, scores = ops.ctc_decode(np.full((1, 2, 3), np.nan), [2], "beam_search")
    assert (labels == -1).all()
    assert np.isnan(scores).all()


@pytest.mark.parametrize(
    ("call", "match"),
    (
        (lambda x: ops.ctc_loss([[1, 2]], x, [2, 1], [6, 6]), r"target=\(1, 2\)"),
        (lambda x: ops.ctc_loss([[1], [2]], x, [1], [6, 6]), r"target_length=\(1,\)"),
        (lambda x: ops.ctc_decode(x, [7, 6]), "sequence_length 7 is not an integer from 0 to 6"),
        (lambda x: ops.ctc_decode(x, [-1, 6]), "sequence_length -1 is not"),
        (lambda x: ops.ctc_decode(x, [6]), r"Received: sequence_lengths.shape=\(1,\)"),
        (lambda x: ops.ctc_decode(x, 6), r"Received: sequence_lengths.shape=\(\)"),
    ),
)
def test_batches_and_lengths_that_do_not_fit_are_refused(call, match):
    """None is repeated for the others of a batch, or cut to the steps there are."""
    with pytest.raises(ValueError, match=match):
        call(np.zeros((2, 6, 4), "float32"))
