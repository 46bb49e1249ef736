"""Samplers under KerasHub's names: how the next token is chosen."""

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "BeamSampler": ".beam_sampler",
        "GreedySampler": ".greedy_sampler",
        "RandomSampler": ".random_sampler",
        "Sampler": ".sampler",
        "TopKSampler": ".top_k_sampler",
        "TopPSampler": ".top_p_sampler",
        "deserialize": ".names",
        "get": ".names",
        "serialize": ".names",
    },
)
