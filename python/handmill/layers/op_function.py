"""Functions of ``handmill.ops`` as operations of a functional model, in Keras's terms."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from handmill.ir.dims import attrs_with, holds_dims
from handmill.ir.shapes import standardize_dtype
from handmill.layers.layer import Layer
from handmill.layers.operation import attr_as_data, attr_of_data
from handmill.layers.symbolic import KerasTensor, sizes_of_run
from handmill.naming import to_snake_case, uniquify

_ROOMS = ("core", "image", "linalg", "math", "nn", "numpy")
_KERAS_MODULES = {
    **{f"ops.{room}": f"keras.src.ops.{room}" for room in _ROOMS},
    "activations": "keras.src.activations.activations",
}
"""Modules of handmill -> those of the operations in Keras's files."""

_OURS = {theirs: ours for ours, theirs in _KERAS_MODULES.items()}

_INPUTS: dict[str, tuple[str, ...]] = {
    "average": ("x", "weights"),
    "bincount": ("x",),
    "einsum": ("operands",),
    "full_like": ("x", "fill_value"),
    "get_item": ("x", "key"),
    "isclose": ("x1", "x2", "rtol", "atol"),
    "pad": ("x", "constant_values"),
    "scale_and_translate": ("images", "output_shape", "scale", "translation"),
    "slice": ("inputs", "start_indices"),
    "slice_update": ("inputs", "start_indices", "updates"),
    "trapezoid": ("y",),
    **dict.fromkeys(("fft", "fft2", "ifft2", "irfft", "istft", "mish", "relu"), ("x",)),
}
"""What Keras gives to the call of an operation, where that is not the first tensors; it makes the
operation with all other arguments."""

_CLASSES = {
    "allclose": "AllClose",
    "batch_normalization": "BatchNorm",
    "cdist": "CDist",
    "hsv_to_rgb": "HSVToRGB",
    "isin": "IsIn",
    "layer_normalization": "LayerNorm",
    "rgb_to_grayscale": "RGBToGrayscale",
    "rgb_to_hsv": "RGBToHSV",
    "rms_normalization": "RMSNorm",
    "searchsorted": "SearchSorted",
    **{n: n.upper() for n in ("fft", "fft2", "ifft2", "irfft", "istft", "psnr", "rfft", "ssim")},
    **{n: n.upper() for n in ("stft", "svd")},
}
"""Function -> Keras's class, where that is not the function's name in camel case."""

_NO_OPERATIONS = frozenset({"convert_to_numpy", "dtype", "ndim", "shape"})
"""Functions that tell something of a tensor."""


@functools.cache
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


@functools.cache
def inputs_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """The parameters of a public function that the call of its operation takes."""
    if function.__name__ in _INPUTS:
        return _INPUTS[function.__name__]
    found = []
    for parameter in _signature(function).parameters.values():
        if "Tensor" not in str(parameter.annotation):
            break
        found.append(parameter.name)
    return tuple(found)


def class_of(room: str, name: str) -> str:
    """Keras's class for the operation of a function."""
    if room == "activations" and name == "relu":
        return "ReLU"
    return _CLASSES.get(name) or "".join(part[:1].upper() + part[1:] for part in name.split("_"))


@functools.cache
def _names_in(room: str) -> dict[str, str]:
    """Keras's operations in a module -> functions of ours."""
    if room == "activations":  # all others are operations of ops.nn
        return {"ReLU": "relu", "Mish": "mish"}
    module = _module(room)
    return {
        class_of(room, name): name
        for name in module.__all__
        if inputs_of(getattr(module, name)) and name not in _NO_OPERATIONS
    }


def _module(room: str) -> Any:
    return importlib.import_module(f"handmill.{room}")


