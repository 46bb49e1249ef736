"""Stands in for the package keras: `keras` and `keras.src...` import, and mean handmill.

A name of a module of Keras is, in this order: (1) what `MADE` gives for it, (2) handmill's object
under the public name that Keras's source exports it by, (3) a module of Keras, (4) handmill's
function for a class of `keras.src.ops` (Keras's operation classes are no public names; a class
stands for the function that calls it), (5) the literal that Keras's source assigns to it, (6)
`Absent`, whose use fails the test. Test machinery (`RUN`) is executed as it stands in the installed
package, over these names.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import inspect
import re
import sys
import types
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_tests import source
from keras_tests.foreign import FRAMEWORKS, Foreign
from keras_tests.rewrites import rewritten
from keras_tests.stand_ins import made

DTYPES = ("float32", "float64", "bfloat16", "int8", "uint8", "int32", "int64", "bool")
"""The number types that handmill has."""

RUN = re.compile(
    r"keras\.src\.(testing\.(test_case|test_utils)|backend\.common\.(dtypes|backend_utils)|.*_test)$"
)


class AbsentError(NotImplementedError):
    """A test used a name that handmill does not have."""


class Absent:
    """A name that handmill does not have: importing it is no error, using it is."""

    def __init__(self, name: str, public: str | None) -> None:
        kind = f"{public} is missing" if public else f"{name} is no public name"
        self.__dict__["_why"] = kind

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise AbsentError(self._why)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AbsentError(self._why)

    def __mro_entries__(self, bases: Any) -> tuple[type, ...]:
        return (object,)

    def __enter__(self) -> Any:
        raise AbsentError(self._why)

    def __instancecheck__(self, instance: Any) -> bool:
        raise AbsentError(self._why)

    def __getitem__(self, key: Any) -> Any:
        raise AbsentError(self._why)

    def __fspath__(self) -> str:
        raise AbsentError(self._why)

    def __exit__(self, *args: Any) -> None:
        raise AbsentError(self._why)


def chain(root: Any, dotted: str) -> Any:
    """An attribute of an attribute; modules are imported."""
    for part in dotted.split("."):
        try:
            root = getattr(root, part)
        except AttributeError:
            if not isinstance(root, types.ModuleType):
                raise
            try:
                root = importlib.import_module(f"{root.__name__}.{part}")
            except ImportError:
                raise AttributeError(part) from None
    return root


class Room(types.ModuleType):
    """One module of the stand-in."""

    def __getattr__(self, name: str) -> Any:
        import handmill

        if name.startswith("__") and name != "__version__":
            raise AttributeError(name)
        place = self.__name__.removeprefix("keras").lstrip(".")
        if not place.startswith("src"):
            return chain(handmill, f"{place}.{name}".lstrip("."))
        if public := source.public(self.__name__, name):
            try:
                return chain(handmill, public.removeprefix("keras."))
            except (AttributeError, ImportError):
                return Absent(f"{self.__name__}.{name}", public)
        full = f"{self.__name__}.{name}"
        if source.path_of(full):
            return importlib.import_module(full)
        here = source.module(self.__name__)
        if name in here.constants:
            return here.constants[name]
        if name in here.operations and place.startswith("src.ops"):
            return operation(self, name)
        if self.__name__ == "keras.src":
            return chain(handmill, name)
        module, original = here.imports.get(name, ("", name))
        if module.startswith("keras.src") and module != self.__name__:
            return getattr(importlib.import_module(module), original)
        if place == "src.ops" or place.startswith("src.ops."):
            try:
                return getattr(handmill.ops, name)
            except AttributeError:
                pass
        return Absent(full, None)


def operation(room: Room, name: str) -> Any:
    """A class of Keras's operations, made of the function that calls it."""
    called, parameters = source.module(room.__name__).operations[name]
    function = getattr(room, called)

    class Operation:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.given = {**dict(zip(parameters, args, strict=False)), **kwargs}
            self.given.pop("name", None)

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            if isinstance(function, Absent):
                return function()
            taken = inspect.signature(function).parameters
            free = [name for name in taken if name not in self.given]
            if any(p.kind is p.VAR_POSITIONAL for p in taken.values()):
                first = [p.name for p in taken.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
                given = dict(self.given)
                before = [given.pop(name) for name in first if name in given]
                return function(*before, *args, **given, **kwargs)
            if len(args) > len(free):
                return function(*args, **self.given, **kwargs)
            return function(**dict(zip(free, args, strict=False)), **self.given, **kwargs)

        call = __call__

        def symbolic_call(self, *args: Any, **kwargs: Any) -> Any:
            return self(*symbolic(args), **symbolic(kwargs))

        compute_output_spec = symbolic_call

    Operation.__name__ = name
    return Operation


def symbolic(values: Any) -> Any:
    """The same structure with symbolic values in the place of arrays."""
    from handmill import layers, tree

    def described(x: Any) -> Any:
        return layers.KerasTensor(x.shape, str(x.dtype)) if isinstance(x, np.ndarray) else x

    return tree.map_structure(described, values)


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `keras`, other frameworks, and all below them."""

    def __init__(self) -> None:
        self.made = made()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.split(".", maxsplit=1)[0] not in ("keras", *FRAMEWORKS):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return Room(spec.name) if spec.name.split(".")[0] == "keras" else Foreign(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        name = module.__name__
        if RUN.match(name) and (path := source.path_of(name)):
            module.__file__ = str(path)
            file = path.relative_to(source.folder()).as_posix()
            text = rewritten(file, path.read_text(encoding="utf-8"))
            exec(compile(text, str(path), "exec"), module.__dict__)
        if name == "keras.src.backend.common.dtypes":
            from handmill import backend

            # The lists are Keras's, less what handmill lacks; the rule that is tested is ours.
            vars(module)["result_type"] = backend.result_type
            for key in ("BOOL_TYPES", "INT_TYPES", "FLOAT_TYPES", "ALLOWED_DTYPES"):
                kept = [d for d in getattr(module, key) if d in DTYPES]
                setattr(module, key, type(getattr(module, key))(kept))
        if name == "keras.src.testing.test_case":
            vars(module)["get_seed_generators"] = seed_generators
        vars(module).update(self.made.get(name, {}))


def seed_generators(layer: Any) -> list[Any]:
    """The generators of a layer and the layers in it."""
    from handmill import random

    parts, found = [layer], []
    for part in parts:  # which grows
        parts += part._flatten_layers()
        found += [v for v in vars(part).values() if isinstance(v, random.SeedGenerator)]
    return list({id(generator): generator for generator in found}.values())


def install() -> None:
    """Puts the stand-in before the real package."""
    source.folder()
    for name in [n for n in sys.modules if n.split(".")[0] == "keras"]:
        del sys.modules[name]
    sys.meta_path.insert(0, Finder())
