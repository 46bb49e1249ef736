"""Smaller models: pruned, shrunk, factorized, clustered; and what of it pays on this machine."""

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Advice": ".advisor",
        "Clustering": ".clustering",
        "ConstantSparsity": ".schedules",
        "PolynomialDecay": ".schedules",
        "Folding": ".folding",
        "Pruning": ".pruning",
        "QuantizationAwareness": ".quantization_aware",
        "Shrinking": ".shrinking",
        "Ticket": ".tickets",
        "cluster": ".clustering",
        "factorize": ".factorizing",
        "factorize_report": ".factorizing",
        "fold_batch_normalization": ".folding",
        "fold_report": ".folding",
        "lottery_ticket": ".tickets",
        "prune": ".pruning",
        "quantize_aware": ".quantization_aware",
        "search": ".advisor",
        "shrink": ".shrinking",
        "shrink_report": ".shrinking",
        "strip_pruning": ".pruning",
        "strip_quantize_aware": ".quantization_aware",
    },
)
