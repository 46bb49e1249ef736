"""Layers: weights and computations that models are made of."""

from handmill.lazy import lazy_exports

_MERGE = ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract")

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Activation": ".activations.activation",
        "ActivityRegularization": ".regularization.activity_regularization",
        "AlphaDropout": ".regularization.alpha_dropout",
        "BatchNormalization": ".normalization.batch_normalization",
        "Dense": ".core.dense",
        "Dot": ".merging.dot",
        "Dropout": ".regularization.dropout",
        "EinsumDense": ".core.einsum_dense",
        "ELU": ".activations.elu",
        "Embedding": ".core.embedding",
        "Flatten": ".reshaping.flatten",
        "GaussianDropout": ".regularization.gaussian",
        "GaussianNoise": ".regularization.gaussian",
        "Identity": ".core.identity",
        "Input": ".core.input_layer",
        "InputLayer": ".core.input_layer",
        "InputSpec": ".input_spec",
        "KerasTensor": ".symbolic",
        "Lambda": ".core.lambda_layer",
        "Layer": ".layer",
        "LeakyReLU": ".activations.leaky_relu",
        "Masking": ".core.masking",
        "OpLayer": ".operation",
        "Permute": ".reshaping.permute",
        "ReLU": ".activations.relu",
        "RepeatVector": ".reshaping.repeat_vector",
        "Rescaling": ".preprocessing.rescaling",
        "Reshape": ".reshaping.reshape",
        "Softmax": ".activations.softmax",
        **{f"SpatialDropout{n}D": ".regularization.spatial_dropout" for n in (1, 2, 3)},
        "Wrapper": ".core.wrapper",
        "deserialize": ".serialization",
        "dot": ".merging.dot",
        "serialize": ".serialization",
        **{name: ".merging.merge" for name in _MERGE},
        **{name.lower(): ".merging.merge" for name in _MERGE},
    },
)
