"""Layers: weights and computations that models are made of."""

from handmill.lazy import lazy_exports

_MERGE = ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract")

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Activation": ".core.dense",
        "BatchNormalization": ".normalization.batch_normalization",
        "Dense": ".core.dense",
        "Dropout": ".core.dense",
        "ELU": ".activations.activation",
        "Flatten": ".core.dense",
        "Identity": ".core.dense",
        "Input": ".core.dense",
        "InputLayer": ".core.dense",
        "InputSpec": ".input_spec",
        "KerasTensor": ".symbolic",
        "Layer": ".layer",
        "LeakyReLU": ".activations.activation",
        "Masking": ".core.masking",
        "OpLayer": ".operation",
        "ReLU": ".activations.activation",
        "Rescaling": ".core.dense",
        "Reshape": ".core.dense",
        "Softmax": ".activations.activation",
        "deserialize": ".serialization",
        "serialize": ".serialization",
        **{name: ".merging.merge" for name in _MERGE},
        **{name.lower(): ".merging.merge" for name in _MERGE},
    },
)
