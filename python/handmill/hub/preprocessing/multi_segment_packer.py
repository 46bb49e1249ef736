"""Several texts in one row, each with a number."""

from __future__ import annotations

from typing import Any

from handmill.arguments import whole_number
from handmill.hub.preprocessing.rows import padded_rows, rows_of, values_of

TRUNCATIONS = ("round_robin", "waterfall")


class MultiSegmentPacker:
    """Packs segments into one row: start, first segment, separator, second segment, end.

    Args:
        sequence_length: the length of every row.
        start_value: a token, or several.
        end_value: the same.
        sep_value: between segments. Default: `end_value`.
        pad_value: fills up. Default: 0.
        truncate: how the room is shared: "round_robin" gives a token to each segment in turn,
            "waterfall" as much as it needs to the first, then the next.
        name: accepted as in KerasHub.

    Example:
        >>> from handmill import hub
        >>> packer = hub.layers.MultiSegmentPacker(8, start_value=101, end_value=102)
        >>> tokens, segments = packer(([1, 2, 3, 4], [11, 12, 13, 14]))
        >>> tokens
        array([101,   1,   2,   3, 102,  11,  12, 102], dtype=int32)
        >>> segments
        array([0, 0, 0, 0, 0, 1, 1, 1], dtype=int32)

    Source: the class of the same name in KerasHub.
    """

    def __init__(
        self,
        sequence_length: int,
        start_value: Any,
        end_value: Any,
        sep_value: Any = None,
        pad_value: Any = None,
        truncate: str = "round_robin",
        name: str | None = None,
    ) -> None:
        self.sequence_length = whole_number("sequence_length", sequence_length, 1)
        if truncate not in TRUNCATIONS:
            raise ValueError(f"`truncate` must be one of {TRUNCATIONS}. Received: {truncate!r}")
        self.start_value, self.end_value = start_value, end_value
        self.sep_value = end_value if sep_value is None else sep_value
        self.pad_value = pad_value
        self.truncate = truncate
        self.name = name

    def __call__(
        self,
        inputs: Any,
        sequence_length: int | None = None,
        add_start_value: bool = True,
        add_end_value: bool = True,
    ) -> tuple[Any, Any]:
        """Packs segments.

        Args:
            inputs: a tuple or list of segments, each tokens (T,) or rows of them.
            sequence_length: in the place of the packer's own.
            add_start_value: whether the start is added.
            add_end_value: whether the end is added.

        Returns:
            Tokens and numbers of segments, int32 of shape (L,) or (B, L).

        Raises:
            ValueError: where segments have different numbers of rows, or no room is left.
        """
        if isinstance(inputs, tuple | list) and inputs and not _is_tokens(inputs):
            segments = list(inputs)
        else:
            segments = [inputs]
        found = [rows_of(segment, "MultiSegmentPacker") for segment in segments]
        columns, single = [rows for rows, _ in found], all(one for _, one in found)
        if len({len(rows) for rows in columns}) > 1:
            counts = [len(rows) for rows in columns]
            raise ValueError(
                f"MultiSegmentPacker: segments have different numbers of rows: {counts}"
            )
        given = self.sequence_length if sequence_length is None else sequence_length
        length = whole_number("sequence_length", given, 1)
        start = values_of(self.start_value) if add_start_value else []
        end = values_of(self.end_value) if add_end_value else []
        separator = values_of(self.sep_value)
        room = length - len(start) - len(end) - (len(columns) - 1) * len(separator)
        if room < 0:
            raise ValueError(
                f"MultiSegmentPacker: sequence_length={length} leaves no room for {len(columns)} "
                "segments beside start, separators and end"
            )
        tokens, numbers = [], []
        for parts in zip(*columns, strict=True):
            kept = self._shared(parts, room)
            row, number = list(start), [0] * len(start)
            for i, part in enumerate(kept):
                part = part + (separator if i + 1 < len(kept) else end)
                row += part
                number += [i] * len(part)
            tokens.append(row)
            numbers.append(number)
        pad = 0 if self.pad_value is None else self.pad_value
        ids, segment_ids = padded_rows(tokens, length, pad), padded_rows(numbers, length, 0)
        return (ids[0], segment_ids[0]) if single else (ids, segment_ids)

    def _shared(self, parts: tuple[list[Any], ...], room: int) -> list[list[Any]]:
        """Cuts segments so that they fit."""
        lengths = [0] * len(parts)
        if self.truncate == "waterfall":
            for i, part in enumerate(parts):
                lengths[i] = min(len(part), room - sum(lengths))
        else:
            while sum(lengths) < room and any(
                n < len(p) for n, p in zip(lengths, parts, strict=True)
            ):
                for i, part in enumerate(parts):
                    if lengths[i] < len(part) and sum(lengths) < room:
                        lengths[i] += 1
        return [part[:n] for part, n in zip(parts, lengths, strict=True)]

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal packer, as plain data."""
        return {
            "sequence_length": self.sequence_length,
            "start_value": self.start_value,
            "end_value": self.end_value,
            "sep_value": self.sep_value,
            "pad_value": self.pad_value,
            "truncate": self.truncate,
            "name": self.name,
        }


def _is_tokens(inputs: Any) -> bool:
    """Whether a list holds tokens, so that it is one segment."""
    return not isinstance(inputs[0], list | tuple) and not hasattr(inputs[0], "__len__")
