"""What every layer says about quantization; those that can be quantized say more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from handmill.dtype_policies import (
    DTypePolicy,
    DTypePolicyMap,
    check_mode,
)
from handmill.quantizers import (
    Int4QuantizationConfig,
    Int8QuantizationConfig,
    QuantizationConfig,
)


class Quantizable:
    """A base of :class:`Layer`: nothing is quantized, unless a subclass knows how."""

    _dtype_policy: Any
    _path: str | None
    name: str

    @property
    def quantization_mode(self) -> str | None:
        """How the weights are quantized, such as ``"int8"``; None: they are not."""
        return self._dtype_policy.of_path(self._path).quantization_mode  # type: ignore[no-any-return]

    def _described_policy(self) -> DTypePolicy:
        """The dtype policy for a config; a map of paths where layers inside were quantized."""
        own: DTypePolicy = self._dtype_policy
        inside = [
            layer
            for layer in all_inside(self)
            if layer.quantization_mode is not None and layer.path is not None
        ]
        if not inside or isinstance(own, DTypePolicyMap):
            return own
        return DTypePolicyMap(own, {re.escape(v.path): v.dtype_policy for v in inside})

    def quantize(
        self, mode: str | None = None, type_check: bool = True, config: Any = None
    ) -> None:
        """Replaces float weights by integers and their scales, in place.

        Args:
            mode: ``"int8"`` or ``"int4"``.
            type_check: whether subclasses, whose computation may be another, are refused.
            config: how, such as a :class:`handmill.quantizers.Int8QuantizationConfig`.

        Raises:
            NotImplementedError: this layer cannot be quantized.
        """
        raise NotImplementedError(
            f"Layer {type(self).__name__} {self.name!r} does not have a `quantize()` method "
            "implemented."
        )


def all_inside(layer: Any) -> Iterator[Any]:
    """Yields the layers inside a layer, however deep; models describe theirs themselves."""
    if hasattr(layer, "layers"):
        return
    for inner in layer._flatten_layers():
        yield inner
        yield from all_inside(inner)


def resolved_config(mode: Any, config: Any) -> QuantizationConfig:
    """The configuration that ``quantize(mode, config)`` means.

    Raises:
        ValueError: for unknown modes, configurations of another type, and where both disagree.
    """
    if isinstance(config, str):
        mode, config = config, None
    if mode is not None:
        check_mode(mode)
    if config is None:
        if mode is None:
            raise ValueError("You must provide either `mode` or `config` to `quantize`.")
        return Int8QuantizationConfig() if mode == "int8" else Int4QuantizationConfig()
    if not isinstance(config, QuantizationConfig):
        raise ValueError(
            "Argument `config` must be an instance of `QuantizationConfig`. Received: "
            f"config={config} (of type {type(config)})"
        )
    if mode is not None and config.mode != mode:
        raise ValueError(f"Contradictory arguments: mode='{mode}' but config.mode='{config.mode}'")
    check_mode(config.mode)
    return config


def is_selected(layer: Any, filters: Any) -> bool:
    """Whether ``filters`` choose a layer: by expressions that its name fits, or by a function.

    Args:
        layer: the layer.
        filters: None for all; a regular expression, a list of them, or a function of the layer.

    Raises:
        ValueError: for anything else.
    """
    if filters is None:
        return True
    if isinstance(filters, str | list | tuple):
        patterns = [filters] if isinstance(filters, str) else filters
        try:
            return any(re.search(pattern, layer.name) for pattern in patterns)
        except (re.error, TypeError) as error:
            raise ValueError(
                f"`filters` holds no regular expressions: {error}. Received: {filters!r:.200}"
            ) from error
    if callable(filters):
        return bool(filters(layer))
    raise ValueError(
        "The `filters` argument must be a regex string, a list of regex strings, or a callable. "
        f"Received: {type(filters)}"
    )
