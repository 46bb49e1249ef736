"""The GRU layer and its cell."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.layers.rnn.cell import DropoutMasks, GatedCell
from handmill.layers.rnn.recurrent import GatedLayer


class GRUCell(GatedCell):
    """One step of :class:`GRU`.

    Gates z, r, h lie side by side in the weights: ``h = z * h + (1 - z) * candidate``. The gate r
    acts on ``h @ recurrent_kernel + bias[1]`` with ``reset_after``, on h before that product
    otherwise. (Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014.)

    Args:
        units: the size of output and state.
        activation: of the candidate; a name or function, None for none.
        recurrent_activation: of the gates.
        use_bias: whether there is a bias; two rows with ``reset_after``.
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
        reset_after: whether r acts behind the product.
        seed: of the draws; default: the next one after ``utils.set_random_seed``.
        **kwargs: ``implementation`` (1: a mask of dropout for each gate), ``name`` and the like.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import GRUCell
        >>> output, h = GRUCell(4)(np.ones((2, 3), "float32"), np.zeros((2, 4), "float32"))
        >>> output.shape
        (2, 4)
    """

    _gates = 3

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
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
        reset_after: bool = True,
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
        self.reset_after = reset_after

    def _make_bias(self, width: int) -> Any:
        return self._add("bias", (2, width) if self.reset_after else (width,))

    def project(self, inputs: Any, masks: DropoutMasks) -> Any:
        """What inputs, and the biases that no gate acts on, add to z, r and the candidate."""
        z = self._projected(inputs, masks.inputs)
        if self.bias is None:
            return z
        if not self.reset_after:
            return ops.add(z, self.bias)
        gates, _ = self._recurrent_bias()
        zeros = ops.zeros((self.units,), dtype=ops.dtype(gates))
        return ops.add(ops.add(z, self.bias[0]), ops.concatenate([gates, zeros]))

    def _recurrent_bias(self) -> tuple[Any, Any]:
        """Of z and r, and of the candidate."""
        return self.bias[1, : 2 * self.units], self.bias[1, 2 * self.units :]

    @property
    def fused(self) -> str | None:  # type: ignore[override]
        """The kind of the operator that does all steps at once, for the usual activations."""
        if not self._is_standard():
            return None
        return "gru" if self.reset_after else "gru_before"

    def fused_operands(self) -> list[Any]:
        """With ``reset_after`` the bias of the candidate, on which the reset gate acts too."""
        if not self.reset_after:
            return []
        if self.bias is None:
            return [ops.zeros((self.units,), dtype=self.compute_dtype)]
        return [self._recurrent_bias()[1]]

    def step(self, z: Any, states: list[Any], masks: DropoutMasks) -> tuple[Any, list[Any]]:
        """One step: the output is the state."""
        h = states[0]
        z_z, z_r, z_h = ops.split(z, 3, axis=-1)
        if self.reset_after:
            inner = self._masked_product(h, masks.state, "recurrent_kernel")
            inner_z, inner_r, inner_h = ops.split(inner, 3, axis=-1)
            if self.bias is not None:
                inner_h = ops.add(inner_h, self._recurrent_bias()[1])
        else:
            inner = self._masked_product(h, masks.state, "recurrent_kernel", 0, 2)
            inner_z, inner_r = ops.split(inner, 2, axis=-1)
        update = self.recurrent_activation(ops.add(z_z, inner_z))
        reset = self.recurrent_activation(ops.add(z_r, inner_r))
        if self.reset_after:
            inner_h = ops.multiply(reset, inner_h)
        else:
            kept = h if masks.state is None else ops.multiply(h, masks.state[2])
            kept = ops.multiply(reset, kept)
            inner_h = self._masked_product(kept, None, "recurrent_kernel", 2, 3)
        candidate = self.activation(ops.add(z_h, inner_h))
        h = ops.add(ops.multiply(update, h), ops.multiply(ops.subtract(1.0, update), candidate))
        return h, [h]

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), **self._config("reset_after")}


class GRU(GatedLayer):
    """Gated recurrent units: a recurrent layer with one state and two gates.

    Args:
        units: the size of output and state.
        activation: of the candidate; a name or function, None for none.
        recurrent_activation: of the gates.
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
        seed: of the draws; default: the next one after ``utils.set_random_seed``.
        return_sequences: whether the outputs of all steps are returned, not only the last one.
        return_state: whether the last state is returned too.
        go_backwards: whether to begin with the last step; outputs are in the order of the steps.
        stateful: whether a batch begins with the states in which the one before it ended.
        unroll: accepted as in Keras; it changes no number.
        reset_after: whether the reset gate acts behind the product with the recurrent kernel.
        use_cudnn: accepted as in Keras; there is no GPU, and True is refused in a call.
        **kwargs: ``zero_output_for_mask``, ``implementation``, ``name`` and the like.

    Call arguments:
        sequences: (batch, time, features).
        initial_state: the first state, (batch, units); default: zeros.
        mask: bool, (batch, time); steps with False leave the state as it is.
        training: whether there is dropout.

    Raises:
        ValueError: if ``units`` is not a positive integer.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import GRU
        >>> GRU(4)(np.ones((2, 5, 3), "float32")).shape
        (2, 4)
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
        reset_after: bool = True,
        use_cudnn: Any = "auto",
        **kwargs: Any,
    ) -> None:
        cell = GRUCell(
            units,
            activation=activation,
            recurrent_activation=recurrent_activation,
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
            reset_after=reset_after,
            seed=seed,
            dtype=kwargs.get("dtype"),
            trainable=kwargs.get("trainable", True),
            name="gru_cell",
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
