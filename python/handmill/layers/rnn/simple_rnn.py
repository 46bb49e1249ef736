"""The recurrent layer without gates, and its cell."""

from __future__ import annotations

from typing import Any

from handmill import activations, ops
from handmill.layers.rnn.cell import DropoutMasks, UnitsCell
from handmill.layers.rnn.recurrent import RecurrentLayer


class SimpleRNNCell(UnitsCell):
    """One step of :class:`SimpleRNN`: ``activation(x @ kernel + h @ recurrent_kernel + bias)``.

    Args:
        units: the size of output and state.
        activation: a name or function; None for none.
        use_bias: whether there is a bias.
        kernel_initializer: initial values of the kernel.
        recurrent_initializer: initial values of the recurrent kernel.
        bias_initializer: initial values of the bias.
        kernel_regularizer: penalty on the kernel.
        recurrent_regularizer: penalty on the recurrent kernel.
        bias_regularizer: penalty on the bias.
        kernel_constraint: condition on the kernel.
        recurrent_constraint: condition on the recurrent kernel.
        bias_constraint: condition on the bias.
        dropout: the share of inputs left out while training, from 0 to 1.
        recurrent_dropout: the share of the state left out while training, from 0 to 1.
        seed: of the draws; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``name`` and the like.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import RNN, SimpleRNNCell
        >>> RNN(SimpleRNNCell(4))(np.ones((2, 5, 3), "float32")).shape
        (2, 4)
    """

    _full_dropout = True

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
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
            units, activation, use_bias, settings, dropout, recurrent_dropout, seed, **kwargs
        )

    def project(self, inputs: Any, masks: DropoutMasks) -> Any:
        """What inputs add before the activation."""
        z = self._projected(inputs, masks.inputs)
        return z if self.bias is None else ops.add(z, self.bias)

    @property
    def fused(self) -> str | None:  # type: ignore[override]
        """The kind of the operator that does all steps at once, for the usual activations."""
        return "simple_rnn" if self.activation is activations.get("tanh") else None

    def step(self, z: Any, states: list[Any], masks: DropoutMasks) -> tuple[Any, list[Any]]:
        """One step: the output is the state."""
        of_state = self._masked_product(states[0], masks.state, "recurrent_kernel")
        h = self.activation(ops.add(z, of_state))
        return h, [h]


class SimpleRNN(RecurrentLayer):
    """A fully connected recurrent layer: each output is an input of the next step.

    Args:
        units: the size of output and state.
        activation: a name or function; None for none.
        use_bias: whether there is a bias.
        kernel_initializer: initial values of the kernel.
        recurrent_initializer: initial values of the recurrent kernel.
        bias_initializer: initial values of the bias.
        kernel_regularizer: penalty on the kernel.
        recurrent_regularizer: penalty on the recurrent kernel.
        bias_regularizer: penalty on the bias.
        activity_regularizer: penalty on the output.
        kernel_constraint: condition on the kernel.
        recurrent_constraint: condition on the recurrent kernel.
        bias_constraint: condition on the bias.
        dropout: the share of inputs left out while training, from 0 to 1; drawn once a call.
        recurrent_dropout: the share of the state left out while training; drawn once a call.
        return_sequences: whether the outputs of all steps are returned, not only the last one.
        return_state: whether the last state is returned too.
        go_backwards: whether to begin with the last step; outputs are in the order of the steps.
        stateful: whether a batch begins with the states in which the one before it ended.
        unroll: accepted as in Keras; it changes no number.
        seed: of the draws; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``zero_output_for_mask``, ``name`` and the like.

    Call arguments:
        sequences: (batch, time, features).
        initial_state: the first state, (batch, units); default: zeros.
        mask: bool, (batch, time); steps with False leave the state as it is.
        training: whether there is dropout.

    Raises:
        ValueError: if ``units`` is not a positive integer.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import SimpleRNN
        >>> SimpleRNN(4, return_sequences=True)(np.ones((2, 5, 3), "float32")).shape
        (2, 5, 4)
    """

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        seed: Any = None,
        **kwargs: Any,
    ) -> None:
        cell = SimpleRNNCell(
            units,
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
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
            name="simple_rnn_cell",
        )
        super().__init__(
            cell,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
