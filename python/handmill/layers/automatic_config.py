"""Configs of layers that do not write one: the arguments that they were made with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from handmill import dtype_policies
from handmill.layers.arguments import takes_name
from handmill.layers.attributes import BASE_ARGUMENTS


def collect_arguments(layer: Any, config: dict[str, Any]) -> None:
    """Adds the arguments that a layer was made with to its config.

    Raises:
        NotImplementedError: if they cannot be written as data, or have no names.
    """
    from handmill.saving.objects import serialize_keras_object

    kind = type(layer).__name__
    if layer._init_arguments is None:
        raise NotImplementedError(
            f"{kind} was made with arguments that are positional only, or collected by `*args`, "
            "for which a config has no names; it must define get_config() and from_config()"
        )
    extra = {k: v for k, v in layer._init_arguments.items() if k not in BASE_ARGUMENTS}
    if not takes_name(type(layer)):
        del config["name"]
    try:
        config.update({k: serialize_keras_object(v) for k, v in extra.items()})
    except TypeError as error:
        raise NotImplementedError(
            f"{kind} has arguments that cannot be written as data; it must define get_config(). "
            f"({error})"
        ) from None


def layer_from_config(cls: Any, config: Mapping[str, Any]) -> Any:
    """Makes a layer from its config.

    Raises:
        TypeError: if its constructor does not take what the config holds; a ValueError, too, if
            that was what the constructor raised.
    """
    from handmill.saving.objects import deserialize_keras_object

    arguments = dict(config)
    if isinstance(arguments.get("dtype"), dict):
        policy = dtype_policies.get(arguments["dtype"])
        # Constructors that expect a name, as most of those written for Keras do, are given one.
        is_plain = type(policy) is dtype_policies.DTypePolicy
        arguments["dtype"] = policy.name if is_plain else policy
    if arguments.get("quantization_config", 0) is None:  # Keras writes it for layers without it
        del arguments["quantization_config"]
    if getattr(cls.get_config, "collects_arguments", False):
        arguments = {
            k: deserialize_keras_object(v) if k not in BASE_ARGUMENTS else v
            for k, v in arguments.items()
        }
    try:
        return cls(**arguments)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else _UnfitValueError
        raise kind(
            f"Error when making {cls.__name__} from its config: {error}\nconfig={config}"
        ) from None


class _UnfitValueError(TypeError, ValueError):
    """A value in a config that a constructor refuses: Keras's TypeError, and the constructor's."""
