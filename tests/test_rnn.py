"""Recurrent layers: what they compute, by NumPy; masks, states, lengths, errors, bits."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import handmill
from handmill import config, layers, ops
from handmill.primitives.recurrent import GATES
from handmill.runtime.function import TracedFunction

LAYERS = {
    "SimpleRNN": layers.SimpleRNN,
    "GRU": layers.GRU,
    "GRU before": partial(layers.GRU, reset_after=False),
    "LSTM": layers.LSTM,
}
KINDS = tuple(LAYERS)
MASK = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def along(kind: str, weights: list[np.ndarray], x: np.ndarray, mask: Any, h: Any, c: Any) -> Any:
    """The steps of a layer as books write them, in float64: outputs, h and c at the end."""
    kernel, recurrent, bias = (w.astype(np.float64) for w in weights)
    found = []
    for t in range(x.shape[1]):
        of_x = x[:, t] @ kernel
        if kind == "SimpleRNN":
            new_h, new_c = np.tanh(of_x + h @ recurrent + bias), c
        elif kind == "LSTM":
            i, f, g, o = np.split(of_x + h @ recurrent + bias, 4, axis=1)
            new_c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            new_h = sigmoid(o) * np.tanh(new_c)
        elif kind == "GRU before":
            r_z, r_r, r_h = np.split(recurrent, 3, axis=1)
            x_z, x_r, x_h = np.split(of_x + bias, 3, axis=1)
            z, r = sigmoid(x_z + h @ r_z), sigmoid(x_r + h @ r_r)
            new_h = z * h + (1 - z) * np.tanh(x_h + (r * h) @ r_h)
            new_c = c
        else:
            x_z, x_r, x_h = np.split(of_x + bias[0], 3, axis=1)
            h_z, h_r, h_h = np.split(h @ recurrent + bias[1], 3, axis=1)
            z = sigmoid(x_z + h_z)
            new_h = z * h + (1 - z) * np.tanh(x_h + sigmoid(x_r + h_r) * h_h)
            new_c = c
        counts = mask[:, t, None]
        h, c = np.where(counts, new_h, h), np.where(counts, new_c, c)
        found.append(h)
    return np.stack(found, 1), h, c


def made(kind: str, units: int = 6, features: int = 3, **given: Any) -> Any:
    """A layer with weights of all signs, biases too."""
    layer = LAYERS[kind](units, **given)
    layer.build((None, None, features))
    rng = np.random.default_rng(7)
    layer.set_weights([rng.uniform(-0.6, 0.6, w.shape).astype("float32") for w in layer.weights])
    return layer


@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_those_of_the_books(kind: str) -> None:
    x, h, c = normal(4, 5, 3), 0.5 * normal(4, 6, seed=1), 0.5 * normal(4, 6, seed=2)
    layer = made(kind, return_sequences=True, return_state=True)
    begins = [h, c] if kind == "LSTM" else [h]
    for mask in (np.ones((4, 5), bool), MASK):
        want, end_h, end_c = along(kind, layer.get_weights(), x, mask, h, c)
        for training in (False, True):
            given = None if mask.all() else mask
            y, *ends = layer(x, initial_state=begins, mask=given, training=training)
            np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)
            for a, b in zip(ends, (end_h, end_c), strict=False):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_directions_last_outputs_and_zeros(kind: str) -> None:
    x = normal(4, 5, 3)
    zeros = np.zeros((4, 6))
    forward = made(kind, return_sequences=True)
    want, end, _ = along(kind, forward.get_weights(), x[:, ::-1], MASK[:, ::-1], zeros, zeros)
    backwards = made(kind, return_sequences=True, go_backwards=True)
    np.testing.assert_allclose(backwards(x, mask=MASK), want, rtol=1e-5, atol=1e-6)
    last = made(kind, go_backwards=True)
    np.testing.assert_allclose(last(x, mask=MASK), end, rtol=1e-5, atol=1e-6)
    hidden = made(kind, return_sequences=True, go_backwards=True, zero_output_for_mask=True)
    want = np.where(MASK[:, ::-1, None], want, 0)
    np.testing.assert_allclose(hidden(x, mask=MASK), want, rtol=1e-5, atol=1e-6)
    both = layers.Bidirectional(made(kind, return_sequences=True))
    both(x)
    both.set_weights(2 * forward.get_weights())
    y, _, _ = along(kind, forward.get_weights(), x, MASK, zeros, zeros)
    want = np.concatenate([np.where(MASK[..., None], y, 0), want[:, ::-1]], -1)
    np.testing.assert_allclose(both(x, mask=MASK), want, rtol=1e-5, atol=1e-6)


def slopes(layer: Any, x: np.ndarray, mask: Any, factors: np.ndarray) -> list[np.ndarray]:
    """Of a weighted sum of the outputs: by the inputs, then by the weights."""
    with handmill.GradientTape() as tape:
        inputs = ops.convert_to_tensor(x)
        tape.watch(inputs)
        total = ops.sum(layer(inputs, mask=mask, training=True) * factors)
    found = tape.gradient(total, [inputs, *layer.trainable_variables])
    return [np.asarray(g) for g in found]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backwards", (False, True), ids=["forward", "backward"])
def test_one_operator_has_the_gradients_of_the_steps(
    kind: str, backwards: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, factors = normal(4, 5, 3), normal(4, 5, 6, seed=4)
    given = {"dropout": 0.3, "recurrent_dropout": 0.4, "seed": 5, "go_backwards": backwards}
    for mask in (None, MASK):
        for options in ({}, given):
            found = []
            for steps in (False, True):
                layer = made(kind, return_sequences=True, **options)
                with monkeypatch.context() as patch:
                    if steps:
                        patch.setattr(type(layer.cell), "fused", None)
                    found.append(slopes(layer, x, mask, factors))
            for a, b in zip(*found, strict=True):
                np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_in_masked_steps_reaches_nothing(kind: str) -> None:
    x, factors = normal(4, 5, 3), normal(4, 5, 6, seed=4)
    layer = made(kind, return_sequences=True)
    want = slopes(layer, x, MASK, factors)
    y = np.asarray(layer(x, mask=MASK))
    spoiled = np.where(MASK[..., None], x, np.nan).astype("float32")
    np.testing.assert_array_equal(layer(spoiled, mask=MASK), y)
    for a, b in zip(slopes(layer, spoiled, MASK, factors), want, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not want[0][~MASK].any()
    np.testing.assert_array_equal(y[2], 0)  # a row without a step: the initial state


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_batches_and_nothing(kind: str) -> None:
    inputs = handmill.Input((None, 3))
    model = handmill.Model(inputs, LAYERS[kind](6, return_sequences=True)(inputs))
    whole = model.predict(normal(8, 9, 3), verbose=0)
    np.testing.assert_array_equal(model.predict(normal(8, 9, 3)[:, :4], verbose=0), whole[:, :4])
    np.testing.assert_array_equal(model.predict(normal(8, 9, 3)[:1], verbose=0), whole[:1])
    assert model(np.zeros((0, 4, 3), "float32")).shape == (0, 4, 6)
    layer = made(kind, return_state=True)
    y, *states = layer(np.zeros((2, 0, 3), "float32"))
    np.testing.assert_array_equal(y, np.zeros((2, 6)))
    assert all(not np.asarray(s).any() for s in states)


@pytest.mark.parametrize("kind", KINDS)
def test_training_has_the_same_bits_for_any_threads(kind: str) -> None:
    x, y = normal(37, 6, 3), normal(37, 6, 4, seed=1)
    before, found = config.num_threads(), []
    try:
        for threads in (1, 2, 3, 7):
            config.set_num_threads(threads)
            handmill.utils.set_random_seed(0)
            layer = LAYERS[kind](
                33, return_sequences=True, recurrent_dropout=0.2, dropout=0.1, seed=1
            )
            model = handmill.Sequential(
                [handmill.Input((6, 3)), layers.Bidirectional(layer), layers.Dense(4)]
            )
            model.compile("adam", "mse")
            model.fit(x, y, batch_size=37, epochs=2, verbose=0)
            found.append(b"".join(w.tobytes() for w in model.get_weights()))
    finally:
        config.set_num_threads(before)
    assert all(bits == found[0] for bits in found)


def test_the_usual_layers_run_as_one_operator() -> None:
    x = normal(4, 5, 3)
    assert len(KINDS) == len(GATES)
    for kind in KINDS:
        for given in ({}, {"go_backwards": True}, {"recurrent_dropout": 0.5, "dropout": 0.5}):
            layer = made(kind, **given)

            def run(value: Any, mask: Any, layer: Any = layer) -> Any:
                return layer(value, mask=mask, training=True)

            steps = TracedFunction(run, "steps").plan(x, MASK).summary()
            assert [step["kernel"] for step in steps].count("recurrent") == 1
            assert not any(step["host"] for step in steps)


def test_states_are_kept_from_batch_to_batch_and_reset() -> None:
    layer = layers.LSTM(4, stateful=True, return_sequences=True)
    x = normal(2, 6, 3)
    parts = [np.asarray(layer(x[:, :2])), np.asarray(layer(x[:, 2:]))]
    plain = layers.LSTM(4, return_sequences=True)
    plain.build(x.shape)
    plain.set_weights(layer.get_weights())
    np.testing.assert_allclose(np.concatenate(parts, 1), plain(x), rtol=1e-6, atol=1e-7)
    assert len(layer.weights) == 3
    assert [s.shape for s in layer.states] == [(2, 4)] * 2
    with pytest.raises(ValueError, match=r"Expected batch size: 2\n- Received batch size: 3"):
        layer(normal(3, 2, 3))
    layer.reset_state()
    np.testing.assert_array_equal(layer(x[:, :2]), parts[0])
    layer.reset_states()
    assert not any(np.asarray(s).any() for s in layer.states)


def test_masks_are_used_beside_initial_states() -> None:
    """Keras drops the mask of the sequences where a second tensor is passed."""
    x = np.where(MASK[..., None], normal(4, 5, 3), 0).astype("float32")
    inputs = handmill.Input((5, 3))
    state = handmill.Input((6,))
    layer = layers.GRU(6, return_sequences=True)
    y = layer(layers.Masking()(inputs), initial_state=state)
    model = handmill.Model([inputs, state], y)
    h = normal(4, 6, seed=2)
    np.testing.assert_array_equal(model([x, h]), layer(x, initial_state=h, mask=MASK))
    np.testing.assert_array_equal(np.asarray(model([x, h]))[2], np.tile(h[2], (5, 1)))


def test_cells_on_top_of_each_other_are_layers_after_each_other() -> None:
    x = normal(4, 5, 3)
    cells = [layers.LSTMCell(5), layers.GRUCell(4)]
    layer = layers.RNN(cells, return_sequences=True, return_state=True)
    y, *states = layer(x, mask=MASK)
    first, second = layers.LSTM(5, return_sequences=True), layers.GRU(4, return_sequences=True)
    first.build((None, None, 3))
    second.build((None, None, 5))
    first.set_weights(cells[0].get_weights())
    second.set_weights(cells[1].get_weights())
    np.testing.assert_array_equal(y, second(first(x, mask=MASK), mask=MASK))
    assert [[np.shape(s) for s in one] for one in states] == [[(4, 5)] * 2, [(4, 4)]]


def test_a_cell_of_the_users_own() -> None:
    class Decay(layers.Layer):
        state_size = 3
        output_size = 3

        def call(self, inputs: Any, states: Any, training: bool = False) -> Any:
            h = ops.add(ops.multiply(states[0], 0.5), inputs)
            return ops.multiply(h, 2.0), [h]

    x = normal(2, 4, 3)
    want = np.zeros((2, 3), "float32")
    for t in range(4):
        want = want * 0.5 + x[:, t]
    y, h = layers.RNN(Decay(), return_state=True)(x)
    np.testing.assert_allclose(h, want, rtol=1e-6)
    np.testing.assert_allclose(y, 2 * want, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ("LSTM", "GRU"))
def test_the_first_token_decides_after_two_hundred_steps(kind: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (64, 200))
    handmill.utils.set_random_seed(1)
    layer = LAYERS[kind](12)
    model = handmill.Sequential(
        [handmill.Input((200,)), layers.Embedding(2, 4), layers.Bidirectional(layer)]
    )
    model.add(layers.Dense(1, activation="sigmoid"))
    model.compile(handmill.optimizers.Adam(0.02), "binary_crossentropy", ["accuracy"])
    history = model.fit(x, x[:, 0], batch_size=16, epochs=25, verbose=0).history
    assert history["accuracy"][-1] >= 0.99


@pytest.mark.parametrize(
    ("call", "text"),
    (
        (lambda: layers.LSTM(3)(normal(2, 4, 3), mask=np.ones((2, 3), bool)), r"\(batch, time\)"),
        (lambda: layers.LSTM(3)(normal(2, 4, 3), mask=np.ones(2, bool)), r"\(batch, time\)"),
        (lambda: layers.GRU(3, stateful=True)(handmill.Input((4, 3))), "batch size must be static"),
        (lambda: layers.GRU(3)(normal(4, 3)), "expected ndim=3, found ndim=2"),
        (lambda: layers.Bidirectional(layers.GRU(3))(normal(4, 3)), "expected ndim=3, found ndim"),
        (lambda: layers.LSTM(3, implementation=3), "implementation"),
        (lambda: layers.LSTM(3, use_cudnn=True)(normal(2, 4, 3)), "no cuDNN"),
        (lambda: layers.GRU(3, use_cudnn="yes"), "use_cudnn"),
        (lambda: layers.RNN(layers.Dense(3)), "state_size"),
    ),
)
def test_errors(call: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        call()


@pytest.mark.parametrize("kind", ("SimpleRNN", "GRU", "LSTM"))
@pytest.mark.parametrize("both", (False, True), ids=["one", "both"])
def test_weights_of_torch(kind: str, both: bool) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    name = "RNN" if kind == "SimpleRNN" else kind
    theirs = getattr(torch.nn, name)(3, 5, batch_first=True, bidirectional=both)
    x = normal(2, 4, 3)
    layer = LAYERS[kind](5, return_sequences=True)
    layer = layers.Bidirectional(layer) if both else layer
    layer.build((None, None, 3))
    layer.set_weights(layers.recurrent_weights_from_torch(theirs.state_dict()))
    want = theirs(torch.from_numpy(x))[0].detach().numpy()
    np.testing.assert_allclose(layer(x), want, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="there is no 'weight_ih_l1'"):
        layers.recurrent_weights_from_torch(theirs.state_dict(), layer=1)


@pytest.mark.parametrize("kind", (layers.LSTM, layers.GRU, layers.SimpleRNN))
def test_masks_of_other_floats_are_refused(kind):
    x = np.ones((2, 3, 2), "float32")
    layer = kind(4)
    kept = np.array([[1, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(
        layer(x, mask=kept.astype("float32")), layer(x, mask=kept.astype(bool))
    )
    with pytest.raises(ValueError, match=r"a mask is True or 1 where a step counts: 0\.5"):
        layer(x, mask=kept * 0.5)
