"""What all preprocessors share: a tokenizer, and how both lie in files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from handmill.saving.objects import deserialize_keras_object, serialize_keras_object


class Preprocessor:
    """Turns texts into what a task is called on.

    Subclasses have a ``tokenizer``, ``_arguments`` (those beside it), and are called on texts,
    labels and weights.
    """

    tokenizer: Any

    def _arguments(self) -> dict[str, Any]:
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data, with the whole vocabulary."""
        return {"tokenizer": serialize_keras_object(self.tokenizer), **self._arguments()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Makes a preprocessor from its config."""
        tokenizer = deserialize_keras_object(config["tokenizer"], kind="tokenizer")
        return cls(**{**config, "tokenizer": tokenizer})
