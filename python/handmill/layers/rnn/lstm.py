"""The LSTM layer and its cell."""

from __future__ import annotations

from typing import Any

from handmill import initializers, ops
from handmill.layers.rnn.cell import DropoutMasks, GatedCell
from handmill.layers.rnn.recurrent import GatedLayer


def forget_bias(initializer: Any, units: int) -> Any:
    """An initializer of the biases i, f, c, o that adds 1 to those of the forget gate."""

    def make(shape: Any, *args: Any, **kwargs: Any) -> Any:
        ones = initializers.get("ones")
        parts = [
            initializer((units,), *args, **kwargs),
            ones((units,), *args, **kwargs),
            initializer((2 * units,), *args, **kwargs),
        ]
        return ops.concatenate(parts)

    return make


class LSTMCell(GatedCell):
    """One step of :class:`LSTM`.

    Gates i, f, c, o lie side by side in the weights:
    ``c = f * c + i * activation(z_c)``, ``h = o * activation(c)``, where
    ``z = x @ kernel + h @ recurrent_kernel + bias`` and i, f, o are ``recurrent_activation`` of
    their parts of z. (Hochreiter and Schmidhuber, "Long short-term memory", 1997.)

    Args:
        units: the size of the output and of both states, h and c.
        activation: of candidate and output; a name or function, None for none.
        recurrent_activation: of the gates.
        use_bias: whether there is a bias.
        kernel_initializer: initial values of the kernel.
        recurrent_initializer: initial values of the recurrent kernel.
        bias_initializer: initial values of the bias.
        unit_forget_bias: whether the biases of the forget gate begin at 1.
        kernel_regularizer: penalty on the kernel.
        recurrent_regularizer: penalty on the recurrent kernel.
        bias_regularizer: penalty on the bias.
        kernel_constraint: condition on the kernel.
        recurrent_constraint: condition on the recurrent kernel.
        bias_constraint: condition on the bias.
        dropout: the share of inputs left out while training, from 0 to 1.
        recurrent_dropout: the share of the state left out while training, from 0 to 1.
        seed: of the draws; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``implementation`` (1: a mask of dropout for each gate), ``name`` and the like.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import LSTMCell
        >>> x, zeros = np.ones((2, 3), "float32"), np.zeros((2, 4), "float32")
        >>> output, (h, c) = LSTMCell(4)(x, [zeros, zeros])
        >>> output.shape, c.shape
        ((2, 4), (2, 4))
    """

    _gates = 4

    bias_initializer: Any

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: Any = None,
        **kwargs: Any,
    ) -> None:
        settings = {
            "kernel_initializer": kernel_initializer,
            "recurrent_initializer": recurrent_initializer,
            "bias_initializer": bias_initializer,
            "kernel_regularizer": kernel_regularizer,
            "recurrent_regularizer": recurrent_regularizer,
            "bias_regularizer": bias_regularizer,
            "kernel_constraint": kernel_constraint,
            "recurrent_constraint": recurrent_constraint,
            "bias_constraint": bias_constraint,
        }
        super().__init__(
            units,
            activation,
            recurrent_activation,
            use_bias,
            settings,
            dropout,
            recurrent_dropout,
            seed,
            **kwargs,
        )
        self.unit_forget_bias = unit_forget_bias
        self.state_size = [self.units, self.units]

    def _make_bias(self, width: int) -> Any:
        plain = self.bias_initializer
        made = forget_bias(plain, self.units) if self.unit_forget_bias else plain
        return self._add("bias", (width,), made)

    def project(self, inputs: Any, masks: DropoutMasks) -> Any:
        """What inputs add to the gates i, f, c, o."""
        z = self._projected(inputs, masks.inputs)
        return z if self.bias is None else ops.add(z, self.bias)

    @property
    def fused(self) -> str | None:  # type: ignore[override]
        """The kind of the operator that does all steps at once, for the usual activations."""
        return "lstm" if self._is_standard() else None

    def step(self, z: Any, states: list[Any], masks: DropoutMasks) -> tuple[Any, list[Any]]:
        """One step: the states are h, which is the output, and c."""
        h, c = states
        z = ops.add(z, self._masked_product(h, masks.state, "recurrent_kernel"))
        z_i, z_f, z_c, z_o = ops.split(z, 4, axis=-1)
        i, f, o = (self.recurrent_activation(gate) for gate in (z_i, z_f, z_o))
        c = ops.add(ops.multiply(f, c), ops.multiply(i, self.activation(z_c)))
        h = ops.multiply(o, self.activation(c))
        return h, [h, c]

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), **self._config("unit_forget_bias")}


class LSTM(GatedLayer):
    """Long short-term memory: a recurrent layer that keeps what its gates let it keep.

    Args:
        units: the size of the output and of both states.
        activation: of candidate and output; a name or function, None for none.
        recurrent_activation: of the gates.
        use_bias: whether there is a bias.
        kernel_initializer: initial values of the kernel.
        recurrent_initializer: initial values of the recurrent kernel.
        bias_initializer: initial values of the bias.
        unit_forget_bias: whether the biases of the forget gate begin at 1.
        kernel_regularizer: penalty on the kernel.
        recurrent_regularizer: penalty on the recurrent kernel.
        bias_regularizer: penalty on the bias.
        activity_regularizer: penalty on the output.
        kernel_constraint: condition on the kernel.
        recurrent_constraint: condition on the recurrent kernel.
        bias_constraint: condition on the bias.
        dropout: the share of inputs left out while training, from 0 to 1; drawn once a call.
        recurrent_dropout: the share of the state left out while training; drawn once a call.
        seed: of the draws; default: the next one after ``utils.set_random_seed``.
        return_sequences: whether the outputs of all steps are returned, not only the last one.
        return_state: whether the last states, h and c, are returned too.
        go_backwards: whether to begin with the last step; outputs are in the order of the steps.
        stateful: whether a batch begins with the states in which the one before it ended.
        unroll: accepted as in Keras; it changes no number.
        use_cudnn: accepted as in Keras; there is no GPU, and True is refused in a call.
        **kwargs: ``zero_output_for_mask``, ``implementation``, ``name`` and the like.

    Call arguments:
        sequences: (batch, time, features).
        initial_state: a list of h and c, (batch, units); default: zeros.
        mask: bool, (batch, time); steps with False leave the states as they are.
        training: whether there is dropout.

    Raises:
        ValueError: if ``units`` is not a positive integer.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import LSTM
        >>> y, h, c = LSTM(4, return_sequences=True, return_state=True)(np.ones((2, 5, 3), "f"))
        >>> y.shape, c.shape, bool((y[:, -1] == h).all())
        ((2, 5, 4), (2, 4), True)
    """

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: Any = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        use_cudnn: Any = "auto",
        **kwargs: Any,
    ) -> None:
        cell = LSTMCell(
            units,
            activation=activation,
            recurrent_activation=recurrent_activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            unit_forget_bias=unit_forget_bias,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            seed=seed,
            dtype=kwargs.get("dtype"),
            trainable=kwargs.get("trainable", True),
            name="lstm_cell",
            implementation=kwargs.pop("implementation", 2),
        )
        super().__init__(
            cell,
            use_cudnn,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
