"""Layers: weights and computations that models are made of."""

from handmill.lazy import lazy_exports

_MERGE = ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract")

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Activation": ".core",
        "BatchNormalization": ".normalization",
        "Dense": ".core",
        "Dropout": ".core",
        "ELU": ".activation_layers",
        "Flatten": ".core",
        "Identity": ".core",
        "Input": ".core",
        "InputLayer": ".core",
        "InputSpec": ".input_spec",
        "KerasTensor": ".symbolic",
        "Layer": ".layer",
        "LeakyReLU": ".activation_layers",
        "OpLayer": ".operation",
        "ReLU": ".activation_layers",
        "Rescaling": ".core",
        "Reshape": ".core",
        "Softmax": ".activation_layers",
        "deserialize": ".serialization",
        "serialize": ".serialization",
        **{name: ".merge" for name in _MERGE},
        **{name.lower(): ".merge" for name in _MERGE},
    },
)
