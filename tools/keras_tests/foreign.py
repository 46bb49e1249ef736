"""Other frameworks, which are not here."""

from __future__ import annotations

import types
from typing import Any

FRAMEWORKS = ("tensorflow", "grain", "openvino", "flax")
"""Installed or not, they are not here: importing them is no error, using them is."""


class OtherFrameworkError(ImportError):
    """A test used TensorFlow or its like."""


class Foreign(types.ModuleType):
    """Another framework, or something of it."""

    available = False

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Foreign(f"{self.__name__}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise OtherFrameworkError(self.__name__)

    def __instancecheck__(self, instance: Any) -> bool:
        raise OtherFrameworkError(self.__name__)

    def __mro_entries__(self, bases: Any) -> tuple[type, ...]:
        return (object,)
