"""What a layer adds to or cuts from both ends of an image's axes."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from handmill.config import standardize_data_format
from handmill.layers.input_spec import InputSpec
from handmill.layers.layer import Layer
from handmill.ops.nn.spatial import each


class BorderLayer(Layer):
    """Base: numbers for both ends of each axis between batch and channels.

    Args:
        pairs: an integer for all ends; for each axis an integer or a pair (before, after). Of one
            axis a pair.
        data_format: "channels_last" or "channels_first"; default: ``image_data_format()``.
        **kwargs: ``name`` and the like.

    Raises:
        ValueError: if they are no such integers of at least 0.
    """

    _rank: ClassVar[int]
    _argument: ClassVar[str]
    """The name of ``pairs`` in the config."""
    _has_data_format = True

    def __init__(self, pairs: Any, data_format: str | None = None, /, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = standardize_data_format(data_format)
        found = self._pairs_of(pairs)
        setattr(self, self._argument, found[0] if self._rank == 1 else found)
        self.input_spec = InputSpec(ndim=self._rank + 2)

    def _pairs_of(self, value: Any) -> tuple[tuple[int, ...], ...]:
        name = self._argument
        if self._rank == 1:
            return (each(name, value, 2, least=0),)
        if isinstance(value, int | np.integer):
            return (each(name, value, 2, least=0),) * self._rank
        if not isinstance(value, list | tuple) or len(value) != self._rank:
            raise ValueError(
                f"`{name}` should be an int, or have {self._rank} elements, each an int or two of "
                f"them (before, after). Received: {name}={value}"
            )
        return tuple(each(f"{name}[{i}]", pair, 2, least=0) for i, pair in enumerate(value))

    def _pairs(self) -> tuple[tuple[int, ...], ...]:
        """The numbers for all axes of an input."""
        found = getattr(self, self._argument)
        inside = (found,) if self._rank == 1 else found
        if self.data_format == "channels_first":
            return ((0, 0), (0, 0), *inside)
        return ((0, 0), *inside, (0, 0))

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        config = {**super().get_config(), self._argument: getattr(self, self._argument)}
        if self._has_data_format:
            config["data_format"] = self.data_format
        return config
