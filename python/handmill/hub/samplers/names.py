"""Samplers by name, and as plain data."""

from __future__ import annotations

import difflib
from typing import Any

from handmill.hub.samplers.beam_sampler import BeamSampler
from handmill.hub.samplers.greedy_sampler import GreedySampler
from handmill.hub.samplers.random_sampler import RandomSampler
from handmill.hub.samplers.sampler import Sampler
from handmill.hub.samplers.top_k_sampler import TopKSampler
from handmill.hub.samplers.top_p_sampler import TopPSampler

_NAMES: dict[str, type[Sampler]] = {
    "beam": BeamSampler,
    "greedy": GreedySampler,
    "random": RandomSampler,
    "top_k": TopKSampler,
    "top_p": TopPSampler,
}


def get(identifier: Any) -> Sampler:
    """Returns a sampler.

    Args:
        identifier: a sampler; a name (`"greedy"`, `"random"`, `"top_k"`, `"top_p"`, `"beam"`) or a
            class name, for one with its default arguments; or what :func:`serialize` returned.

    Raises:
        ValueError: for anything else.

    Example:
        >>> from handmill import hub
        >>> hub.samplers.get("top_k").k
        5
    """
    if isinstance(identifier, Sampler):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, str):
        found = _class_of(identifier)
        if found is not None:
            return found()
        near = difflib.get_close_matches(identifier, _NAMES, n=1)
        hint = f". Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no sampler is called {identifier!r}; there are {sorted(_NAMES)}{hint}")
    raise ValueError(
        f"Could not interpret sampler identifier: {identifier!r}. Expected a sampler, one of "
        f"{sorted(_NAMES)}, or a configuration"
    )


def serialize(sampler: Sampler) -> dict[str, Any]:
    """Returns a sampler as plain data.

    Example:
        >>> from handmill import hub
        >>> data = hub.samplers.serialize(hub.samplers.TopPSampler(0.9, seed=1))
        >>> hub.samplers.deserialize(data).p
        0.9
    """
    return {"class_name": type(sampler).__name__, "config": sampler.get_config()}


def deserialize(config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Sampler:
    """Returns the sampler of what :func:`serialize` returned.

    Args:
        config: the data.
        custom_objects: class name -> class, for samplers of your own.

    Raises:
        ValueError: for an unknown class.
    """
    name = str(config.get("class_name"))
    found = (custom_objects or {}).get(name) or _class_of(name)
    if found is None:
        raise ValueError(f"no sampler is called {name!r}; pass it in `custom_objects`")
    made = found.from_config(config.get("config", {}))
    if not isinstance(made, Sampler):
        raise ValueError(f"{name!r} is no sampler")
    return made


def _class_of(name: str) -> type[Sampler] | None:
    by_class = {cls.__name__: cls for cls in _NAMES.values()}
    return _NAMES.get(name) or by_class.get(name)
