"""What is there or absent together: features, groups of them, or segments of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill import tree
from handmill.arguments import whole_number
from handmill.ir.op import Array


@dataclass(frozen=True, slots=True, eq=False)
class Players:
    """Which player each entry of a row belongs to.

    Attributes:
        count: the number of players.
        labels: for each input the players' numbers, of the shape of one of its rows.
        names: what players are called, or None.
        of_groups: whether values are told of players, not of entries.
    """

    count: int
    labels: list[Array]
    names: list[str] | None
    of_groups: bool

    @property
    def are_entries(self) -> bool:
        """Whether each entry of one input is a player of its own, in their order."""
        return not self.of_groups and len(self.labels) == 1

    def columns(self, player: int) -> list[Array]:
        """The places of a player's entries in flat rows of each input."""
        if self.are_entries:
            return [np.array([player])]
        return [np.flatnonzero(part.reshape(-1) == player) for part in self.labels]

    def varying(self, row: Sequence[Array], background: Sequence[Array]) -> Array:
        """The players that differ from some row of the background: of others the value is 0."""
        if self.are_entries:
            differs = (background[0] != row[0]).reshape(len(background[0]), -1)
            return np.asarray((differs[0] if len(differs) == 1 else differs.any(0)).nonzero()[0])
        found = np.zeros(self.count, bool)
        for part, value, rows in zip(self.labels, row, background, strict=True):
            differs = (rows != value).reshape(len(rows), -1).any(0)
            found[part.reshape(-1)[differs]] = True
        return found.nonzero()[0]

    def spread(self, values: Array) -> list[Array]:
        """Values of players (rows, count) as they are told.

        Returns:
            Of groups of a table, the same. Else an array for each input, of its shape, in which a
            player's value is shared equally among its entries, so that sums stay.
        """
        if self.of_groups and len(self.labels) == 1 and self.labels[0].ndim == 1:
            return [values]
        if self.are_entries:
            return [values.reshape(len(values), *self.labels[0].shape)]
        sizes = np.zeros(self.count)
        for part in self.labels:
            sizes += np.bincount(part.reshape(-1), minlength=self.count)
        return [(values / sizes)[:, part] for part in self.labels]

    def shown(self, values: Array) -> list[Array]:
        """Values of players (rows, count), each as it is at every entry of the player.

        Of an image (rows, height, width); of groups of a table, the same.
        """
        if self.of_groups and self.labels[0].ndim == 1:
            return [values]
        if self.of_groups:
            return [values[:, self.map]]
        return [values[:, part] for part in self.labels]

    @property
    def map(self) -> Array:
        """The segment of each pixel (height, width)."""
        label = self.labels[0]
        if label.ndim == 2:
            return label
        from handmill import config

        return label[0] if config.image_data_format() == "channels_first" else label[..., 0]

    def data(self, made: Any, arrays: Sequence[Array]) -> Any:
        """The rows explained; of groups of columns the mean of the columns of each."""
        if not (self.of_groups and arrays[0].ndim == 2):
            return tree.pack_sequence_as(made, list(arrays)) if tree.is_nested(made) else arrays[0]
        columns = [self.columns(j)[0] for j in range(self.count)]
        return np.stack([arrays[0][:, c].mean(1) for c in columns], axis=1)


def players_for(
    arrays: Sequence[Array], groups: Any = None, segments: Any = None, feature_names: Any = None
) -> Players:
    """Says what is there or absent together.

    Args:
        arrays: rows of each input.
        groups: of a table, lists of columns (numbers or names) that together hold each once, or a
            dict of such lists by name; None for single features.
        segments: of images, an integer array (height, width) of the segments' numbers from 0, or
            the side of squares; None for single entries.
        feature_names: names of the features of a table.

    Raises:
        ValueError: for groups that overlap or leave features out, for segments of another size or
            with gaps in their numbers.
    """
    if groups is not None and segments is not None:
        raise ValueError("pass `groups` (of a table) or `segments` (of images), not both")
    if groups is not None or segments is not None:
        if len(arrays) != 1:
            raise ValueError("`groups` and `segments` are for models with one input")
        shape = arrays[0].shape[1:]
        if segments is not None:
            label = segment_labels(segments, shape)
            return Players(int(label.max()) + 1, [label], None, True)
        return _of_groups(groups, shape, feature_names)
    labels: list[Array] = []
    start = 0
    for array in arrays:
        size = int(np.prod(array.shape[1:]))
        labels.append(np.arange(start, start + size).reshape(array.shape[1:]))
        start += size
    names = feature_names if len(arrays) == 1 and arrays[0].ndim == 2 else None
    if names is not None and len(names) != start:
        raise ValueError(f"`feature_names` has {len(names)} names for {start} features")
    return Players(start, labels, None if names is None else [str(n) for n in names], False)


