"""A function as a layer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from handmill import tree
from handmill.errors import ShapeError
from handmill.ir.dims import as_none
from handmill.layers.arguments import is_shape
from handmill.layers.layer import Layer
from handmill.saving.objects import deserialize_keras_object, serialize_keras_object


class Lambda(Layer):
    """Applies a function that is written with ``handmill.ops``.

    The function has no weights of its own. A model with a lambda cannot be saved, for files hold
    data and no code: a function with a name, registered with
    ``@handmill.saving.register_keras_serializable()``, can.

    Args:
        function: called with the inputs; where it has parameters ``mask`` and ``training``, with
            those too.
        output_shape: the shape of its result without the batch size, or a function that gives the
            whole shape from that of the inputs. The function itself tells it: what is declared is
            compared with that.
        mask: the mask of the output, or a function that makes it from the inputs and their mask;
            default: none.
        arguments: further keyword arguments of ``function``.
        **kwargs: ``name`` and the like.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import Lambda
        >>> Lambda(lambda x: x**2)(np.array([1.0, 3.0], "float32"))
        array([1., 9.], dtype=float32)
    """

    def __init__(
        self,
        function: Callable[..., Any],
        output_shape: Any = None,
        mask: Any = None,
        arguments: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not callable(function):
            raise TypeError(
                f"`function` must be callable. Received: function={function!r} "
                f"(of type {type(function).__name__})"
            )
        self.function = function
        self.arguments: dict[str, Any] = dict(arguments) if arguments else {}
        self.mask = mask
        self.supports_masking = mask is not None
        self._output_shape = _as_shape(output_shape)
        parameters = inspect.getfullargspec(function).args
        self._takes = tuple(name for name in ("mask", "training") if name in parameters)

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        """Applies the function."""
        given = {"mask": mask, "training": training}
        known = {name: given[name] for name in self._takes}
        outputs = self.function(inputs, **self.arguments, **known)
        if self._output_shape is not None:
            self._compare(inputs, outputs)
        return outputs

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """The mask that was declared, or what the function for it returns."""
        return self.mask(inputs, mask) if callable(self.mask) else self.mask

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the declared shape, or else that of what the function returns."""
        if self._output_shape is None:
            return super().compute_output_shape(input_shape)
        return self._declared(input_shape)

    def _declared(self, input_shape: Any) -> Any:
        if callable(self._output_shape):
            return self._output_shape(input_shape)
        batch = tree.flatten(input_shape)[0]
        return _map_shapes(lambda shape: (batch, *shape), self._output_shape)

    def _compare(self, inputs: Any, outputs: Any) -> None:
        shapes = tree.map_structure(lambda x: as_none(tuple(x.shape)), inputs)
        declared = _shapes_in(self._declared(shapes))
        found = [as_none(tuple(x.shape)) for x in tree.flatten(outputs)]
        fits = len(declared) == len(found) and all(
            len(a) == len(b)
            and all(m is None or n is None or m == n for m, n in zip(a, b, strict=True))
            for a, b in zip(declared, found, strict=True)
        )
        if not fits:
            raise ShapeError(
                f"{self.describe()}: `output_shape` declares the shape "
                f"{', '.join(map(str, declared))}, but its function returned "
                f"{', '.join(map(str, found))}\n  hint: `output_shape` can be left out"
            )

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data.

        Raises:
            TypeError: if a function is a lambda, which is code and not data.
        """
        config = {**super().get_config(), "function": self._as_data(self.function)}
        if self._output_shape is not None:
            config["output_shape"] = self._as_data(self._output_shape)
        if self.mask is not None:
            config["mask"] = self._as_data(self.mask)
        config["arguments"] = serialize_keras_object(self.arguments)
        return config

    def _as_data(self, value: Any) -> Any:
        try:
            return serialize_keras_object(value)
        except TypeError as error:
            raise TypeError(f"{self.describe()} cannot be written: {error}") from None

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        custom_objects: Mapping[str, Any] | None = None,
        safe_mode: bool | None = None,
    ) -> Any:
        """Makes a layer from its config.

        Args:
            config: what :meth:`get_config` returned.
            custom_objects: name -> function of the user's.
            safe_mode: must not be False: code in a config is never run.

        Raises:
            ValueError: if the config holds code instead of the name of a function.
        """
        if safe_mode is False:
            raise ValueError("`safe_mode=False` is not supported: code in a config is never run")
        arguments = dict(config)
        for name in ("function", "output_shape", "mask", "arguments"):
            value = arguments.get(name)
            if isinstance(value, dict) and value.get("class_name") == "__lambda__":
                raise ValueError(
                    f"The `{name}` of the Lambda layer {config.get('name')!r} is stored as Python "
                    "code, which handmill never runs from a file. Write it as a function with a "
                    "name, register it with @handmill.saving.register_keras_serializable(), and "
                    "save the model again."
                )
            if name in arguments:
                arguments[name] = deserialize_keras_object(value, custom_objects)
        return super().from_config(arguments)


def _as_shape(shape: Any) -> Any:
    """Shapes of a user, or of a config, in tuples."""
    if shape is None or callable(shape):
        return shape
    if isinstance(shape, int):
        return (shape,)
    return _map_shapes(tuple, shape)


def _map_shapes(function: Callable[[Any], Any], shapes: Any) -> Any:
    if is_shape(shapes):
        return function(shapes)
    if isinstance(shapes, dict):
        return {key: _map_shapes(function, value) for key, value in shapes.items()}
    return [_map_shapes(function, value) for value in shapes]


def _shapes_in(shapes: Any) -> list[Any]:
    found: list[Any] = []
    _map_shapes(found.append, shapes)
    return [tuple(shape) for shape in found]
