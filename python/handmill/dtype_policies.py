"""Dtype policies: in which dtype layers compute, and in which they keep their weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from handmill.lazy import plain_module

_MIXED = {"mixed_bfloat16": ("bfloat16", "float32")}
QUANTIZATION_MODES = ("int8", "float8", "int4", "gptq", "awq")
"""Keras's modes, of which handmill has int8 and int4."""
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
    def quantization_mode(self) -> str | None:
        """How weights are quantized, such as ``"int8"``; None: they are not."""
        return None

    def of_path(self, path: str | None) -> DTypePolicy:
        """The policy of a layer with a path: this one, for all of them."""
        return self

    def convert_input(self, x: Any, autocast: bool, dtype: Any) -> Any:
        """Returns an array or tensor in the dtype of a computation; what is no float stays.

        Args:
            x: what is called with; what is no array is returned as it is.
            autocast: whether anything is converted.
            dtype: the dtype.
        """
        from handmill import ops
        from handmill.ir.shapes import FLOATS

        if not hasattr(x, "shape"):
            return x
        x = ops.convert_to_tensor(x)
        wanted = get(dtype).compute_dtype
        found = ops.dtype(x)
        return ops.cast(x, wanted) if autocast and found in FLOATS and found != wanted else x

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


class QuantizedDTypePolicy(DTypePolicy):
    """The dtypes of a layer whose weights are quantized.

    Args:
        mode: ``"int8"``, or ``"int4"`` with one scale for each output.
        source_name: the policy that the layer had before; default: that of the process.

    Raises:
        ValueError: for another mode, or a policy that does not go with it.

    Example:
        >>> policy = QuantizedDTypePolicy("int8", "float32")
        >>> policy.name, policy.quantization_mode, policy.compute_dtype
        ('int8_from_float32', 'int8', 'float32')
    """

    def __init__(self, mode: str, source_name: str | None = None) -> None:
        super().__init__(source_name)
        self._quantization_mode = mode
        self._source_name = self._name
        self._name = f"{mode}_from_{self._source_name}"
        check_mode(self._base_mode())

    def _base_mode(self) -> str:
        return self._quantization_mode

    @property
    def quantization_mode(self) -> str | None:
        """How weights are quantized."""
        return self._base_mode()

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {"mode": self._quantization_mode, "source_name": self._source_name}

    def __repr__(self) -> str:
        return f'<QuantizedDTypePolicy "{self._name}">'


class Int4DTypePolicy(QuantizedDTypePolicy):
    """The dtypes of a layer whose weights have 4 bits, with a scale for each of some groups.

    Args:
        mode: ``"int4/128"`` for groups of 128 inputs; ``"int4/-1"`` for all of them.
        source_name: the policy that the layer had before.

    Raises:
        ValueError: if ``mode`` is not of that form.

    Example:
        >>> Int4DTypePolicy("int4/64", "float32").block_size
        64
    """

    def __init__(self, mode: str, source_name: str | None = None) -> None:
        found = re.fullmatch(r"int4/(-1|[1-9]\d{0,8})", mode)
        if found is None:
            raise ValueError(
                "Invalid mode for Int4DTypePolicy. Expected format 'int4/<block_size>', with -1 or "
                f"a positive integer, but got {mode!r:.80}."
            )
        self._block_size = int(found[1])
        super().__init__(mode, source_name)

    def _base_mode(self) -> str:
        return "int4"

    @property
    def block_size(self) -> int:
        """The inputs of a group; -1: all of them."""
        return self._block_size

    def __repr__(self) -> str:
        return f'<Int4DTypePolicy "{self._name}">'


