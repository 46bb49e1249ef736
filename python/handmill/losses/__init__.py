"""Losses, as functions and as classes."""

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "BinaryCrossentropy": ".probabilistic",
        "CategoricalCrossentropy": ".probabilistic",
        "Huber": ".regression",
        "KLDivergence": ".probabilistic",
        "Loss": ".loss",
        "LossFunctionWrapper": ".loss",
        "MeanAbsoluteError": ".regression",
        "MeanAbsolutePercentageError": ".regression",
        "MeanSquaredError": ".regression",
        "SparseCategoricalCrossentropy": ".probabilistic",
        "binary_crossentropy": ".probabilistic",
        "categorical_crossentropy": ".probabilistic",
        "deserialize": ".registry",
        "get": ".registry",
        "huber": ".regression",
        "kl_divergence": ".probabilistic",
        "mean_absolute_error": ".regression",
        "mean_absolute_percentage_error": ".regression",
        "mean_squared_error": ".regression",
        "serialize": ".registry",
        "sparse_categorical_crossentropy": ".probabilistic",
    },
)
