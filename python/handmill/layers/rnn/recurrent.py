"""What SimpleRNN, GRU, LSTM and ConvLSTM have in common: a layer that makes its cell itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from handmill import regularizers
from handmill.dtype_policies import DTypePolicy
from handmill.layers.input_spec import InputSpec
from handmill.layers.layer import Layer
from handmill.layers.rnn.rnn import RNN

_OF_CELL = frozenset(
    {
        "activation", "bias_constraint", "bias_initializer", "bias_regularizer", "data_format",
        "dilation_rate", "dropout", "filters", "implementation", "kernel_constraint",
        "kernel_initializer", "kernel_regularizer", "kernel_size", "padding",
        "recurrent_activation", "recurrent_constraint", "recurrent_dropout",
        "recurrent_initializer", "recurrent_regularizer", "reset_after", "seed", "strides",
        "unit_forget_bias", "units", "use_bias",
    }
)  # fmt: skip


class RecurrentLayer(RNN):
    """Base: the arguments of the cell are attributes and config of the layer.

    Args:
        cell: the cell.
        **kwargs: arguments of :class:`RNN`.
    """

    def __init__(self, cell: Any, **kwargs: Any) -> None:
        super().__init__(cell, **kwargs)
        self.input_spec = InputSpec(ndim=3)

    def __getattr__(self, name: str) -> Any:
        if name in _OF_CELL and "cell" in vars(self) and hasattr(self.cell, name):
            return getattr(self.cell, name)
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def quantize(
        self, mode: str | None = None, type_check: bool = True, config: Any = None
    ) -> None:
        """Replaces both kernels by integers of 8 bits and their scales, in place.

        Inputs and states are then measured row by row; gates are computed in float32.

        Args:
            mode: ``"int8"``; default: that of ``config``.
            type_check: whether subclasses, whose computation may be another, are refused.
            config: a :class:`handmill.quantizers.Int8QuantizationConfig`.

        Raises:
            ValueError: if the layer is not built, is quantized already, or holds what is not
                finite; for unknown modes.
            NotImplementedError: for subclasses and other configurations, and for ConvLSTM.
        """
        self.cell.quantize(mode, type_check=type_check, config=config)
        self._programs = {}

    def _described_policy(self) -> DTypePolicy:
        """That of a quantized cell, which is made with it."""
        if self.cell.quantization_mode is None:
            return super()._described_policy()
        return self.cell._dtype_policy  # type: ignore[no-any-return]

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        config = super().get_config()
        del config["cell"]
        of_cell = self.cell.get_config()
        config |= {name: value for name, value in of_cell.items() if name in _OF_CELL}
        config["activity_regularizer"] = regularizers.serialize(self.activity_regularizer)
        return config

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> Any:
        """Makes a layer from its config."""
        return Layer.from_config.__func__(cls, config)  # type: ignore[attr-defined]


class GatedLayer(RecurrentLayer):
    """Base of LSTM and GRU, which in Keras may run on cuDNN.

    Args:
        cell: the cell.
        use_cudnn: "auto", True or False. True is kept, for models that were made for a GPU, and
            refused when the layer is called.
        **kwargs: arguments of :class:`RNN`.

    Raises:
        ValueError: for another ``use_cudnn``.
    """

    def __init__(self, cell: Any, use_cudnn: Any, **kwargs: Any) -> None:
        if use_cudnn not in ("auto", True, False):
            raise ValueError(
                "Invalid valid received for argument `use_cudnn`. Expected one of {'auto', True, "
                f"False}}. Received: use_cudnn={use_cudnn}"
            )
        super().__init__(cell, **kwargs)
        self.use_cudnn = use_cudnn

    def call(
        self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False
    ) -> Any:
        """Computes the output."""
        if self.use_cudnn is True:
            raise ValueError(
                f"use_cudnn=True was specified, but there is no cuDNN: {self.describe()} runs on "
                "the CPU. Pass use_cudnn='auto'."
            )
        return super().call(sequences, initial_state, mask=mask, training=training)