class DTypePolicyMap(DTypePolicy, MutableMapping[str, DTypePolicy]):
    """Policies of layers by their paths, such as ``"encoder/dense"``.

    A key is a path or a regular expression of whole paths: ``"encoder/.*"``. A layer that was
    made with such a map, and the layers inside that it handed the map to, look their own path up;
    what no key fits has the default.

    Args:
        default_policy: a policy or its name; default: that of the process.
        policy_map: path or pattern -> policy.

    Raises:
        ValueError: if ``default_policy`` is a map.
        TypeError: if ``policy_map`` is not a dict.

    Example:
        >>> policies = DTypePolicyMap("float32", {"encoder/.*": DTypePolicy("bfloat16")})
        >>> policies["encoder/dense"].name, policies["decoder/dense"].name
        ('bfloat16', 'float32')
    """

    def __init__(
        self, default_policy: Any = None, policy_map: dict[str, DTypePolicy] | None = None
    ) -> None:
        if isinstance(default_policy, DTypePolicyMap):
            raise ValueError("`default_policy` cannot be a `DTypePolicyMap`.")
        if policy_map is not None and not isinstance(policy_map, dict):
            raise TypeError(
                "If specified, `policy_map` must be a dict. "
                f"Received: policy_map={policy_map} of type {type(policy_map)}"
            )
        get(default_policy)  # refuses what is no policy
        self._default_policy_arg = default_policy
        self._policy_map: dict[str, DTypePolicy] = {}
        for key, policy in (policy_map or {}).items():
            self[key] = policy

    @property
    def default_policy(self) -> DTypePolicy:
        """The policy of paths that no key fits."""
        return get(self._default_policy_arg)

    @property
    def name(self) -> str:
        """``map_`` and the name of the default."""
        return f"map_{self.default_policy.name}"

    @property
    def compute_dtype(self) -> str:
        """That of the default."""
        return self.default_policy.compute_dtype

    @property
    def variable_dtype(self) -> str:
        """That of the default."""
        return self.default_policy.variable_dtype

    def of_path(self, path: str | None) -> DTypePolicy:
        """The policy of a layer; of one whose path is not known yet, the default.

        Raises:
            ValueError: if several keys fit.
        """
        if path is None:
            return self.default_policy
        if path in self._policy_map:
            return self._policy_map[path]
        fitting = [key for key in self._policy_map if re.fullmatch(key, path)]
        if len(fitting) > 1:
            raise ValueError(
                f"Path '{path}' matches multiple dtype policy keys: {fitting}. Each path may "
                "match one key at most; make the patterns narrower."
            )
        return self._policy_map[fitting[0]] if fitting else self.default_policy

    def __getitem__(self, key: str) -> DTypePolicy:
        return self.of_path(key)

    def __setitem__(self, key: str, policy: Any) -> None:
        if key in self._policy_map:
            raise ValueError(
                f"{key} already exist in the DTypePolicyMap with value {self._policy_map[key]}. "
                "Delete it first to replace it."
            )
        try:
            re.compile(key)
            self._policy_map[key] = get(policy)
        except (ValueError, TypeError, re.error) as error:
            raise ValueError(
                f"Cannot interpret the assigned value: {key!r} -> {policy!r} of type "
                f"{type(policy)} ({error})"
            ) from None

    def __delitem__(self, key: str) -> None:
        del self._policy_map[key]

    def __contains__(self, key: object) -> bool:
        return key in self._policy_map

    def __iter__(self) -> Iterator[str]:
        return iter(self._policy_map)

    def __len__(self) -> int:
        return len(self._policy_map)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, DTypePolicyMap)
            and other._policy_map == self._policy_map
            and other.default_policy == self.default_policy
        )

    __hash__ = object.__hash__  # a map changes

    def __repr__(self) -> str:
        pairs = [(key, policy.name) for key, policy in self._policy_map.items()]
        return f"<DTypePolicyMap default_policy={self.default_policy.name}, mapping={pairs}>"

    def describe_structure(self, walk: Any) -> None:
        """Adds the map to a description (runtime/structure.py)."""
        walk.is_shared = False  # what it gives depends on paths

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        default = self._default_policy_arg
        return {
            "default_policy": serialize(default) if isinstance(default, DTypePolicy) else default,
            "policy_map": {key: serialize(policy) for key, policy in self._policy_map.items()},
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> Any:
        """Makes a map from its config."""
        given = config.get("policy_map") or {}
        return cls(config.get("default_policy"), {key: get(value) for key, value in given.items()})


def _dtypes_of(name: str) -> tuple[str, str]:
    if name in _MIXED:
        return _MIXED[name]
    from handmill.ir.shapes import DTYPES

    dtype = "int32" if name == "int" else name
    if dtype not in DTYPES:
        raise ValueError(
            f"Cannot convert {name!r:.80} to a DTypePolicy: unknown `dtype`. Known: "
            f"{', '.join((*_MIXED, *DTYPES))}."
            + (" For less than 32 bits use 'mixed_bfloat16'." if "float16" in name else "")
        )
    return dtype, dtype


def check_mode(mode: Any) -> None:
    """Refuses what is no mode of quantization, and modes of Keras that handmill lacks.

    Raises:
        ValueError: it lists the modes.
    """
    if mode not in QUANTIZATION_MODES:
        raise ValueError(
            f"Invalid quantization mode. Expected one of {QUANTIZATION_MODES}. Received: "
            f"mode={mode}"
        )
    if mode not in ("int8", "int4"):
        raise ValueError(
            f"the quantization mode {mode!r} is not supported; there are 'int8' and 'int4', and "
            "`config=` for static steps"
        )


def _quantized(name: str) -> DTypePolicy:
    mode, separator, source = name.partition("_from_")
    if not separator:
        raise ValueError(
            f"Cannot convert {name!r:.80} to a DTypePolicy: a quantized one is named by mode and "
            "source, such as 'int8_from_float32'"
        )
    kind = Int4DTypePolicy if mode.startswith("int4/") else QuantizedDTypePolicy
    return kind(mode, source)


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
    if not isinstance(policy, str | DTypePolicy) or isinstance(policy, DTypePolicyMap):
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
        is_quantized = "_from_" in identifier
        policy = _quantized(identifier) if is_quantized else DTypePolicy(identifier)
    else:
        from handmill.ir.shapes import standardize_dtype

        try:
            policy = DTypePolicy(standardize_dtype(identifier))
        except ValueError:
            raise ValueError(
                "Cannot interpret `dtype` argument. Expected a string or an instance of "
                f"DTypePolicy. Received: dtype={identifier}"
            ) from None
    if policy.compute_dtype == "bfloat16":
        _need_ml_dtypes(policy)
    return policy


def serialize(policy: DTypePolicy) -> dict[str, Any]:
    """Returns a policy as Keras writes it in configs."""
    is_plain = type(policy) in (DTypePolicy, FloatDTypePolicy)
    return {
        "module": "keras" if is_plain else "keras.dtype_policies",
        "class_name": type(policy).__name__,
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
    if config.get("class_name") == "DTypePolicyMap" and isinstance(found, Mapping):
        return DTypePolicyMap.from_config(found)  # type: ignore[no-any-return]
    kind = _QUANTIZED.get(config.get("class_name"))  # type: ignore[arg-type]
    if kind is not None and isinstance(found, Mapping):
        return kind.from_config(found)  # type: ignore[no-any-return]
    name = found.get("name") if isinstance(found, Mapping) else None
    if config.get("class_name") not in ("DTypePolicy", "FloatDTypePolicy") or not isinstance(
        name, str
    ):
        raise ValueError(f"Unknown `dtype`: not the config of a DTypePolicy: {dict(config)!r}")
    return get(name)


_QUANTIZED: dict[str, type[DTypePolicy]] = {
    "QuantizedDTypePolicy": QuantizedDTypePolicy,
    "Int4DTypePolicy": Int4DTypePolicy,
}


__getattr__ = plain_module(__name__)
