"""Initial values of weights. Both executors get the same numbers from the same seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from handmill.arguments import whole_number
from handmill.ir.op import Array
from handmill.ir.shapes import numpy_dtype
from handmill.lazy import plain_module
from handmill.naming import to_snake_case
from handmill.saving.objects import deserialize_keras_object, interpret, serialize_keras_object


class Initializer:
    """Base class: a callable ``(shape, dtype) -> array``."""

    def describe_structure(self, walk: Any) -> None:
        """Adds to a description that there is one: programs read what it made, not how."""
        walk.add(Initializer)

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> Array:
        """Returns initial values of ``shape``."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(shape, dtype)")

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Initializer:
        """Makes an initializer from its config."""
        return cls(**config)

    def clone(self) -> Initializer:
        """Returns a copy with the same config."""
        return type(self).from_config(self.get_config())


def _cast(values: Any, dtype: str | None) -> Array:
    return np.asarray(values, numpy_dtype(dtype or "float32"))


class Zeros(Initializer):
    """All zeros."""

    gives_zeros = True
    """A variable is that at first, and needs no array."""

    def __init_subclass__(cls) -> None:
        cls.gives_zeros = False

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> Array:
        return np.zeros(tuple(shape), numpy_dtype(dtype or "float32"))


class Ones(Initializer):
    """All ones."""

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> Array:
        return np.ones(tuple(shape), numpy_dtype(dtype or "float32"))


