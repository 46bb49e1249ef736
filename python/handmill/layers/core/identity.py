"""The layer that returns its input."""

from __future__ import annotations

from typing import Any

from handmill.layers.layer import Layer


class Identity(Layer):
    """Returns its input as it is.

    Args:
        **kwargs: ``name`` and the like.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self._build_at_init()

    def call(self, inputs: Any) -> Any:
        """Returns ``inputs``."""
        return inputs