def segment_labels(segments: Any, shape: tuple[int, ...]) -> Array:
    """The number of its segment for each entry of an image of ``shape`` (with channels or not).

    Raises:
        ValueError: for segments of another size, negative numbers, or gaps among them.
    """
    from handmill import config

    if len(shape) not in (2, 3):
        raise ValueError(f"`segments` are for images; a row of the data has the shape {shape}")
    first = len(shape) == 3 and config.image_data_format() == "channels_first"
    places = shape[1:] if first else shape[:2]
    if isinstance(segments, int | np.integer) and not isinstance(segments, bool):
        found = squares(places, int(segments))
    else:
        found = np.asarray(segments)
        if found.shape != places or found.dtype.kind not in "iu":
            raise ValueError(
                f"`segments` must be whole numbers of the shape {places}, one for each pixel. "
                f"Received {found.dtype} of the shape {found.shape}"
            )
        if found.min() < 0:
            raise ValueError(f"`segments` are numbered from 0; {int(found.min())} is negative")
        missing = np.flatnonzero(np.bincount(found.reshape(-1)) == 0)
        if missing.size:
            raise ValueError(
                f"`segments` are numbered from 0 without gaps; {int(missing[0])} is missing up to "
                f"{int(found.max())}: np.unique(segments, return_inverse=True)[1] closes them"
            )
        found = found.astype(np.intp)
    if len(shape) == 2:
        return found
    return np.array(np.broadcast_to(found if first else found[..., None], shape))


def squares(places: tuple[int, ...], side: int) -> Array:
    """Numbers of squares with this side that tile an image (height, width)."""
    if side < 1:
        raise ValueError(f"the side of squares in `segments` must be 1 or more. Received: {side}")
    across = -(-places[1] // side)
    y, x = np.indices(places)
    return np.asarray((y // side) * across + x // side, np.intp)


def _of_groups(groups: Any, shape: tuple[int, ...], feature_names: Any) -> Players:
    if len(shape) != 1:
        raise ValueError(
            f"`groups` are of columns of a table; a row of the data has the shape {shape}: pass "
            "`segments`"
        )
    if not isinstance(groups, Mapping | Sequence | np.ndarray):
        raise ValueError(
            "`groups` must be lists of columns, such as [[0, 1], [2]], or a dict of them by name. "
            f"Received: {groups!r}"
        )
    known = None if feature_names is None else [str(n) for n in feature_names]
    names = [str(n) for n in groups] if isinstance(groups, Mapping) else None
    members = list(groups.values()) if isinstance(groups, Mapping) else list(groups)
    labels = np.full(shape, -1, np.intp)
    for number, group in enumerate(members):
        for column in [_column(c, known, shape[0]) for c in np.atleast_1d(group)]:
            if labels[column] >= 0:
                raise ValueError(
                    f"`groups` overlap: column {column} stands in groups {labels[column]} and "
                    f"{number}"
                )
            labels[column] = number
    missing = np.flatnonzero(labels < 0)
    if missing.size:
        raise ValueError(
            f"`groups` leave out {missing.size} of {shape[0]} columns, first {int(missing[0])}: "
            "each must stand in one group"
        )
    empty = np.flatnonzero(np.bincount(labels, minlength=len(members)) == 0)
    if empty.size:
        raise ValueError(f"group {int(empty[0])} of `groups` is empty")
    if names is None:
        names = [
            "+".join(known[c] if known else f"x{c}" for c in np.flatnonzero(labels == number))
            for number in range(len(members))
        ]
    return Players(len(members), [labels], names, True)


def _column(column: Any, names: list[str] | None, count: int) -> int:
    if isinstance(column, str):
        if names is None or column not in names:
            raise ValueError(
                f"no column is called {str(column)!r}; there are {names or 'no names'}"
            )
        return names.index(column)
    number = whole_number("a column of `groups`", column)
    if not 0 <= number < count:
        raise ValueError(f"column {number} of `groups` does not exist: there are {count}")
    return number


def column_of(column: Any, names: Any, count: int) -> int:
    """The number of a column that is named or numbered; errors say which exist."""
    return _column(column, None if names is None else [str(n) for n in names], count)
