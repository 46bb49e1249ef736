"""Tokens with a start and an end, filled up to one length."""

from __future__ import annotations

from typing import Any

from handmill.arguments import whole_number
from handmill.hub.preprocessing.rows import mask_of_rows, padded_rows, rows_of, values_of


class StartEndPacker:
    """Puts a start before tokens and an end after them, and fills them up to one length.

    What is too long is cut off before the end is added.

    Args:
        sequence_length: the length of every row.
        start_value: a token, or several; None: none.
        end_value: the same.
        pad_value: fills up. Default: 0.
        return_padding_mask: whether a bool mask of the real tokens is returned too.
        name: accepted as in KerasHub.
        padding_side: "right" or "left".

    Example:
        >>> from handmill import hub
        >>> packer = hub.layers.StartEndPacker(6, start_value=1, end_value=2)
        >>> packer([[5, 6], [5, 6, 7, 8, 9]])
        array([[1, 5, 6, 2, 0, 0],
               [1, 5, 6, 7, 8, 2]], dtype=int32)

    Source: the class of the same name in KerasHub.
    """

    def __init__(
        self,
        sequence_length: int,
        start_value: Any = None,
        end_value: Any = None,
        pad_value: Any = None,
        return_padding_mask: bool = False,
        name: str | None = None,
        padding_side: str = "right",
    ) -> None:
        self.sequence_length = whole_number("sequence_length", sequence_length, 1)
        if padding_side not in ("left", "right"):
            raise ValueError(
                f"`padding_side` must be 'left' or 'right'. Received: {padding_side!r}"
            )
        self.start_value, self.end_value, self.pad_value = start_value, end_value, pad_value
        self.return_padding_mask = bool(return_padding_mask)
        self.padding_side = padding_side
        self.name = name

    def __call__(
        self,
        inputs: Any,
        sequence_length: int | None = None,
        add_start_value: bool = True,
        add_end_value: bool = True,
    ) -> Any:
        """Packs tokens.

        Args:
            inputs: tokens (T,), or rows of them.
            sequence_length: in the place of the packer's own.
            add_start_value: whether the start is added.
            add_end_value: whether the end is added.

        Returns:
            int32 of shape (L,) or (B, L); with the mask, both.
        """
        rows, single = rows_of(inputs, "StartEndPacker")
        given = self.sequence_length if sequence_length is None else sequence_length
        length = whole_number("sequence_length", given, 1)
        start = values_of(self.start_value) if add_start_value else []
        end = values_of(self.end_value) if add_end_value else []
        packed = [([*start, *row][: max(length - len(end), 0)] + end)[:length] for row in rows]
        left = self.padding_side == "left"
        pad = 0 if self.pad_value is None else self.pad_value
        tokens, mask = padded_rows(packed, length, pad, left), mask_of_rows(packed, length, left)
        if single:
            tokens, mask = tokens[0], mask[0]
        return (tokens, mask) if self.return_padding_mask else tokens

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal packer, as plain data."""
        return {
            "sequence_length": self.sequence_length,
            "start_value": self.start_value,
            "end_value": self.end_value,
            "pad_value": self.pad_value,
            "return_padding_mask": self.return_padding_mask,
            "name": self.name,
            "padding_side": self.padding_side,
        }
