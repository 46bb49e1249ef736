"""Dtype policies: in which dtype layers compute, and in which they keep their weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from handmill.lazy import plain_module

_MIXED = {"mixed_bfloat16": ("bfloat16", "float32")}
_policy: DTypePolicy | None = None


class DTypePolicy:
    """The dtypes of a layer: one name for the computation and the weights.

    Args:
        name: ``"float32"``; ``"mixed_bfloat16"``: computes in bfloat16 with float32 weights;
            ``"bfloat16"``: both are bfloat16; or another dtype for both. Default: the name of
            the policy of the process.

    Raises:
        TypeError: if ``name`` is not a string.
        ValueError: for an unknown policy.

    Example:
        >>> policy = DTypePolicy("mixed_bfloat16")
        >>> policy.compute_dtype, policy.variable_dtype
        ('bfloat16', 'float32')
    """

    def __init__(self, name: str | None = None) -> None:
        if name is None:
            name = dtype_policy().name
        if not isinstance(name, str):
            raise TypeError(
                "'name' must be a string, such as 'mixed_bfloat16'. "
                f"Received: name={name} (of type {type(name)})"
            )
        self._name = name
        self._compute_dtype, self._variable_dtype = _dtypes_of(name)

    @property
    def name(self) -> str:
        """The name."""
        return self._name

    @property
    def compute_dtype(self) -> str:
        """The dtype of inputs, computation and outputs."""
        return self._compute_dtype

    @property
    def variable_dtype(self) -> str:
        """The dtype of the weights."""
        return self._variable_dtype

    @property
    def quantization_mode(self) -> None:
        """None: there is no quantization."""
        return

    def describe_structure(self, walk: Any) -> None:
        """Adds the policy to a description (runtime/structure.py)."""
        walk.add(type(self), self._name)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {"name": self._name}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Makes a policy from its config."""
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DTypePolicy) and other._name == self._name

    def __hash__(self) -> int:
        return hash(self._name)

    def __repr__(self) -> str:
        return f'<DTypePolicy "{self._name}">'


class FloatDTypePolicy(DTypePolicy):
    """The older name of :class:`DTypePolicy`."""


def _dtypes_of(name: str) -> tuple[str, str]:
    if name in _MIXED:
        return _MIXED[name]
    from handmill.ir.shapes import DTYPES

    if name not in DTYPES:
        raise ValueError(
            f"Unknown `dtype`: cannot convert {name!r} to a DTypePolicy. Known: "
            f"{', '.join((*_MIXED, *DTYPES))}."
            + (" For less than 32 bits use 'mixed_bfloat16'." if "float16" in name else "")
        )
    return name, name


def floatx() -> str:
    """The default float dtype, ``"float32"``."""
    return "float32"


def set_floatx(value: str) -> None:
    """Sets the default float dtype; only ``"float32"`` has kernels.

    Raises:
        ValueError: for another dtype.
    """
    if value != "float32":
        raise ValueError(f"floatx: handmill computes in 'float32', got {value!r}")


def dtype_policy() -> DTypePolicy:
    """Returns the policy that layers made from now on have, ``"float32"`` unless set."""
    global _policy
    if _policy is None:
        _policy = DTypePolicy(floatx())
    return _policy


def set_dtype_policy(policy: Any) -> None:
    """Sets the policy of layers made from now on.

    Args:
        policy: a name, such as ``"mixed_bfloat16"``, or a :class:`DTypePolicy`.

    Raises:
        ValueError: for anything else; the policy stays as it was.

    Example:
        >>> import handmill
        >>> handmill.config.set_dtype_policy("mixed_bfloat16")
        >>> handmill.layers.Dense(3).compute_dtype
        'bfloat16'
        >>> handmill.config.set_dtype_policy("float32")
    """
    global _policy
    if not isinstance(policy, str | DTypePolicy):
        raise ValueError(
            "Invalid `policy` argument. Expected the string name of a policy (such as "
            f"'mixed_bfloat16') or a `DTypePolicy` instance. Received: policy={policy} (of type "
            f"{type(policy)})"
        )
    found = get(policy)
    if found.compute_dtype == "bfloat16":
        _need_ml_dtypes(found)
    _policy = found


def _need_ml_dtypes(policy: DTypePolicy) -> None:
    import importlib.util

    if importlib.util.find_spec("ml_dtypes") is None:
        raise ImportError(
            f"the dtype policy {policy.name!r} needs a package: pip install ml_dtypes"
        )


def get(identifier: Any) -> DTypePolicy:
    """Returns a policy.

    Args:
        identifier: None for that of the process; a policy, its name, or its config.

    Raises:
        ValueError: for an unknown policy.
        ImportError: if it needs a package that is missing.
    """
    if identifier is None:
        return dtype_policy()
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, Mapping):
        return deserialize(identifier)
    if isinstance(identifier, str):
        policy = DTypePolicy(identifier)
    else:
        try:
            policy = DTypePolicy(np.dtype(identifier).name)
        except TypeError:
            raise ValueError(
                "Cannot interpret `dtype` argument. Expected a string or an instance of "
                f"DTypePolicy. Received: dtype={identifier}"
            ) from None
    if policy.compute_dtype == "bfloat16":
        _need_ml_dtypes(policy)
    return policy


def serialize(policy: DTypePolicy) -> dict[str, Any]:
    """Returns a policy as Keras writes it in configs."""
    return {
        "module": "keras",
        "class_name": "DTypePolicy",
        "config": policy.get_config(),
        "registered_name": None,
    }


def deserialize(config: Mapping[str, Any], custom_objects: Any = None) -> DTypePolicy:
    """Returns the policy that a config describes.

    Args:
        config: what :func:`serialize` returned.
        custom_objects: accepted for Keras.

    Raises:
        ValueError: if it describes none.
    """
    found = config.get("config")
    name = found.get("name") if isinstance(found, Mapping) else None
    if config.get("class_name") not in ("DTypePolicy", "FloatDTypePolicy") or not isinstance(
        name, str
    ):
        raise ValueError(f"Unknown `dtype`: not the config of a DTypePolicy: {dict(config)!r}")
    return get(name)


__getattr__ = plain_module(__name__)
