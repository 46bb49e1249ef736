"""Layers of the folder attention, and the functions that they are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handmill
from handmill import layers, ops
from handmill.ops.nn.attention import attend
from layer_parity import check_layer, errors_of, normal

PENALTIES = {
    "kernel_regularizer": "l2",
    "bias_regularizer": "l2",
    "activity_regularizer": "l2",
    "kernel_constraint": "max_norm",
    "bias_constraint": "non_neg",
    "bias_initializer": "ones",
}


def on_list(name: str, call: dict[str, Any] | None = None, **arguments: Any) -> Any:
    """Makes a layer that is called on a list of inputs."""
    return lambda k: lambda xs: getattr(k.layers, name)(**arguments)(xs, **(call or {}))


def on_each(name: str, call: dict[str, Any] | None = None, **arguments: Any) -> Any:
    """Makes a layer that is called on query, value, key; on one input, that is query and value."""

    def make(k: Any) -> Any:
        def apply(xs: Any) -> Any:
            tensors = xs if isinstance(xs, list) else [xs, xs]
            return getattr(k.layers, name)(**arguments)(*tensors, **(call or {}))

        return apply

    return make


SELF = [(4, 6, 8)]
CROSS = [(4, 5, 8), (4, 7, 6)]
THREE = [(4, 5, 8), (4, 7, 6), (4, 7, 3)]
SAME = [(4, 5, 8), (4, 7, 8)]
CAUSAL = {"use_causal_mask": True}
MHA = {"num_heads": 2, "key_dim": 3}
GQA = {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2}

CASES: dict[str, Any] = {
    "dot": (on_list("Attention"), SAME),
    "dot_key": (on_list("Attention"), [(4, 5, 8), (4, 7, 6), (4, 7, 8)]),
    "dot_scale": (on_list("Attention", use_scale=True), SAME),
    "dot_causal": (on_list("Attention", CAUSAL), SAME),
    "concat": (on_list("Attention", score_mode="concat"), SAME),
    "concat_scale": (on_list("Attention", CAUSAL, score_mode="concat", use_scale=True), SAME),
    "additive": (on_list("AdditiveAttention"), SAME),
    "additive_plain": (on_list("AdditiveAttention", CAUSAL, use_scale=False), SAME),
    "heads_self": (on_each("MultiHeadAttention", **MHA), SELF),
    "heads_causal": (on_each("MultiHeadAttention", CAUSAL, **MHA), SELF),
    "heads_cross": (on_each("MultiHeadAttention", **MHA, use_bias=False), CROSS),
    "heads_key": (on_each("MultiHeadAttention", CAUSAL, **MHA, output_shape=4), THREE),
    "heads_gate": (on_each("MultiHeadAttention", **MHA, use_gate=True), CROSS),
    "heads_window": (on_each("MultiHeadAttention", **MHA, sliding_window=2), CROSS),
    "heads_window_past": (on_each("MultiHeadAttention", CAUSAL, **MHA, sliding_window=3), SELF),
    "heads_axes": (on_each("MultiHeadAttention", **MHA, attention_axes=(1, 2)), [(4, 3, 5, 8)]),
    "heads_axis": (on_each("MultiHeadAttention", **MHA, attention_axes=-2), [(4, 3, 5, 8)]),
    "heads_penalties": (on_each("MultiHeadAttention", **MHA, **PENALTIES), SELF),
    "grouped": (on_each("GroupQueryAttention", CAUSAL, **GQA), SELF),
    "grouped_cross": (on_each("GroupQueryAttention", **GQA, use_bias=False), SAME),
    "grouped_gate": (on_each("GroupQueryAttention", **GQA, use_gate=True, sliding_window=2), SELF),
}


@pytest.mark.parametrize("case", CASES)
def test_layers_are_those_of_keras(keras: Any, case: str, tmp_path: Any) -> None:
    make, shapes = CASES[case]
    arrays = [normal(*shape, seed=i) for i, shape in enumerate(shapes)]
    saved = tmp_path / "m.hmill"
    check_layer(keras, make, arrays, saved=saved, rtol=5e-5, atol=1e-5, between=(-0.4, 0.5))


@pytest.mark.parametrize("name", ("MultiHeadAttention", "GroupQueryAttention"))
@pytest.mark.parametrize("scores", (False, True))
@pytest.mark.parametrize("causal", (False, True))
@pytest.mark.parametrize("window", (None, 2))
def test_every_mask_counts_on_every_path(
    keras: Any, name: str, scores: bool, causal: bool, window: int | None
) -> None:
    arguments = {"MultiHeadAttention": MHA, "GroupQueryAttention": GQA}[name]
    q, v = normal(3, 5, 8), normal(3, 7, 8, seed=1)
    rng = np.random.default_rng(2)
    masks = {
        "attention_mask": rng.random((3, 5, 7)) < 0.8,
        "value_mask": np.arange(7) < np.array([[7], [4], [6]]),
        "key_mask": np.arange(7) != np.array([[6], [0], [3]]),
    }
    masks["attention_mask"][:, :, 1] = True  # of these rows none is empty
    built = [getattr(k.layers, name)(**arguments, sliding_window=window) for k in (keras, handmill)]
    for layer in built:
        layer(q, v)
    built[0].set_weights(built[1].get_weights())
    for chosen in ([], ["value_mask"], ["attention_mask"], list(masks)):
        given = {one: masks[one] for one in chosen}
        want, found = (
            layer(q, v, **given, use_causal_mask=causal, return_attention_scores=scores)
            for layer in built
        )
        pairs = zip(want, found, strict=True) if scores else [(want, found)]
        # Of a query that sees nothing Keras's fused path averages padding: others are compared.
        allowed = (
            masks["attention_mask"] & True
            if "attention_mask" in chosen
            else np.ones((3, 5, 7), bool)
        )
        for one in ("value_mask", "key_mask"):
            if one in chosen:
                allowed = allowed & masks[one][:, None]
        ahead = np.arange(7) - np.arange(5)[:, None]
        if causal:
            allowed = allowed & (ahead <= 0)
        if window is not None:
            allowed = allowed & (abs(ahead) < window)
        rows = allowed.any(-1)
        for i, (a, b) in enumerate(pairs):
            a, b = np.asarray(a), np.asarray(b)
            if i:
                a, b = np.moveaxis(a, 1, 2), np.moveaxis(b, 1, 2)
                assert not b[~rows].any()
            np.testing.assert_allclose(b[rows], a[rows], rtol=1e-5, atol=1e-6)


def exact(
    q: Any, k: Any, v: Any, allowed: Any = None, bias: Any = 0.0, scale: Any = None, cap: Any = None
) -> Any:
    """Attention in float64 by its formula."""
    q, k, v = (np.asarray(x, "float64") for x in (q, k, v))
    k, v = (np.repeat(x, q.shape[2] // k.shape[2], axis=2) for x in (k, v))
    s = np.einsum("btnh,bsnh->bnts", q, k) * (q.shape[3] ** -0.5 if scale is None else scale)
    s = (s if cap is None else cap * np.tanh(s / cap)) + bias
    allowed = np.broadcast_to(True if allowed is None else allowed, s.shape)
    e = np.where(allowed, np.exp(s - s.max(-1, keepdims=True)), 0.0)
    p = e / np.maximum(e.sum(-1, keepdims=True), 1e-300)
    return np.einsum("bnts,bsnh->btnh", p, v)


def case(t: int = 5, s: int = 7, n: int = 4, k: int = 2, h: int = 8, b: int = 3) -> Any:
    return normal(b, t, n, h), normal(b, s, k, h, seed=1), normal(b, s, k, h + 2, seed=2)


def test_function_does_what_its_formula_says() -> None:
    q, k, v = case()
    causal = np.arange(7) <= np.arange(5)[:, None]
    mask = np.random.default_rng(3).random((3, 1, 5, 7)) < 0.7
    bias = normal(1, 4, 5, 7, seed=4)
    for given, want in (
        ({}, {}),
        ({"is_causal": True}, {"allowed": causal}),
        ({"mask": mask}, {"allowed": mask}),
        ({"mask": mask.astype("int32"), "is_causal": True}, {"allowed": mask & causal}),
        ({"bias": bias, "mask": mask}, {"allowed": mask, "bias": bias}),
        ({"scale": 0.5, "attn_logits_soft_cap": 2.0}, {"scale": 0.5, "cap": 2.0}),
        ({"flash_attention": True}, {}),
        ({"flash_attention": False, "mask": mask}, {"allowed": mask}),
    ):
        found = ops.dot_product_attention(q, k, v, **given)
        assert found.dtype == "float32"
        np.testing.assert_allclose(found, exact(q, k, v, **want), rtol=1e-5, atol=2e-6)


def test_function_is_that_of_keras(keras: Any) -> None:
    q, k, v = normal(2, 5, 4, 8), normal(2, 7, 4, 8, seed=1), normal(2, 7, 4, 8, seed=2)
    for given in ({}, {"is_causal": True}, {"bias": normal(2, 4, 5, 7)}, {"scale": 0.3}):
        want = np.asarray(keras.ops.dot_product_attention(q, k, v, **given))
        np.testing.assert_allclose(
            ops.nn.dot_product_attention(q, k, v, **given), want, rtol=1e-5, atol=1e-6
        )
    sizes = [handmill.Input((None, 4, 8)) for _ in range(3)]
    assert ops.dot_product_attention(*sizes).shape == (None, None, 4, 8)


def test_places_lengths_and_windows() -> None:
    q, k, v = case()
    lengths, start = np.array([7, 3, 0], "int32"), np.array([2, 0, 5], "int32")
    j, p = np.arange(7), (start[:, None] + np.arange(5))[:, None, :, None]
    there = j < lengths[:, None, None, None]
    for causal in (False, True):
        for window in (None, 1, 3):
            allowed = there & ((j <= p) if causal else True)
            allowed = allowed & ((abs(p - j) < window) if window else True)
            found = attend(q, k, v, lengths=lengths, start=start, causal=causal, window=window)
            np.testing.assert_allclose(found, exact(q, k, v, allowed), rtol=1e-5, atol=2e-6)
            assert not found[2].any()  # no keys: zeros


def gradients(function: Any, *arrays: Any) -> list[np.ndarray]:
    """The gradients of the sum of squares of what a function returns."""
    with handmill.GradientTape() as tape:
        values = [tape.watch(a) or a for a in map(ops.convert_to_tensor, arrays)]
        loss = ops.sum(ops.square(function(*values)))
    return [np.asarray(g) for g in tape.gradient(loss, values)]


def test_what_is_masked_reaches_nothing() -> None:
    q, k, v = case()
    lengths = np.array([4, 7, 0], "int32")
    hidden = np.arange(7) >= lengths[:, None]
    clean = attend(q, k, v, lengths=lengths)
    for bad in (np.nan, np.inf):
        dirty_k, dirty_v, dirty_q = k.copy(), v.copy(), q.copy()
        dirty_k[hidden] = dirty_v[hidden] = bad
        dirty_q[2] = bad  # sees nothing
        mask = ~hidden[:, None, None]
        for given in ({"lengths": lengths}, {"mask": mask}):
            found = attend(dirty_q, dirty_k, dirty_v, **given)
            np.testing.assert_array_equal(found, attend(q, k, v, **given))
            np.testing.assert_allclose(found, clean, rtol=1e-6, atol=1e-7)


def test_a_future_token_changes_no_past_output() -> None:
    x, y = normal(2, 9, 8), normal(2, 9, 8)
    y[:, 6] += 100.0
    for make in (
        lambda: layers.MultiHeadAttention(2, 4),
        lambda: layers.MultiHeadAttention(2, 4, dropout=0.5, seed=1),
        lambda: layers.MultiHeadAttention(2, 4, sliding_window=3),
        lambda: layers.GroupQueryAttention(4, 4, 2),
    ):
        for scores in (False, True):
            layer = make()
            a, b = (
                layer(z, z, use_causal_mask=True, return_attention_scores=scores) for z in (x, y)
            )
            a, b = (a[0], b[0]) if scores else (a, b)
            np.testing.assert_array_equal(a[:, :6], b[:, :6])
            assert (a[:, 6:] != b[:, 6:]).any()


def test_masks_come_with_tensors_and_go_on() -> None:
    x = normal(3, 5, 8)
    x[0, 3:] = x[1, 1:] = 0.0
    keep = (x != 0).any(-1)
    inputs = handmill.Input((None, 8))
    masked = layers.Masking()(inputs)
    for layer in (layers.MultiHeadAttention(2, 4), layers.GroupQueryAttention(4, 2, 1)):
        outputs = layer(masked, masked)
        assert outputs.mask is not None
        found = handmill.Model(inputs, outputs)(x)
        want = layer(x, x, query_mask=keep, value_mask=keep)
        np.testing.assert_array_equal(found, want)
        np.testing.assert_allclose(
            found[1, :1], layer(x[1:2, :1], x[1:2, :1])[0], rtol=2e-5, atol=1e-6
        )
    plain = layers.Attention()([masked, masked])
    found = handmill.Model(inputs, plain)(x)
    assert not found[~keep].any()
    np.testing.assert_allclose(found[0, :3], layers.Attention()([x[:1, :3]] * 2)[0], rtol=1e-5)


def test_dropout_leaves_weights_out_and_scales_the_others() -> None:
    x = normal(2, 6, 8)
    layer = layers.MultiHeadAttention(2, 4, dropout=0.5, seed=3)
    fixed = [layer(x, x), layer(x, x)]
    np.testing.assert_array_equal(*fixed)
    again = layers.MultiHeadAttention.from_config(layer.get_config())
    again(x, x)
    again.set_weights(layer.get_weights())
    # The same words, whether or not scores are asked for.
    one = layer(x, x, training=True)
    other, scores = again(x, x, training=True, return_attention_scores=True)
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scores.sum(-1), 1.0, rtol=1e-6)
    assert (one != fixed[0]).any()
    plain = layers.Attention(dropout=0.5, seed=1)
    assert (plain([x, x], training=True) != plain([x, x])).any()
    averaged, weights = plain([x, x], training=True, return_attention_scores=True)
    assert (weights == 0).any()
    np.testing.assert_allclose(averaged, weights @ x, rtol=1e-5, atol=1e-6)


def test_bad_arguments_are_refused(keras: Any) -> None:
    x = normal(2, 5, 8)
    for make in (
        lambda k: k.layers.MultiHeadAttention(0, 4),
        lambda k: k.layers.MultiHeadAttention(2, 4, value_dim=0),
        lambda k: k.layers.MultiHeadAttention(2, 4, sliding_window=0),
        lambda k: k.layers.GroupQueryAttention(4, 4, 3),
        lambda k: k.layers.Attention(score_mode="sum"),
        lambda k: k.layers.Attention()(x),
        lambda k: k.layers.Attention()([x]),
        lambda k: k.layers.Attention()([x, x], mask=x),
        lambda k: k.layers.MultiHeadAttention(2, 4).build((2, 5, 8), (2, 5, 8), (2, 4, 8)),
        lambda k: k.ops.dot_product_attention(x, x, x),
    ):
        errors_of(keras, make)
    q, k, v = case()
    with pytest.raises(ValueError, match=r"multiple of that of keys"):
        attend(q[:, :, :3], k, v)
    with pytest.raises(ValueError, match=r"`bias`"):
        ops.dot_product_attention(q, k, v, mask=np.full((5, 7), -1e9, "float32"))
    np.testing.assert_array_equal(  # the commonest causal mask of scripts
        (layer := layers.MultiHeadAttention(2, 4))(x, x, attention_mask=np.tril(np.ones((5, 5)))),
        layer(x, x, use_causal_mask=True),
    )
    for wrong in (-1e9, -np.inf, 0.5):
        with pytest.raises(ValueError, match=rf"`bias`.*: {wrong}.* at place 0, 1 of its row"):
            layer(x, x, attention_mask=np.where(np.tri(5), 1, wrong)[None])
    with pytest.raises(ValueError, match=r"\(Tq, Tv\) = \(5, 5\).*\(2, 5\).*value_mask"):
        layer(x, x, attention_mask=np.ones((2, 5), bool))
    with pytest.raises(ValueError, match="scores"):
        layers.MultiHeadAttention(2, 4, flash_attention=True)(x, x, return_attention_scores=True)


@pytest.mark.parametrize("kind", (layers.MultiHeadAttention, layers.GroupQueryAttention))
def test_a_call_without_values(kind: Any) -> None:
    heads = {"num_query_heads": 2, "num_key_value_heads": 1, "head_dim": 4}
    layer = kind(2, 4) if kind is layers.MultiHeadAttention else kind(**heads)
    x = normal(1, 3, 4)
    for call in (lambda: layer(x), lambda: layer(query=x)):
        with pytest.raises(TypeError, match=r"missing a required argument.*'value'.*d: query$"):
            call()
    assert not layer.built
    assert layer(x, x).shape == x.shape


def test_empty_sequences() -> None:
    for b, t, s in ((0, 3, 4), (2, 0, 4), (2, 3, 0)):
        q, k = np.ones((b, t, 2, 4), "float32"), np.ones((b, s, 2, 4), "float32")
        found = attend(q, k, k, causal=True)
        np.testing.assert_array_equal(found, np.zeros((b, t, 2, 4)))
