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

from handmill.errors import warn_caller
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
    "quantizers": "handmill.quantizers",
    "random": "handmill.random",
    "distillation": "handmill.distillation",
    "selfsup": "handmill.selfsup",
    "utils": "handmill.utils",
}
"""Module name in a file, below ``keras`` or ``handmill`` -> module whose table is searched."""

_HUB = "keras_hub"
"""The library whose names handmill.hub has, and the package under which it registers them."""

_HUB_ROOMS = ("layers", "models", "preprocessing", "samplers", "tokenizers")

ROOT_CLASSES = {"Sequential": "models", "Model": "models", "Functional": "models"}

_custom: dict[str, Any] = {}
_custom_names: dict[Any, str] = {}

# Per thread and task: a loader in one must not make classes that were allowed in another.
_scopes: ContextVar[tuple[Mapping[str, Any], ...]] = ContextVar("_scopes", default=())

ARRAY_CLASS = "__numpy__"
"""What the description of an array has instead of the name of a class."""

_TENSOR_CLASS = "__tensor__"
"""The same for a tensor of Keras's backends, which is an array here."""

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
                f"Cannot register a class that does not have a get_config() method: {own}."
            )
        _custom[registered] = obj
        _custom_names[obj] = registered
        return obj

    return register


def get_registered_name(obj: Any) -> str:
    """The name under which ``obj`` was registered, or its own name."""
    try:
        found = _custom_names.get(obj)
    except TypeError:  # it has no hash
        found = None
    name = str(getattr(obj, "__name__", obj))
    return found or (f"{_HUB}>{name}" if _is_of_hub(obj) else name)


def _is_of_hub(obj: Any) -> bool:
    return str(getattr(obj, "__module__", "")).startswith("handmill.hub.")


def _from_hub(name: str) -> Any | None:
    """The class or function that KerasHub registers as ``name``, None if there is none here."""
    package, _, short = name.partition(">")
    if package != _HUB or short.startswith("_"):
        return None
    for room in _HUB_ROOMS:
        table = importlib.import_module(f"handmill.hub.{room}")
        if short in table.__dir__():
            return getattr(table, short)
    return None


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
    for table in (custom_objects or {}, *reversed(_scopes.get()), _custom):
        if name in table:
            return table[name]
        short = name.rpartition(">")[2]
        if short in table:
            return table[short]
    return (module_objects or {}).get(name) or _from_hub(name)


def get_custom_objects() -> dict[str, Any]:
    """The table of registered names itself; entries may be added and deleted."""
    return _custom


class CustomObjectScope:
    """Makes classes of the user's known to loaders inside a ``with`` block, in this thread.

    Args:
        custom_objects: name -> class or function; None for nothing.
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
        items = [serialize_keras_object(item) for item in obj]
        return tuple(items) if isinstance(obj, tuple) else items
    if isinstance(obj, dict):
        if "class_name" in obj and "config" in obj:  # an object that is described already
            return obj
        return {key: serialize_keras_object(value) for key, value in obj.items()}
    if isinstance(obj, np.ndarray):
        return _array_config(obj)
    if obj is Ellipsis or isinstance(obj, bytes | slice):
        return _builtin_config(obj)
    if hasattr(obj, "get_config"):
        cls = type(obj)
        config = {
            "module": public_module(cls),
            "class_name": cls.__name__,
            "config": serialize_keras_object(obj.get_config()),
            "registered_name": _registered_class(cls),
        }
        config.update(_build_and_compile_configs(obj))
        if (scope := _shared.get()) is not None:
            scope.described(obj, config)
        return config
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
            "registered_name": get_registered_name(obj)
            if _is_of_hub(obj)
            else (_custom_names.get(obj, "function")),
        }
    raise TypeError(
        f"cannot serialize {obj!r} of type {type(obj).__name__}: it has no get_config()"
    )


def _registered_class(cls: type) -> str | None:
    """What a description says that a class is registered as: nothing of handmill's own is."""
    return (
        None
        if is_own(cls) and cls not in _custom_names and not _is_of_hub(cls)
        else (get_registered_name(cls))
    )


def _build_and_compile_configs(obj: Any) -> dict[str, Any]:
    """For what shape a layer was built, and how a model was compiled."""
    found = {}
    build = getattr(obj, "get_build_config", None)
    if build is not None and (config := build()) is not None:
        found["build_config"] = serialize_keras_object(config)
    compiled = getattr(obj, "get_compile_config", None)
    if compiled is not None:
        try:
            if (config := serialize_keras_object(compiled())) is not None:
                found["compile_config"] = config
        except TypeError as error:  # a lambda, say: the model can be read and compiled again
            warn_caller(
                f"model {obj.name!r} is described without how it was compiled: {error}", UserWarning
            )
    return found


def _builtin_config(obj: Any) -> dict[str, Any]:
    if obj is Ellipsis:
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(obj, bytes):
        try:
            return {"class_name": "__bytes__", "config": {"value": obj.decode()}}
        except UnicodeDecodeError as error:
            raise TypeError(f"bytes that are no UTF-8 text cannot be written: {error}") from None
    parts = {part: serialize_keras_object(getattr(obj, part)) for part in _SLICE}
    return {"class_name": "__slice__", "config": parts}


_SLICE = ("start", "stop", "step")


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
    if inside[0] == "hub":
        return f"{_HUB}.{inside[1]}"
    if inside[:2] == ["optimizers", "schedules"]:
        return "keras.optimizers.schedules"
    return f"keras.{inside[0]}"


