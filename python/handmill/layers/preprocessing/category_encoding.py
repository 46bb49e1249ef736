"""Whole numbers as one-hot and multi-hot rows."""

from __future__ import annotations

from typing import Any

from handmill import ops
from handmill.arguments import whole_number
from handmill.layers.layer import Layer
from handmill.layers.preprocessing.encoding import ROWS, encoded, refuse_sparse


class CategoryEncoding(Layer):
    """Turns numbers of categories into rows. It runs inside of programs.

    Args:
        num_tokens: how many categories there are; numbers outside of ``[0, num_tokens)`` are in
            none.
        output_mode: ``"one_hot"``: a row for each number; ``"multi_hot"``: a row for each sample
            with a 1 for each number in it; ``"count"``: with how often it is there.
        sparse: not supported; must be False.
        **kwargs: ``name`` and the like.

    Example:
        >>> from handmill.layers import CategoryEncoding
        >>> CategoryEncoding(num_tokens=4)([[0, 1], [0, 0], [3, 1]])
        array([[1., 1., 0., 0.],
               [1., 0., 0., 0.],
               [0., 1., 0., 1.]], dtype=float32)
    """

    _convert_input_args = False

    def __init__(
        self,
        num_tokens: int | None = None,
        output_mode: str = "multi_hot",
        sparse: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if output_mode == "binary":
            output_mode = "multi_hot"
        if output_mode not in ROWS:
            raise ValueError(f"Unknown arg for output_mode: {output_mode}; expected one of {ROWS}")
        if num_tokens is None:
            raise ValueError(
                "num_tokens must be set to use this layer. If the number of tokens is not known "
                "beforehand, use the IntegerLookup layer instead."
            )
        if whole_number("`num_tokens`", num_tokens) < 1:
            raise ValueError(f"`num_tokens` must be >= 1. Received: num_tokens={num_tokens}.")
        refuse_sparse(sparse)
        self.num_tokens = num_tokens
        self.output_mode = output_mode
        self.sparse = sparse
        self.autocast = False  # a bfloat16 holds few whole numbers

    def call(self, inputs: Any, count_weights: Any = None) -> Any:
        """Computes the output.

        Args:
            inputs: whole numbers.
            count_weights: with ``output_mode="count"``, what each number counts.
        """
        if count_weights is not None:
            if self.output_mode != "count":
                raise ValueError(
                    "`count_weights` is not used when `output_mode` is not `'count'`. Received "
                    f"`count_weights={count_weights}`."
                )
            count_weights = ops.cast(count_weights, self.compute_dtype)
        return encoded(inputs, self.output_mode, self.num_tokens, self.compute_dtype, count_weights)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "num_tokens": self.num_tokens,
            "output_mode": self.output_mode,
        }
