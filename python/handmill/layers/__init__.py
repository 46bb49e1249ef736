"""Layers: weights and computations that models are made of."""

from handmill.lazy import lazy_exports

_RANKS = (1, 2, 3)
_MERGE = ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract")
_POOLS = {"Average": "Avg", "Max": "Max"}
_IMAGES = {
    "box_counts": "MaxNumBoundingBoxes",
    "affine": "RandomRotation RandomShear RandomTranslation RandomZoom",
    "colors": (
        "RandomColorDegeneration RandomColorJitter RandomGrayscale RandomHue RandomSaturation"
    ),
    "crops": "CenterCrop RandomCrop Resizing",
    "detail": "RandomGaussianBlur RandomSharpness",
    "elastic": "RandomElasticTransform",
    "flip": "RandomFlip",
    "histograms": "AutoContrast ContrastLimitedAdaptiveHistogramEqualization Equalization",
    "light": "RandomBrightness RandomContrast RandomInvert RandomPosterization Solarization",
    "mixing": "CutMix MixUp RandomErasing",
    "perspective": "RandomPerspective",
    "policies": "AugMix RandAugment",
}

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Activation": ".activations.activation",
        "ActivityRegularization": ".regularization.activity_regularization",
        "AdditiveAttention": ".attention.additive_attention",
        "AlphaDropout": ".regularization.alpha_dropout",
        "Attention": ".attention.attention",
        "BatchNormalization": ".normalization.batch_normalization",
        "Bidirectional": ".rnn.bidirectional",
        "CategoryEncoding": ".preprocessing.category_encoding",
        "Dense": ".core.dense",
        "Discretization": ".preprocessing.discretization",
        "Dot": ".merging.dot",
        "ModalityDropout": ".merging.modality_dropout",
        "RandomGain": ".preprocessing.sound.samples",
        "RandomNoise": ".preprocessing.sound.samples",
        "RandomShift": ".preprocessing.sound.samples",
        "SpecAugment": ".preprocessing.sound.masks",
        "Dropout": ".regularization.dropout",
        "EinsumDense": ".core.einsum_dense",
        "ELU": ".activations.elu",
        "Embedding": ".core.embedding",
        "Flatten": ".reshaping.flatten",
        "GaussianDropout": ".regularization.gaussian",
        "GaussianNoise": ".regularization.gaussian",
        "GroupQueryAttention": ".attention.group_query_attention",
        "GroupNormalization": ".normalization.group_normalization",
        "GRU": ".rnn.gru",
        "GRUCell": ".rnn.gru",
        "HashedCrossing": ".preprocessing.hashed_crossing",
        "Hashing": ".preprocessing.hashing",
        "Identity": ".core.identity",
        "Input": ".core.input_layer",
        "InputLayer": ".core.input_layer",
        "InputSpec": ".input_spec",
        "IntegerLookup": ".preprocessing.integer_lookup",
        "KerasTensor": ".symbolic",
        "Lambda": ".core.lambda_layer",
        "Layer": ".layer",
        "LayerNormalization": ".normalization.layer_normalization",
        "LeakyReLU": ".activations.leaky_relu",
        "LSTM": ".rnn.lstm",
        "LSTMCell": ".rnn.lstm",
        "Masking": ".core.masking",
        "MelSpectrogram": ".preprocessing.mel_spectrogram",
        "MultiHeadAttention": ".attention.multi_head_attention",
        "Normalization": ".preprocessing.normalization",
        "OpLayer": ".operation",
        "PReLU": ".activations.prelu",
        "Permute": ".reshaping.permute",
        "Pipeline": ".preprocessing.pipeline",
        "RMSNormalization": ".normalization.rms_normalization",
        "ReLU": ".activations.relu",
        "RepeatVector": ".reshaping.repeat_vector",
        "Rescaling": ".preprocessing.rescaling",
        "Reshape": ".reshaping.reshape",
        "ReversibleEmbedding": ".core.reversible_embedding",
        "RNN": ".rnn.rnn",
        "SimpleRNN": ".rnn.simple_rnn",
        "SimpleRNNCell": ".rnn.simple_rnn",
        "Softmax": ".activations.softmax",
        "StackedRNNCells": ".rnn.stacked_rnn_cells",
        "STFTSpectrogram": ".preprocessing.stft_spectrogram",
        "SpectralNormalization": ".normalization.spectral_normalization",
        "StringLookup": ".preprocessing.string_lookup",
        "TextVectorization": ".preprocessing.text_vectorization",
        "TimeDistributed": ".rnn.time_distributed",
        "UnitNormalization": ".normalization.unit_normalization",
        **{f"SpatialDropout{n}D": ".regularization.spatial_dropout" for n in _RANKS},
        **{f"Conv{n}D": ".convolutional.conv" for n in _RANKS},
        **{f"Convolution{n}D": f".convolutional.conv:Conv{n}D" for n in _RANKS},
        **{f"Conv{n}DTranspose": ".convolutional.conv_transpose" for n in _RANKS},
        **{
            f"Convolution{n}DTranspose": f".convolutional.conv_transpose:Conv{n}DTranspose"
            for n in _RANKS
        },
        **{f"DepthwiseConv{n}D": ".convolutional.depthwise_conv" for n in (1, 2)},
        **{f"SeparableConv{n}D": ".convolutional.separable_conv" for n in (1, 2)},
        **{
            f"SeparableConvolution{n}D": f".convolutional.separable_conv:SeparableConv{n}D"
            for n in (1, 2)
        },
        **{f"{kind}Pooling{n}D": ".pooling.pooling" for kind in _POOLS for n in _RANKS},
        **{
            f"{short}Pool{n}D": f".pooling.pooling:{kind}Pooling{n}D"
            for kind, short in _POOLS.items()
            for n in _RANKS
        },
        **{
            f"Global{kind}Pooling{n}D": ".pooling.global_pooling" for kind in _POOLS for n in _RANKS
        },
        **{
            f"Global{short}Pool{n}D": f".pooling.global_pooling:Global{kind}Pooling{n}D"
            for kind, short in _POOLS.items()
            for n in _RANKS
        },
        **{
            f"Adaptive{kind}Pooling{n}D": ".pooling.adaptive_pooling"
            for kind in _POOLS
            for n in _RANKS
        },
        "recurrent_weights_from_torch": ".rnn.from_torch",
        **{f"ConvLSTM{n}D": ".rnn.conv_lstm" for n in _RANKS},
        **{f"UpSampling{n}D": ".reshaping.up_sampling" for n in _RANKS},
        **{f"ZeroPadding{n}D": ".reshaping.zero_padding" for n in _RANKS},
        **{f"Cropping{n}D": ".reshaping.cropping" for n in _RANKS},
        **{
            name: f".preprocessing.images.{file}"
            for file, names in _IMAGES.items()
            for name in names.split()
        },
        "Wrapper": ".core.wrapper",
        "deserialize": ".serialization",
        "dot": ".merging.dot",
        "serialize": ".serialization",
        **{name: ".merging.merge" for name in _MERGE},
        **{name.lower(): ".merging.merge" for name in _MERGE},
    },
)
