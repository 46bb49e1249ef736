"""Text models under KerasHub's names: layers, backbones, tokenizers, samplers, generation."""

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "layers": ".layers",
        "linear_cross_entropy": ".head_loss",
        "models": ".models",
        "samplers": ".samplers",
        "tokenizers": ".tokenizers",
    },
)
