"""Layers of text models: blocks of transformers, positions, heads."""

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AlibiBias": ".alibi_bias",
        "CachedMultiHeadAttention": ".cached_multi_head_attention",
        "MaskedLMHead": ".masked_lm_head",
        "MaskedLMMaskGenerator": "handmill.hub.preprocessing",
        "MultiSegmentPacker": "handmill.hub.preprocessing",
        "PositionEmbedding": ".position_embedding",
        "ReversibleEmbedding": "handmill.layers.core.reversible_embedding",
        "RotaryEmbedding": ".rotary_embedding",
        "StartEndPacker": "handmill.hub.preprocessing",
        "SinePositionEncoding": ".sine_position_encoding",
        "TokenAndPositionEmbedding": ".token_and_position_embedding",
        "TransformerDecoder": ".transformer_decoder",
        "TransformerEncoder": ".transformer_encoder",
        "gelu_approximate": ".activations",
    },
)
