"""Stands in for the package keras: `keras` and `keras.src...` import, and mean handmill.

A name of a module of Keras is, in this order: (1) what `MADE` gives for it, (2) handmill's object
under the public name that Keras's source exports it by, (3) a module of Keras, (4) handmill's
function for a class of `keras.src.ops` (Keras's operation classes are no public names; a class
stands for the function that calls it), (5) `Absent`, whose use fails the test. Test machinery
(`RUN`) is executed as it stands in the installed package, over these names.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import inspect
import itertools
import os
import re
import shutil
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_tests import source

DTYPES = ("float32", "float64", "bfloat16", "int8", "uint8", "int32", "int64", "bool")
"""The number types that handmill has."""

RUN = re.compile(r"keras\.src\.(testing\.(test_case|test_utils)|backend\.common\.dtypes|.*_test)$")


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

    def __exit__(self, *args: Any) -> None:
        raise AbsentError(self._why)


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


def made() -> dict[str, dict[str, Any]]:
    """What no public name of Keras gives: module -> name -> object."""
    import handmill as hm
    from handmill import backend, config, layers, naming, ops, random, tree, utils
    from handmill.callbacks.monitor import MonitorCallback
    from handmill.ir.trace import mask_of, with_mask
    from handmill.layers.symbolic import Node
    from handmill.runtime.watch import TrackedDict, TrackedList, TrackedSet

    dtypes = {
        n: getattr(backend, n)
        for n in ("standardize_dtype", "is_float_dtype", "is_int_dtype", "result_type")
    }
    tensors = {"KerasTensor": layers.KerasTensor}
    return {
        "keras.src.backend": {
            **dtypes,
            **tensors,
            "backend": lambda: "handmill",
            "Variable": hm.Variable,
            "SUPPORTS_SPARSE_TENSORS": False,
            "SUPPORTS_RAGGED_TENSORS": False,
            "SUPPORTS_COMPLEX_DTYPES": False,
            "IS_THREAD_SAFE": True,
            "random": random,
            "numpy": ops,
            "math": ops,
            "nn": ops,
            "config": config,
            "name_scope": hm.name_scope,
            "convert_to_tensor": ops.convert_to_tensor,
            "convert_to_numpy": ops.convert_to_numpy,
            "is_tensor": ops.is_tensor,
            "shape": ops.shape,
            "cast": ops.cast,
            "random_seed_dtype": lambda: "int64",
            "get_keras_mask": mask_of,
            "set_keras_mask": with_mask,
        },
        "keras.src.backend.common": {**dtypes, **tensors},
        "keras.src.backend.common.variables": {
            "standardize_dtype": backend.standardize_dtype,
            "KerasVariable": hm.Variable,
        },
        "keras.src.backend.common.keras_tensor": tensors,
        "keras.src.backend.common.masking": {
            "get_keras_mask": mask_of,
            "set_keras_mask": with_mask,
        },
        "keras.src.backend.common.global_state": {
            "clear_session": lambda free_memory=True: utils.clear_session(),
        },
        "keras.src.backend.common.name_scope": {"current_path": naming.current_path},
        "keras.src.utils.naming": {
            "auto_name": naming.auto_name,
            "to_snake_case": naming.to_snake_case,
            "uniquify": naming.uniquify,
            "get_object_name": naming.object_name,
        },
        "keras.src.utils.file_utils": {
            "join": os.path.join,
            "exists": os.path.exists,
            "listdir": os.listdir,
            "makedirs": lambda path: Path(path).mkdir(parents=True, exist_ok=True),
            "File": open,
            "isdir": os.path.isdir,
            "rmtree": shutil.rmtree,
            "copy": shutil.copyfile,
        },
        "keras.src.utils.module_utils": {
            "tensorflow": Foreign("tensorflow"),
            "dmtree": Foreign("dmtree"),
            "optree": types.SimpleNamespace(available=True),
        },
        "keras.src.utils.summary_utils": {
            "print_summary": lambda model, **kwargs: model.summary(**kwargs),
        },
        "keras.src.utils.tracking": {
            "TrackedDict": TrackedDict,
            "TrackedList": TrackedList,
            "TrackedSet": TrackedSet,
        },
        "keras.src.api_export": {"keras_export": lambda *args, **kwargs: lambda x: x},
        "keras.src.random": {"random": random},
        "keras.src.random.seed_generator": {"make_default_seed": random.next_host_seed},
        "keras.src.ops.node": {"Node": Node},
        "keras.src.tree": {n: getattr(tree, n) for n in dir(tree) if not n.startswith("_")},
        "keras.src.tree.tree_api": {"MAP_TO_NONE": tree.MAP_TO_NONE},
        "keras.src.layers.preprocessing.index_lookup": {"IndexLookup": IndexLookup},
        "keras.src.callbacks": {"MonitorCallback": MonitorCallback},
        "keras.src.testing": {
            f"{name}_uses_{device}".lstrip("_"): lambda: False
            for name, device in itertools.product(
                ("", "jax", "tensorflow", "torch"), ("gpu", "tpu")
            )
        },
    }


class IndexLookup:
    """Keras's base class of IntegerLookup and StringLookup stands for whichever is meant."""

    def __new__(
        cls,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        mask_token: Any = None,
        oov_token: Any = None,
        vocabulary_dtype: str = "string",
        **kwargs: Any,
    ) -> Any:
        from handmill import layers

        given = {
            "max_tokens": max_tokens,
            "num_oov_indices": num_oov_indices,
            "mask_token": mask_token,
            "oov_token": oov_token,
            **kwargs,
        }
        if "int" in vocabulary_dtype:
            return layers.IntegerLookup(vocabulary_dtype=vocabulary_dtype, **given)
        return layers.StringLookup(**given)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        from handmill import layers

        is_number = "int" in config["vocabulary_dtype"]
        return (layers.IntegerLookup if is_number else layers.StringLookup).from_config(config)


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
        if name in source.module(self.__name__).operations:
            return operation(self, name)
        if self.__name__ == "keras.src":
            return chain(handmill, name)
        module, original = source.module(self.__name__).imports.get(name, ("", name))
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
            text = rewritten(name, path.read_text(encoding="utf-8"))
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


def rewritten(name: str, text: str) -> str:
    """Test machinery asks each layer for mixed_float16, which handmill refuses on purpose."""
    if name == "keras.src.testing.test_case":
        return text.replace("mixed_float16", "mixed_bfloat16")
    return text


def install() -> None:
    """Puts the stand-in before the real package."""
    source.folder()
    for name in [n for n in sys.modules if n.split(".")[0] == "keras"]:
        del sys.modules[name]
    sys.meta_path.insert(0, Finder())