class Constant(Initializer):
    """One value everywhere, or the values of an array of the same shape.

    Args:
        value: a number or an array.
    """

    only_shape: tuple[int, ...] | None = None
    """The one shape that it makes, where ``get`` was handed an array."""

    def __init__(self, value: Any = 0.0) -> None:
        self.value = value

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> Array:
        if self.only_shape not in (None, tuple(shape)):
            raise ValueError(
                f"Expected `shape` to be {self.only_shape} for direct tensor as initializer. "
                f"Received shape={tuple(shape)}"
            )
        return _cast(np.broadcast_to(np.asarray(self.value), tuple(shape)), dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {"value": serialize_keras_object(self.value)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Initializer:
        """Makes an initializer from its config."""
        return cls(deserialize_keras_object(config["value"]))


class Identity(Initializer):
    """The identity matrix times ``gain``; for square or rectangular matrices.

    Args:
        gain: the factor.
    """

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> Array:
        if len(shape) != 2:
            raise ValueError(
                f"Identity matrix initializer can only be used for 2D matrices, got shape {shape}"
            )
        return _cast(self.gain * np.eye(shape[0], shape[1]), dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {"gain": self.gain}


class Dirac(Initializer):
    """Kernels of convolutions that hand channels on as they are.

    Output channel ``i`` of each group, as long as there is an input channel ``i``, starts as 1 at
    the middle of the window for that input channel and 0 elsewhere: with ``padding="same"`` the
    layer hands it on. Keras has none: its ``Identity`` makes matrices.

    Args:
        groups: groups of the convolution.
        others: the initializer of output channels that have no input channel left; default: zeros.

    Raises:
        ValueError: for a shape that is no kernel's, and output channels that the groups do not
            divide.

    Example:
        >>> from handmill import initializers
        >>> kernel = initializers.Dirac()((3, 3, 2, 3))
        >>> kernel[1, 1].tolist(), float(kernel.sum())
        ([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], 2.0)
    """

    def __init__(self, groups: int = 1, others: Any = "zeros") -> None:
        self.groups = whole_number("Dirac: `groups`", groups, 1)
        self.others = get(others)

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> Array:
        shape = tuple(shape)
        if not 3 <= len(shape) <= 5 or shape[-1] % self.groups:
            raise ValueError(
                "Dirac makes kernels of convolutions of shape (..., inputs, outputs), with outputs "
                f"a multiple of groups={self.groups}. Received: shape={shape}"
            )
        kernel = np.array(self.others(shape, dtype=dtype))
        middle = tuple(size // 2 for size in shape[:-2])
        outputs = shape[-1] // self.groups
        for group in range(self.groups):
            for channel in range(min(shape[-2], outputs)):
                output = group * outputs + channel
                kernel[..., output] = 0
                kernel[middle][channel, output] = 1
        return kernel

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {"groups": self.groups, "others": serialize_keras_object(self.others)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Initializer:
        """Makes an initializer from its config."""
        return cls(config.get("groups", 1), deserialize(config.get("others", "zeros")))


_WINDOWS = {"hann": (0.5, 0.5), "hamming": (0.54, 0.46), "blackman": (0.42, 0.5, 0.08)}
"""Name -> weights of the cosines that make a window."""


def _window(name: str, length: int, is_periodic: bool) -> Array:
    weights = _WINDOWS.get(name)
    if weights is None:
        try:
            from scipy.signal import get_window
        except ImportError as error:
            raise ImportError(
                f"the window {name!r} needs scipy; without it there are {', '.join(_WINDOWS)}, and "
                "arrays"
            ) from error
        found: Array = get_window(name, length, fftbins=is_periodic)
        return found
    last = length if is_periodic else length - 1
    angles = 2.0 * math.pi * np.arange(length) / max(last, 1)
    if length == 1:
        return np.ones(1)
    terms = [(-1) ** k * weight * np.cos(k * angles) for k, weight in enumerate(weights)]
    return np.asarray(np.sum(terms, axis=0))


class STFT(Initializer):
    """Kernels of convolutions that compute a short-time Fourier transform.

    Values of shape ``(T, 1, F)``: ``cos(2 pi t f / (2 (F - 1)))``, or the negative sine, times a
    window of length T.

    Args:
        side: ``"real"`` for the cosine, ``"imag"`` for the sine.
        window: ``"hann"``, ``"hamming"``, ``"blackman"``, another name that
            ``scipy.signal.get_window`` knows, the values themselves, or None.
        scaling: what the window is divided by: ``"density"``, its norm; ``"spectrum"``, its sum;
            or None.
        periodic: whether the window ends one step before it would repeat.

    Raises:
        ValueError: for another side, scaling or window.
        ImportError: for windows that need scipy, where it is missing.
    """

    def __init__(
        self,
        side: str = "real",
        window: Any = "hann",
        scaling: str | None = "density",
        periodic: bool = False,
    ) -> None:
        if side not in ("real", "imag"):
            raise ValueError(f"side should be 'real' or 'imag', not {side!r}")
        if isinstance(window, str):
            _window(window, 1, False)  # is the name known?
        if scaling not in (None, "density", "spectrum"):
            raise ValueError(
                "Scaling is invalid, it must be `None`, 'density' or 'spectrum'. Received "
                f"scaling={scaling!r}"
            )
        self.side = side
        self.window = window
        self.scaling = scaling
        self.periodic = periodic

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> Array:
        if len(shape) != 3 or shape[1] != 1 or shape[2] < 2:
            raise ValueError(
                "STFT makes values of shape (length of the window, 1, frequencies), of at least 2 "
                f"frequencies. Received: shape={tuple(shape)}"
            )
        length, _, frequencies = shape
        turns = np.outer(np.arange(length), np.arange(frequencies)) / (2 * (frequencies - 1))
        angles = 2.0 * math.pi * turns
        kernel = np.cos(angles) if self.side == "real" else -np.sin(angles)
        if self.window is not None:
            window = self.window
            if isinstance(window, str):
                window = _window(window, length, self.periodic)
            window = np.asarray(window, np.float64)
            if window.shape != (length,):
                raise ValueError(
                    f"The shape of `window` must be equal to [frame_length], here {length}. "
                    f"Received: window shape={window.shape}"
                )
            scale = {
                "density": math.sqrt(np.sum(window * window)),
                "spectrum": float(np.sum(np.abs(window))),
            }.get(self.scaling or "", 1.0)
            kernel = kernel * (window / scale)[:, None]
        return _cast(kernel[:, None, :], dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            "side": self.side,
            "window": serialize_keras_object(self.window),
            "periodic": self.periodic,
            "scaling": self.scaling,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Initializer:
        """Makes an initializer from its config."""
        return cls(**{**config, "window": deserialize_keras_object(config["window"])})


class RandomInitializer(Initializer):
    """Base of initializers that draw random numbers.

    Args:
        seed: an integer; default: the next one after ``utils.set_random_seed``. One object
            gives the same values at each call. Or a ``random.SeedGenerator``: new values each time.

    Attributes:
        draws_numbers: whether that can wait where stored values take their place.
    """

    draws_numbers = True

    def __init__(self, seed: Any = None) -> None:
        from handmill import random

        if isinstance(seed, dict):
            seed = deserialize_keras_object(seed)
        is_number = isinstance(seed, int) and not isinstance(seed, bool)
        if not (seed is None or is_number or isinstance(seed, random.SeedGenerator)):
            raise ValueError(
                "`seed` argument should be an instance of `random.SeedGenerator` or an integer. "
                f"Received: seed={seed!r}"
            )
        self._given_seed = seed
        self.seed = random.next_host_seed() if seed is None else seed

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {"seed": serialize_keras_object(self._given_seed)}


class RandomNormal(RandomInitializer):
    """Normal numbers.

    Args:
        mean: their mean.
        stddev: their standard deviation.
        seed: see :class:`RandomInitializer`.
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Any = None) -> None:
        self.mean = mean
        self.stddev = stddev
        super().__init__(seed)

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> Array:
        from handmill import random

        return _cast(random.normal(tuple(shape), self.mean, self.stddev, seed=self.seed), dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "mean": self.mean, "stddev": self.stddev}


class TruncatedNormal(RandomNormal):
    """Normal numbers; those beyond two standard deviations are drawn again.

    Args:
        mean: the mean.
        stddev: the standard deviation before truncation.
        seed: see :class:`RandomInitializer`.
    """

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> Array:
        from handmill import random

        values = random.truncated_normal(tuple(shape), self.mean, self.stddev, seed=self.seed)
        return _cast(values, dtype)


class RandomUniform(RandomInitializer):
    """Uniform numbers.

    Args:
        minval: the lower end.
        maxval: the upper end.
        seed: see :class:`RandomInitializer`.
    """

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: Any = None) -> None:
        self.minval = minval
        self.maxval = maxval
        super().__init__(seed)

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> Array:
        from handmill import random

        return _cast(random.uniform(tuple(shape), self.minval, self.maxval, seed=self.seed), dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "minval": self.minval, "maxval": self.maxval}


class VarianceScaling(RandomInitializer):
    """Random numbers whose spread follows from the numbers of inputs and outputs.

    With ``distribution="uniform"`` within ``sqrt(3 * scale / n)`` of zero; otherwise normal
    with standard deviation ``sqrt(scale / n)``; n is what ``mode`` names.

    Args:
        scale: the factor.
        mode: ``"fan_in"``, ``"fan_out"`` or ``"fan_avg"``.
        distribution: ``"truncated_normal"``, ``"untruncated_normal"`` or ``"uniform"``.
        seed: see :class:`RandomInitializer`.
        input_axes: axes that count as inputs; default: as usual for dense and conv kernels.
        output_axes: axes that count as outputs.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: Any = None,
        input_axes: Any = None,
        output_axes: Any = None,
    ) -> None:
        if scale <= 0.0:
            raise ValueError(f"Argument `scale` must be positive float. Received: scale={scale}")
        modes = ("fan_in", "fan_out", "fan_avg")
        if mode not in modes:
            raise ValueError(f"Invalid `mode` argument: {mode!r}. Expected one of {modes}.")
        distribution = distribution.lower()
        if distribution == "normal":
            distribution = "truncated_normal"
        known = ("uniform", "truncated_normal", "untruncated_normal")
        if distribution not in known:
            raise ValueError(
                f"Invalid `distribution` argument: {distribution!r}. Expected one of {known}."
            )
        self.scale = scale
        self.mode = mode
        self.distribution = distribution
        self.input_axes = input_axes
        self.output_axes = output_axes
        super().__init__(seed)

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> Array:
        from handmill import random

        shape = tuple(shape)
        fan_in, fan_out = compute_fans(shape, self.input_axes, self.output_axes)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        scale = self.scale / max(1.0, fan)
        if self.distribution == "truncated_normal":
            # The constant is the standard deviation of a normal variable cut at +-2.
            stddev = math.sqrt(scale) / 0.87962566103423978
            return _cast(random.truncated_normal(shape, 0.0, stddev, seed=self.seed), dtype)
        if self.distribution == "untruncated_normal":
            return _cast(random.normal(shape, 0.0, math.sqrt(scale), seed=self.seed), dtype)
        limit = math.sqrt(3.0 * scale)
        return _cast(random.uniform(shape, -limit, limit, seed=self.seed), dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "scale": self.scale,
            "mode": self.mode,
            "distribution": self.distribution,
            "input_axes": self.input_axes,
            "output_axes": self.output_axes,
        }


class _FixedScaling(VarianceScaling):
    """A VarianceScaling whose first three arguments belong to its name."""

    _rule: tuple[float, str, str]

    def __init__(self, seed: Any = None, input_axes: Any = None, output_axes: Any = None) -> None:
        super().__init__(*self._rule, seed, input_axes, output_axes)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        config = super().get_config()
        return {name: config[name] for name in ("seed", "input_axes", "output_axes")}


class GlorotUniform(_FixedScaling):
    """Uniform within ``sqrt(6 / (fan_in + fan_out))`` of zero (Glorot and Bengio, 2010)."""

    _rule = (1.0, "fan_avg", "uniform")


class GlorotNormal(_FixedScaling):
    """Truncated normal with ``stddev = sqrt(2 / (fan_in + fan_out))``."""

    _rule = (1.0, "fan_avg", "truncated_normal")


class HeUniform(_FixedScaling):
    """Uniform within ``sqrt(6 / fan_in)`` of zero (He et al., 2015); for ReLU layers."""

    _rule = (2.0, "fan_in", "uniform")


class HeNormal(_FixedScaling):
    """Truncated normal with ``stddev = sqrt(2 / fan_in)``; for ReLU layers."""

    _rule = (2.0, "fan_in", "truncated_normal")


class LecunUniform(_FixedScaling):
    """Uniform within ``sqrt(3 / fan_in)`` of zero; for SELU layers."""

    _rule = (1.0, "fan_in", "uniform")


class LecunNormal(_FixedScaling):
    """Truncated normal with ``stddev = sqrt(1 / fan_in)``; for SELU layers."""

    _rule = (1.0, "fan_in", "truncated_normal")


class Orthogonal(RandomInitializer):
    """A random matrix with orthonormal rows or columns, times ``gain``.

    Args:
        gain: the factor.
        seed: see :class:`RandomInitializer`.
    """

    def __init__(self, gain: float = 1.0, seed: Any = None) -> None:
        self.gain = gain
        super().__init__(seed)

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> Array:
        from handmill import random

        if len(shape) < 2:
            raise ValueError(
                "The tensor to initialize must be at least two-dimensional. "
                f"Received: shape={tuple(shape)} of rank {len(shape)}."
            )
        rows, columns = math.prod(shape[:-1]), shape[-1]
        tall = (max(rows, columns), min(rows, columns))
        matrix = random.normal(tall, 0.0, 1.0, seed=self.seed).astype(np.float64)
        q, r = np.linalg.qr(matrix)
        q *= np.sign(np.diag(r))
        if rows < columns:
            q = q.T
        return _cast(self.gain * q.reshape(tuple(shape)), dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {**super().get_config(), "gain": self.gain}


def compute_fans(
    shape: Sequence[int], input_axes: Any = None, output_axes: Any = None
) -> tuple[int, int]:
    """Returns the numbers of inputs and outputs of a weight of ``shape``."""
    shape = tuple(shape)
    if input_axes is not None or output_axes is not None:
        fan_in = math.prod(shape[axis] for axis in input_axes or ())
        fan_out = math.prod(shape[axis] for axis in output_axes or ())
        return fan_in, fan_out
    if not shape:
        return 1, 1
    if len(shape) == 1:
        return shape[0], shape[0]
    field = math.prod(shape[:-2])
    return shape[-2] * field, shape[-1] * field


_ARRAYS = (np.ndarray, np.generic)

_CLASSES: tuple[type[Initializer], ...] = (
    Zeros, Ones, Constant, Identity, RandomNormal, TruncatedNormal, RandomUniform,
    VarianceScaling, GlorotUniform, GlorotNormal, HeUniform, HeNormal, LecunUniform, LecunNormal,
    Orthogonal, STFT, Dirac,
)  # fmt: skip
_TABLE: dict[str, type[Initializer]] = {
    **{cls.__name__: cls for cls in _CLASSES},
    **{to_snake_case(cls.__name__): cls for cls in _CLASSES},
    "uniform": RandomUniform,
    "normal": RandomNormal,
    "IdentityInitializer": Identity,
    "OrthogonalInitializer": Orthogonal,
    "STFTInitializer": STFT,
    "one": Ones,
    "zero": Zeros,
}

IdentityInitializer = identity = Identity
OrthogonalInitializer = orthogonal = Orthogonal
STFTInitializer = stft = STFT
constant, ones, zeros = Constant, Ones, Zeros
glorot_normal, glorot_uniform = GlorotNormal, GlorotUniform
he_normal, he_uniform = HeNormal, HeUniform
lecun_normal, lecun_uniform = LecunNormal, LecunUniform
random_normal, random_uniform = RandomNormal, RandomUniform
truncated_normal, variance_scaling = TruncatedNormal, VarianceScaling


def get(identifier: Any) -> Any:
    """Returns the initializer that ``identifier`` means.

    Args:
        identifier: None, a name, an initializer or its class, a callable, an array, or a config
            dictionary.

    Raises:
        ValueError: for an unknown name; the message lists the known ones.

    Example:
        >>> get("he_normal").get_config()
        {'seed': None, 'input_axes': None, 'output_axes': None}
    """
    if isinstance(identifier, _ARRAYS):
        made = Constant(identifier)
        made.only_shape = identifier.shape
        return made
    return interpret(identifier, "initializer", deserialize, _CLASSES)


def serialize(initializer: Any) -> Any:
    """Returns an initializer as a config dictionary."""
    return serialize_keras_object(initializer)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Makes an initializer from its config dictionary."""
    return deserialize_keras_object(
        config, custom_objects, module_objects=_TABLE, kind="initializer"
    )


__getattr__ = plain_module(__name__)