def deserialize_keras_object(
    config: Any,
    custom_objects: Mapping[str, Any] | None = None,
    safe_mode: bool = True,
    *,
    module_objects: Mapping[str, Any] | None = None,
    kind: str = "object",
) -> Any:
    """Makes the object that :func:`serialize_keras_object` described.

    Args:
        config: a dictionary with ``class_name`` and ``config``; plain data is returned as it is.
        custom_objects: name -> class or function of the user's.
        safe_mode: must be True: there is no unsafe way to make objects.
        module_objects: name -> class or function searched first.
        kind: what is expected, for the error.

    Raises:
        ValueError: for a name that is neither handmill's own nor registered.
    """
    if not safe_mode:
        raise ValueError("`safe_mode=False` is not supported: code in a config is never run")
    if not custom_objects:
        return _deserialize(config, module_objects, kind)
    with CustomObjectScope(custom_objects):
        return _deserialize(config, module_objects, kind)


class _Shared:
    """Objects that occur in several places of a description."""

    def __init__(self) -> None:
        self.made: dict[int, Any] = {}
        self._described: dict[int, tuple[Any, dict[str, Any]]] = {}
        self._count = 0

    def described(self, obj: Any, config: dict[str, Any]) -> None:
        """Gives the descriptions of an object one number, from the second on."""
        if id(obj) not in self._described:
            self._described[id(obj)] = (obj, config)
            return
        first = self._described[id(obj)][1]
        if "shared_object_id" not in first:
            self._count += 1
            first["shared_object_id"] = self._count
        config["shared_object_id"] = first["shared_object_id"]


_shared: ContextVar[_Shared | None] = ContextVar("_shared", default=None)


@contextmanager
def shared_objects() -> Iterator[None]:
    """In a ``with`` block, what several places of a description share is one object.

    Each description of it has the same number, as Keras writes it, and it is made once.
    """
    token = _shared.set(_Shared())
    try:
        yield
    finally:
        _shared.reset(token)


def _deserialize(config: Any, module_objects: Mapping[str, Any] | None, kind: str) -> Any:
    scope, number = _shared.get(), isinstance(config, dict) and config.get("shared_object_id")
    if scope is None or not isinstance(number, int) or number is False:
        return _make(config, module_objects, kind)
    if number not in scope.made:
        scope.made[number] = _make(config, module_objects, kind)
    return scope.made[number]


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
    if name == "function":
        return _function(config, module_objects, kind)
    inner = {} if inner is None else inner
    if not isinstance(inner, dict):
        raise TypeError(
            f"Expected 'config' to be a dict for {str(name)[:80]}, received {type(inner).__name__}"
        )
    if name in (ARRAY_CLASS, _TENSOR_CLASS):
        return _make_array(inner)
    if name == "__bytes__":
        return str(inner["value"]).encode()
    if name == "__ellipsis__":
        return Ellipsis
    if name == "__slice__":
        return slice(*(_deserialize(inner[part], None, kind) for part in _SLICE))
    cls = find_class(config, module_objects)
    if cls is None:
        raise ValueError(_unknown(kind, name, config))
    _refuse_other_name(cls, config, (name,))
    if not isinstance(cls, type):
        return cls(**inner)
    if not hasattr(cls, "from_config"):
        raise TypeError(
            f"Unable to reconstruct an instance of {cls.__name__}: the class has no "
            "from_config() method. Write one, which gets what get_config() gave"
        )
    made = cls.from_config(dict(inner))
    shape = config.get("build_config")
    if isinstance(shape, dict) and hasattr(made, "build_from_config") and not made.built:
        made.build_from_config(shape)
    compiled = config.get("compile_config")
    if isinstance(compiled, dict) and compiled and hasattr(made, "compile_from_config"):
        try:
            made.compile_from_config(compiled)
        except ValueError as error:  # a function of the user's that is not known here
            warn_caller(f"model {made.name!r} is not compiled: {error}", UserWarning)
    return made


_FUNCTION_TABLES = (
    ("handmill.losses.registry", "TABLE"),
    ("handmill.metrics.registry", "TABLE"),
    ("handmill.activations", "_BY_NAME"),
)
"""Where functions that a description may name stand, beside classes."""


def _function(
    config: Mapping[str, Any], module_objects: Mapping[str, Any] | None, kind: str
) -> Any:
    name = config["config"]
    if not isinstance(name, str):
        raise TypeError(
            f"Expected 'config' to be a non-null str for a function, received {type(name).__name__}"
        )
    found = find_object(name, module_objects or {})
    if found is None and ">" not in name:  # as Keras 3.6 wrote it, without the package
        packaged = [known for known in _custom if known.rpartition(">")[2] == name]
        found = _custom[packaged[0]] if len(packaged) == 1 else None
    if found is None:
        tables = (getattr(importlib.import_module(m), t) for m, t in _FUNCTION_TABLES)
        named = (table[name] for table in tables if name in table)
        found = next((made for made in named if not isinstance(made, type)), None)
    if found is None:
        raise ValueError(_unknown(kind, name, config))
    _refuse_other_name(found, config, (name, "function"))
    return found


def _refuse_other_name(found: Any, config: Mapping[str, Any], names: tuple[Any, ...]) -> None:
    """Refuses a built-in under a name of somebody else's: what was meant is not known here."""
    registered = config.get("registered_name")
    if not registered or registered in names or not is_own(found):
        return
    if registered != get_registered_name(found):
        raise ValueError(
            f"{names[0]!r} resolved to a Keras built-in, but it is registered as "
            f"{str(registered)[:80]!r}. Pass custom_objects={{{str(registered)[:80]!r}: ...}}"
        )


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
