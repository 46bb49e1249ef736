"""Objects as config dictionaries, in Keras's form.

Only classes of handmill's own tables and classes that the caller names can be made from a
dictionary. Nothing is ever imported by a name that comes from a file.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import numpy as np

from handmill.ir.shapes import numpy_dtype
from handmill.naming import known_names, to_snake_case

T = TypeVar("T")

MODULES = {
    "layers": "handmill.layers",
    "initializers": "handmill.initializers",
    "regularizers": "handmill.regularizers",
    "constraints": "handmill.constraints",
    "losses": "handmill.losses",
    "metrics": "handmill.metrics",
    "optimizers": "handmill.optimizers",
    "optimizers.schedules": "handmill.optimizers.schedules",
    "models": "handmill.models",
    "activations": "handmill.activations",
    "random": "handmill.random",
    "utils": "handmill.utils",
}
"""Module name in a file, below ``keras`` or ``handmill`` -> module whose table is searched."""

ROOT_CLASSES = {"Sequential": "models", "Model": "models", "Functional": "models"}

_custom: dict[str, Any] = {}
_custom_names: dict[Any, str] = {}

# Per thread and task: a loader in one must not make classes that were allowed in another.
_scopes: ContextVar[tuple[Mapping[str, Any], ...]] = ContextVar("_scopes", default=())

ARRAY_CLASS = "__numpy__"
"""What the description of an array has instead of the name of a class."""

_ARRAY_DTYPES = frozenset(
    {"bool", "bfloat16", "float16", "float32", "float64"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)


def register_keras_serializable(
    package: str = "Custom", name: str | None = None
) -> Callable[[T], T]:
    """Decorator that lets files name a class or function of the user's.

    Args:
        package: a prefix that keeps names of different projects apart.
        name: default: the object's own name.

    Example:
        >>> @register_keras_serializable(package="mine")
        ... def double(x):
        ...     return x * 2
        >>> get_registered_name(double)
        'mine>double'
    """

    def register(obj: T) -> T:
        own = name if name is not None else getattr(obj, "__name__", str(obj))
        registered = f"{package}>{own}"
        if isinstance(obj, type) and not hasattr(obj, "get_config"):
            raise ValueError(
                f"Cannot register class {own} because it does not have a get_config() method."
            )
        _custom[registered] = obj
        _custom_names[obj] = registered
        return obj

    return register


def get_registered_name(obj: Any) -> str:
    """The name under which ``obj`` was registered, or its own name."""
    try:
        return _custom_names.get(obj) or str(obj.__name__)
    except TypeError:
        return str(getattr(obj, "__name__", obj))


def get_registered_object(
    name: str,
    custom_objects: Mapping[str, Any] | None = None,
    module_objects: Mapping[str, Any] | None = None,
) -> Any | None:
    """The object registered as ``name``, None if there is none.

    Args:
        name: the name.
        custom_objects: name -> object, looked through first.
        module_objects: name -> object, looked through last.
    """
    if not (custom_objects or _custom or _scopes.get()):
        return module_objects.get(name) if module_objects else None
    for table in (custom_objects or {}, *reversed(_scopes.get()), _custom):
        if name in table:
            return table[name]
        short = name.rpartition(">")[2]
        if short in table:
            return table[short]
    return module_objects.get(name) if module_objects else None


def get_custom_objects() -> dict[str, Any]:
    """The table of registered names itself; entries may be added and deleted."""
    return _custom


class CustomObjectScope:
    """Makes classes of the user's known to loaders inside a ``with`` block, in this thread.

    Args:
        custom_objects: name -> class or function; None for none.
    """

    def __init__(self, custom_objects: Mapping[str, Any] | None) -> None:
        self.custom_objects = custom_objects or {}

    def __enter__(self) -> CustomObjectScope:
        _scopes.set((*_scopes.get(), self.custom_objects))
        return self

    def __exit__(self, *exc: object) -> None:
        _scopes.set(_scopes.get()[:-1])


def serialize_keras_object(obj: Any) -> Any:
    """Returns ``obj`` as plain data: dicts, lists, strings, numbers.

    Args:
        obj: an object with ``get_config()``, a function of handmill, or plain data.

    Raises:
        TypeError: for what cannot be written as data, such as a lambda.
    """
    if obj is None or isinstance(obj, str | bool | int | float):
        return obj
    if isinstance(obj, np.generic):
        return obj.item()
    if isinstance(obj, list | tuple):
        return [serialize_keras_object(item) for item in obj]
    if isinstance(obj, dict):
        return {key: serialize_keras_object(value) for key, value in obj.items()}
    if isinstance(obj, np.ndarray):
        return _array_config(obj)
    if hasattr(obj, "get_config"):
        cls = type(obj)
        return {
            "module": public_module(cls),
            "class_name": cls.__name__,
            "config": obj.get_config(),
            "registered_name": _custom_names.get(cls, None if is_own(cls) else cls.__name__),
        }
    if callable(obj) and hasattr(obj, "__name__"):
        if obj.__name__ == "<lambda>":
            raise TypeError(
                "a lambda is code, and files of handmill hold data only; write a function "
                "with a name and register it with @handmill.saving.register_keras_serializable()"
            )
        return {
            "module": "builtins",
            "class_name": "function",
            "config": get_registered_name(obj),
            "registered_name": _custom_names.get(obj, "function"),
        }
    raise TypeError(
        f"cannot serialize {obj!r} of type {type(obj).__name__}: it has no get_config()"
    )


def _array_config(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    dtype = array.dtype.name
    if dtype not in _ARRAY_DTYPES:
        raise TypeError(
            f"an array of {array.dtype} cannot be written: files hold arrays of bool, integers and "
            "floats of up to 64 bits; return strings from get_config() as a list (.tolist())"
        )
    config = {"value": array.tolist(), "dtype": dtype}
    if 0 in array.shape:  # which the nested lists do not tell
        config["shape"] = list(array.shape)
    return {"class_name": ARRAY_CLASS, "config": config}


def _make_array(config: Any) -> np.ndarray[Any, Any]:
    dtype = config["dtype"]
    if not isinstance(dtype, str) or dtype not in _ARRAY_DTYPES:
        raise ValueError(f"an array has the dtype {str(dtype)[:40]!r}, which files cannot hold")
    array = np.array(config["value"], numpy_dtype(dtype))
    if "shape" in config and array.size == 0:
        array = array.reshape(config["shape"])
    return array


def is_own(cls: Any) -> bool:
    """Whether ``cls`` is defined by handmill itself."""
    return str(getattr(cls, "__module__", "")).partition(".")[0] == "handmill"


def public_module(cls: type) -> str | None:
    """The module under which Keras exports a class of the same name."""
    if not is_own(cls):
        return None
    if cls.__name__ in ROOT_CLASSES and cls.__module__.startswith("handmill.models"):
        return "keras.src.models.functional" if cls.__name__ == "Functional" else "keras"
    if cls.__name__ == "FeatureSpace":
        return "keras.utils"
    inside = cls.__module__.split(".")[1:]
    if inside[:2] == ["optimizers", "schedules"]:
        return "keras.optimizers.schedules"
    return f"keras.{inside[0]}"


def deserialize_keras_object(
    config: Any,
    custom_objects: Mapping[str, Any] | None = None,
    module_objects: Mapping[str, Any] | None = None,
    kind: str = "object",
    *,
    safe_mode: bool = True,
) -> Any:
    """Makes the object that :func:`serialize_keras_object` described.

    Args:
        config: a dictionary with ``class_name`` and ``config``; plain data is returned as it is.
        custom_objects: name -> class or function of the user's.
        module_objects: name -> class or function searched first.
        kind: what is expected, for the error.
        safe_mode: must be True: there is no unsafe way to make objects.

    Raises:
        ValueError: for a name that is neither handmill's own nor registered.
    """
    if not safe_mode:
        raise ValueError("`safe_mode=False` is not supported: code in a config is never run")
    if not custom_objects:
        return _deserialize(config, module_objects, kind)
    with CustomObjectScope(custom_objects):
        return _deserialize(config, module_objects, kind)


_shared: ContextVar[dict[Any, Any] | None] = ContextVar("_shared", default=None)


@contextmanager
def shared_objects() -> Iterator[None]:
    """Makes an object that several places of a description share once, in a ``with`` block.

    Keras gives each such description the same number.
    """
    token = _shared.set({})
    try:
        yield
    finally:
        _shared.reset(token)


def _deserialize(config: Any, module_objects: Mapping[str, Any] | None, kind: str) -> Any:
    made, number = _shared.get(), isinstance(config, dict) and config.get("shared_object_id")
    if made is None or not isinstance(number, int) or number is False:
        return _make(config, module_objects, kind)
    if number not in made:
        made[number] = _make(config, module_objects, kind)
    return made[number]


def _make(config: Any, module_objects: Mapping[str, Any] | None, kind: str) -> Any:
    if isinstance(config, list | tuple):
        return [_deserialize(item, module_objects, kind) for item in config]
    if isinstance(config, str) and module_objects is not None:
        found = find_object(config, module_objects)
        if found is None:
            raise ValueError(known_names(kind, config, module_objects))
        return found() if isinstance(found, type) else found
    if not isinstance(config, dict):
        return config
    if "class_name" not in config or "config" not in config:
        return {key: _deserialize(value, None, kind) for key, value in config.items()}
    name, inner = config["class_name"], config["config"]
    if name == ARRAY_CLASS:
        return _make_array(inner)
    if name == "function":
        found = find_object(str(inner), module_objects or {})
        if found is None:
            raise ValueError(_unknown(kind, inner, config))
        return found
    cls = find_class(config, module_objects)
    if cls is None:
        raise ValueError(_unknown(kind, name, config))
    if hasattr(cls, "from_config"):
        made = cls.from_config(dict(inner))
        shape = config.get("build_config")
        if isinstance(shape, dict) and hasattr(made, "build_from_config") and not made.built:
            made.build_from_config(shape)
        return made
    return cls(**inner)


def interpret(
    identifier: Any, kind: str, deserialize: Callable[[Any], Any], known: Iterable[type] = ()
) -> Any:
    """What ``get`` does in the modules of losses, metrics, initializers and their like.

    Args:
        identifier: None, a name, an object or its class, a callable, or a config dictionary.
        kind: what is wanted, for the error.
        deserialize: makes it from a name or a dictionary.
        known: classes that the error lists.

    Raises:
        ValueError: if ``identifier`` is none of these.
    """
    if identifier is None:
        return None
    if isinstance(identifier, dict | str):
        return deserialize(identifier)
    if isinstance(identifier, type):
        return identifier()
    if callable(identifier):
        return identifier
    names = [to_snake_case(c.__name__) for c in known]
    hint = f". {known_names(kind, identifier, names)}" if names else ""
    raise ValueError(f"Could not interpret {kind} identifier: {identifier!r}{hint}")


def _unknown(kind: str, name: object, config: Mapping[str, Any]) -> str:
    registered = config.get("registered_name") or name
    return (
        f"Unknown {kind}: {name!r} (registered as {registered!r}). Files name classes of handmill "
        "and classes that you allow: decorate yours with "
        "@handmill.saving.register_keras_serializable(), or pass "
        f"custom_objects={{{str(name)!r}: ...}}."
    )


def find_object(name: str, module_objects: Mapping[str, Any]) -> Any | None:
    """The object called ``name``: the user's first, then from ``module_objects``."""
    found = get_registered_object(name)
    return found if found is not None else module_objects.get(name)


def find_class(
    config: Mapping[str, Any], module_objects: Mapping[str, Any] | None = None
) -> Any | None:
    """The class that a config dictionary names, None if it may not be made."""
    name = config.get("class_name")
    if not isinstance(name, str):
        return None
    for key in (config.get("registered_name"), name):
        if isinstance(key, str) and (found := get_registered_object(key)) is not None:
            return found
    if module_objects is not None and isinstance(module_objects.get(name), type):
        return module_objects[name]
    module = str(config.get("module") or "")
    root, _, inside = module.partition(".")
    if root not in ("keras", "handmill"):
        return None
    if name in ROOT_CLASSES:
        inside = ROOT_CLASSES[name]
    if inside not in MODULES:
        return None
    table = importlib.import_module(MODULES[inside])
    if name.startswith("_") or name not in table.__dir__():
        return None
    found = getattr(table, name)
    makeable = isinstance(found, type) and is_own(found) and hasattr(found, "from_config")
    return found if makeable else None