def is_operation(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of a file describes an operation without weights."""
    return entry.get("module") in _OURS


class OpFunction(Layer):
    """Calls a public function of ``handmill.ops``, with what it is not computed from fixed.

    Args:
        room: the module of the function: ``"ops.numpy"``, ``"ops.nn"``, ...
        function: the name of the function.
        settings: the arguments that are no input, by name.
        name: default: that of Keras's class in snake case, numbered.
    """

    _fixes_batch = True  # as in OpLayer

    def __init__(
        self,
        room: str,
        function: str,
        settings: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        cls = class_of(room, function)
        super().__init__(name=name or uniquify(to_snake_case(cls)), autocast=False)
        self._room = room
        self._function_name = function
        self._settings = {key: attr_of_data(value) for key, value in (settings or {}).items()}

    @classmethod
    def record(cls, function: Callable[..., Any], public_name: str, args: Any, kwargs: Any) -> Any:
        """Calls a function on symbolic tensors: one operation, where Keras has one."""
        parts = function.__module__.split(".")
        room = ".".join(parts[1:3]) if parts[1] == "ops" else parts[1]
        known = _names_in(room).get(class_of(room, public_name)) == public_name
        if not known or public_name == "convert_to_tensor":  # which gives the tensor back
            return function(*args, **kwargs)
        whole = getattr(_module(room), public_name)
        try:
            bound = _signature(whole).bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # which says what is wrong
        bound.apply_defaults()
        names = inputs_of(whole)
        inputs = {name: bound.arguments[name] for name in names}
        settings = {
            key: standardize_dtype(value) if key == "dtype" and value is not None else value
            for key, value in bound.arguments.items()
            if key not in names
        }
        if _holds(settings, _is_tensor) or _holds(inputs, holds_dims):
            return function(*args, **kwargs)
        if isinstance(inputs.get("key"), list):  # of row numbers; in files, tuples are lists
            inputs["key"] = np.array(inputs["key"])
        given: list[Any] = []
        for key, value in inputs.items():
            given += value if key == _variadic(whole) else [value]
        return cls(room, public_name, settings)(*given)

    @property
    def shown_class(self) -> str:
        """The name of Keras's class."""
        return class_of(self._room, self._function_name)

    @property
    def _function(self) -> Callable[..., Any]:
        return getattr(_module(self._room), self._function_name)  # type: ignore[no-any-return]

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function."""
        function, sizes = self._function, sizes_of_run()
        settings = attrs_with(self._settings, sizes)
        settings |= settings.pop(_gathered(function, inspect.Parameter.VAR_KEYWORD) or "", {})
        variadic = _variadic(function)
        if variadic is None:
            named = dict(zip(inputs_of(function), args, strict=False))
            if isinstance(named.get("key"), list):  # a tuple that was in a file
                named["key"] = tuple(named["key"])
            return function(**named, **kwargs, **settings)
        before = list(_signature(function).parameters)
        before = before[: before.index(variadic)]
        return function(*[settings.pop(name) for name in before], *args, **settings)

    def _carry_masks(self, inputs: Any, outputs: Any, previous: Any) -> None:
        """Functions know nothing of masks, and nobody expects it: no warning is due."""

    def get_config(self) -> dict[str, Any]:
        """The name and the arguments that are no input, as Keras writes them."""
        settings = {key: attr_as_data(value) for key, value in self._settings.items()}
        return {"name": self.name, **settings}

    def description(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What a file says of the operation: the class and module are Keras's."""
        cls = self.shown_class
        names = {"module": _KERAS_MODULES[self._room], "class_name": cls, "registered_name": cls}
        # An operation of Keras is never built.
        return {key: value for key, value in config.items() if key != "build_config"} | names

    @classmethod
    def of_description(cls, entry: Mapping[str, Any]) -> OpFunction:
        """Makes the operation that a file describes.

        Raises:
            ValueError: for an operation that handmill has not.
        """
        from handmill.saving.objects import deserialize_keras_object

        room, name = _OURS[entry["module"]], entry["class_name"]
        known = _names_in(room)
        if not isinstance(name, str) or name not in known:
            raise ValueError(
                f"Unknown operation: {str(name)[:80]!r} of Keras's module {entry['module']!r}; "
                f"handmill.{room} has no function for it"
            )
        settings = dict(deserialize_keras_object(entry.get("config") or {}))
        layer_name = settings.pop("name", None)
        parameters = _signature(getattr(_module(room), known[name])).parameters
        for key in set(settings) - set(parameters):
            if settings.pop(key):  # what is off need not be known
                raise ValueError(
                    f"the operation {name!r} of a model has the argument {str(key)[:80]!r}, which "
                    f"handmill.{room}.{known[name]} has not"
                )
        return cls(room, known[name], settings, name=layer_name)

    def copy(self) -> OpFunction:
        """The same operation without its calls."""
        return OpFunction(self._room, self._function_name, self._settings, name=self.name)


def _variadic(function: Callable[..., Any]) -> str | None:
    return _gathered(function, inspect.Parameter.VAR_POSITIONAL)


def _gathered(function: Callable[..., Any], kind: Any) -> str | None:
    """The name of the parameter that takes any number of arguments, if there is one."""
    parameters = _signature(function).parameters.values()
    return next((p.name for p in parameters if p.kind is kind), None)


def _is_tensor(x: Any) -> bool:
    return isinstance(x, KerasTensor) or (isinstance(x, np.ndarray) and x.dtype == object)


def _holds(x: Any, sought: Callable[[Any], bool]) -> bool:
    if isinstance(x, dict):
        return any(_holds(item, sought) for item in x.values())
    if isinstance(x, list | tuple):
        return any(_holds(item, sought) for item in x)
    return sought(x)
