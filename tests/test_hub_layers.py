"""Layers of handmill.hub: their formulas, caches, masks, errors, and the numbers of KerasHub."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handmill
from handmill.errors import ShapeError
from handmill.hub import layers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 5, 8)).astype("float32")
Y = RNG.normal(size=(3, 4, 8)).astype("float32")
PADDING = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 1, 1, 0, 1]])
ATTENTION = RNG.integers(0, 2, (3, 5, 5)) | np.eye(5, dtype="int64")


def test_sines_and_cosines() -> None:
    found = layers.SinePositionEncoding(max_wavelength=100)(X, start_index=2)
    places = np.arange(2, 7)[:, None]
    rates = 100.0 ** (-2 * np.arange(4) / 8)
    for i in range(4):
        np.testing.assert_allclose(found[0, :, 2 * i], np.sin(places[:, 0] * rates[i]), atol=1e-6)
        np.testing.assert_allclose(
            found[1, :, 2 * i + 1], np.cos(places[:, 0] * rates[i]), atol=1e-6
        )


def test_rotary_products_depend_on_distances() -> None:
    layer = layers.RotaryEmbedding()
    heads = RNG.normal(size=(1, 1, 1, 8)).astype("float32")
    q, k = (np.repeat(heads * f, 6, 1) for f in (1.0, -0.5))
    products = np.einsum("btnh,bsnh->ts", layer(q), layer(k))
    moved = np.einsum("btnh,bsnh->ts", layer(q, start_index=9), layer(k, start_index=9))
    np.testing.assert_allclose(products, moved, atol=1e-5)
    np.testing.assert_allclose(np.diagonal(products, 2), products[0, 2], atol=1e-5)
    # The formula: number i and number i + 4 are a pair, turned by place / 10000^(i / 4).
    angles = np.arange(6)[:, None] * 10000.0 ** (-np.arange(4) / 4)
    a, b = q[0, :, 0, :4], q[0, :, 0, 4:]
    want = np.concatenate((a * np.cos(angles) - b * np.sin(angles),
                           b * np.cos(angles) + a * np.sin(angles)), -1)  # fmt: skip
    np.testing.assert_allclose(layer(q)[0, :, 0], want, atol=1e-6)
    # Other axes are the same numbers in another order.
    swapped = layers.RotaryEmbedding(sequence_axis=2, feature_axis=1)(np.transpose(q, (0, 3, 1, 2)))
    np.testing.assert_array_equal(np.transpose(swapped, (0, 2, 3, 1)), layer(q))
    rows = layer(np.repeat(q[:, :1], 2, 0), start_index=np.array([3, 5], "int32"))
    np.testing.assert_array_equal(rows[:, 0], layer(q)[0, [3, 5]])


def test_alibi_falls_with_the_distance() -> None:
    found = layers.AlibiBias()(np.zeros((2, 6, 3, 4), "float32"))
    slopes = [2.0 ** -(2 * (h + 1)) for h in range(4)] + [2.0**-1, 2.0**-3]
    want = np.array(slopes)[:, None] * np.arange(-3, 1)
    np.testing.assert_allclose(found, np.broadcast_to(want[None, :, None], (2, 6, 3, 4)), rtol=1e-6)


def test_positions() -> None:
    layer = layers.PositionEmbedding(9)
    table = layer(np.zeros((1, 9, 8), "float32"))[0]
    np.testing.assert_array_equal(layer(X)[2], table[:5])
    np.testing.assert_array_equal(layer(X, start_index=4)[0], table[4:])
    np.testing.assert_array_equal(
        layer(X[:, :1], start_index=np.array([8, 0, 3]))[:, 0], table[[8, 0, 3]]
    )
    places = np.array([4, 4, 0, 1, 8])
    np.testing.assert_array_equal(layer(X, positions=places)[1], table[places])
    both = layers.TokenAndPositionEmbedding(7, 9, 8, mask_zero=True)
    ids = np.array([[3, 0, 6]])
    token, place = both.token_embedding, both.position_embedding
    found = both(ids)
    np.testing.assert_array_equal(found, token(ids) + place(token(ids)))
    model = handmill.Sequential(
        [handmill.Input((3,)), both, handmill.layers.GlobalAveragePooling1D()]
    )
    np.testing.assert_allclose(model(ids)[0], found[0, [0, 2]].mean(0), atol=1e-6)


@pytest.mark.parametrize("first", (False, True))
def test_a_decoder_with_caches(first: bool) -> None:
    """Piece by piece, of both attentions, as pairs and as one tensor, it is the whole."""
    layer = layers.TransformerDecoder(16, 2, normalize_first=first)
    whole = layer(X, Y)
    seen = np.zeros((3, 2, 6, 2, 4), "float32")
    other = np.zeros((3, 2, 4, 2, 4), "float32")
    a, seen, other = layer(
        X[:, :3], Y, self_attention_cache=seen, self_attention_cache_update_index=0,
        cross_attention_cache=other, cross_attention_cache_update_index=0,
    )  # fmt: skip
    pairs = (seen[:, 0], seen[:, 1]), (other[:, 0], other[:, 1])
    b, *pairs = layer(
        X[:, 3:], Y, self_attention_cache=pairs[0], self_attention_cache_update_index=3,
        cross_attention_cache=pairs[1],
    )  # fmt: skip
    np.testing.assert_allclose(np.concatenate((a, b), 1), whole, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(pairs[1][0], other[:, 0])
    assert not np.array_equal(pairs[0][0], seen[:, 0])


def test_masks() -> None:
    encoder = layers.TransformerEncoder(16, 2)
    whole, weights = encoder(X, PADDING, ATTENTION, return_attention_scores=True)
    allowed = PADDING[:, None, None].astype(bool) & ATTENTION[:, None].astype(bool)
    assert (weights[~np.broadcast_to(allowed, weights.shape)] == 0).all()
    np.testing.assert_allclose(encoder(X, PADDING, ATTENTION), whole, rtol=0, atol=1e-6)
    # The mask of the input is a padding mask; what is hidden may be anything.
    masked = handmill.layers.Masking()(X * PADDING[..., None].astype("float32"))
    spoilt = np.where(PADDING[..., None], X, 1e30).astype("float32")
    a, b = encoder(masked), encoder(spoilt, PADDING)
    np.testing.assert_allclose(a[PADDING == 1], b[PADDING == 1], rtol=0, atol=1e-6)
    future = X.copy()
    future[:, 3:] += 1
    decoder = layers.TransformerDecoder(16, 2)
    np.testing.assert_array_equal(decoder(X)[:, :3], decoder(future)[:, :3])
    free = decoder(X, use_causal_mask=False)
    assert not np.allclose(free[:, :3], decoder(future, use_causal_mask=False)[:, :3])


def test_masked_head() -> None:
    embedding = handmill.layers.ReversibleEmbedding(7, 8)
    embedding.build()
    head = layers.MaskedLMHead(token_embedding=embedding, intermediate_activation=None)
    places = np.array([[0, 4], [2, 2], [1, 3]])
    found = head(X, places)
    x = np.take_along_axis(X, places[..., None], 1)
    x = head._intermediate_layer_norm(head._intermediate_dense(x))
    np.testing.assert_allclose(found, x @ embedding.embeddings.numpy().T, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="5"):
        head(X, places + 1)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="3 heads cannot share"):
        layers.TransformerEncoder(16, 3)(X)
    with pytest.raises(ValueError, match="positive integer"):
        layers.TransformerDecoder(0, 2)
    with pytest.raises(ValueError, match="`padding_mask` must have the shape"):
        layers.TransformerEncoder(16, 2)(X, padding_mask=ATTENTION)
    with pytest.raises(ValueError, match="is a `padding_mask`"):
        layers.TransformerEncoder(16, 2)(X, attention_mask=PADDING)
    with pytest.raises(ValueError, match="holds floats"):
        layers.TransformerEncoder(16, 2)(X, attention_mask=-1e9 * ATTENTION.astype("float32"))
    added = np.where(PADDING, 0.0, -np.inf)  # 0 and -inf, as they are added to scores elsewhere
    with pytest.raises(ValueError, match=r"True or 1 for what is no padding.*-inf"):
        layers.TransformerEncoder(16, 2)(X, padding_mask=added)
    decoder = layers.TransformerDecoder(16, 2)
    decoder(X)
    with pytest.raises(ValueError, match="now called with it"):
        decoder(X, Y)
    crossed = layers.TransformerDecoder(16, 2)
    crossed(X, Y)
    with pytest.raises(ValueError, match="now called without it"):
        crossed(X)
    with pytest.raises(ValueError, match="Pass both or neither"):
        crossed(X, Y, self_attention_cache=np.zeros((3, 2, 6, 2, 4), "float32"))
    with pytest.raises(ValueError, match="`cache_update_index` is a place"):
        layers.CachedMultiHeadAttention(2, 4)(X, X, cache_update_index=0)
    with pytest.raises(ShapeError, match="5 entries is longer than the 4 places"):
        layers.PositionEmbedding(4)(X)
    with pytest.raises(ValueError, match="even number"):
        layers.RotaryEmbedding()(np.zeros((1, 2, 3), "float32"))
    with pytest.raises(ValueError, match="rope_type='yarn'"):
        layers.RotaryEmbedding(rope_type="yarn")
    with pytest.raises(ValueError, match="has 3 axes"):
        layers.RotaryEmbedding(sequence_axis=5)(X)
    with pytest.raises(ShapeError, match="expected scores of shape"):
        layers.AlibiBias()(X)
    with pytest.raises(ValueError, match="must be set"):
        layers.MaskedLMHead()
    with pytest.raises(ValueError, match="must be that of"):
        layers.MaskedLMHead(6, handmill.layers.ReversibleEmbedding(7, 8))


CASES: dict[str, Any] = {
    "encoder": (lambda k: k.layers.TransformerEncoder(16, 2), (X,)),
    "encoder_first": (
        lambda k: k.layers.TransformerEncoder(16, 2, activation="gelu", normalize_first=True),
        (X, PADDING),
    ),
    "encoder_masks": (
        lambda k: k.layers.TransformerEncoder(16, 4, layer_norm_epsilon=1e-3),
        (X, PADDING | [[1, 0, 0, 0, 0]], ATTENTION),
    ),
    "decoder": (lambda k: k.layers.TransformerDecoder(16, 2), (X,)),
    "decoder_first": (
        lambda k: k.layers.TransformerDecoder(12, 2, normalize_first=True),
        (X, None, PADDING | [[1, 0, 0, 0, 0]], ATTENTION),
    ),
    "decoder_crossed": (
        lambda k: k.layers.TransformerDecoder(12, 2),
        (X, Y, None, None, PADDING[:, :4] | [[1, 0, 0, 0]]),
    ),
    "positions": (lambda k: k.layers.PositionEmbedding(9), (X,), 3),
    "sines": (lambda k: k.layers.SinePositionEncoding(50), (X,), 2),
    "rotary": (lambda k: k.layers.RotaryEmbedding(scaling_factor=2.0), (X,), 2),
    "rotary_dynamic": (
        lambda k: k.layers.RotaryEmbedding(scaling_factor=2.0, rope_type="dynamic"),
        (X.reshape(3, 5, 2, 4),),
    ),
    "tokens": (
        lambda k: k.layers.TokenAndPositionEmbedding(7, 9, 4),
        (np.array([[3, 0, 6], [1, 1, 2]]),),
    ),
    "head": (
        lambda k: k.layers.MaskedLMHead(7, activation="softmax"),
        (X, np.array([[0, 4], [2, 2], [1, 3]])),
    ),
    "alibi": (lambda k: k.layers.AlibiBias(6), (RNG.normal(size=(2, 6, 3, 4)).astype("float32"),)),
}


@pytest.mark.peers
@pytest.mark.slow
def test_numbers_of_keras_hub(keras: Any) -> None:
    keras_hub = pytest.importorskip("keras_hub")
    from handmill import hub

    for name, (make, inputs, *start) in CASES.items():
        more = {"start_index": start[0]} if start else {}
        theirs, ours = make(keras_hub), make(hub)
        want = np.asarray(theirs(*inputs, **more))
        ours(*inputs, **more)
        assert [w.shape for w in ours.weights] == [tuple(w.shape) for w in theirs.weights], name
        assert [w.path.split("/", 1)[1] for w in ours.weights] == [
            w.path.split("/", 1)[1] for w in theirs.weights
        ], name
        drawn = [RNG.normal(0, 0.3, w.shape).astype("float32") for w in ours.weights]
        theirs.set_weights(drawn)
        ours.set_weights(drawn)
        want, found = np.asarray(theirs(*inputs, **more)), ours(*inputs, **more)
        np.testing.assert_allclose(found, want, rtol=0, atol=2e-5, err_msg=name)
        config = theirs.get_config()
        own = ours.get_config()
        assert config.keys() <= own.keys() | {"seed"} | LATER, name
        again = type(ours).from_config(own)
        again(*inputs, **more)
        again.set_weights(drawn)
        np.testing.assert_array_equal(again(*inputs, **more), found, err_msg=name)


# What a later KerasHub writes for a type of rotary positions that is not here.
LATER = {
    "beta_fast",
    "beta_slow",
    "original_max_position_embeddings",
    "truncate",
    "denominator_dim",
}
