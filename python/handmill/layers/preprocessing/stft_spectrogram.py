"""Sound as pictures of its frequencies."""

from __future__ import annotations

from typing import Any

from handmill import config, initializers, ops
from handmill.errors import ShapeError, warn_caller
from handmill.ir.shapes import FLOATS
from handmill.layers.input_spec import InputSpec
from handmill.layers.layer import Layer
from handmill.primitives.operands import shape_of

_MODES = ("log", "magnitude", "psd", "real", "imag", "angle", "stft")


class STFTSpectrogram(Layer):
    """Turns sound into its short-time Fourier transform, by products with two trainable kernels.

    Args:
        mode: what of it: ``"log"`` or ``"magnitude"``, ``"psd"`` (the power of both sides),
            ``"real"``, ``"imag"``, ``"angle"``, or ``"stft"``, the real and then the imaginary
            parts.
        frame_length: the length of a window.
        frame_step: how many samples one window begins after the other; default: half a window.
        fft_length: twice the number of frequencies; default: the next power of two.
        window: ``"hann"``, another name that ``scipy.signal.get_window`` knows, factors, or None.
        periodic: whether the window ends one step before it would repeat.
        scaling: what the window is divided by: ``"density"``, ``"spectrum"`` or None.
        padding: ``"valid"``, or ``"same"`` for zeros around, so that windows begin everywhere.
        expand_dims: whether each channel has a picture of its own.
        data_format: ``"channels_last"`` or ``"channels_first"``.
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, samples, channels)``, or ``(batch, channels, samples)``

    Output shape:
        ``(batch, windows, channels * frequencies)``, or with ``expand_dims``
        ``(batch, windows, frequencies, channels)``; channels come first in that format

    Raises:
        ValueError: for arguments that do not fit.
        TypeError: for inputs that are no floats.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import STFTSpectrogram
        >>> STFTSpectrogram(frame_length=64)(np.ones((2, 640, 1), "float32")).shape
        (2, 19, 33)
    """

    def __init__(
        self,
        mode: str = "log",
        frame_length: int = 256,
        frame_step: int | None = None,
        fft_length: int | None = None,
        window: Any = "hann",
        periodic: bool = False,
        scaling: str | None = "density",
        padding: str = "valid",
        expand_dims: bool = False,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        if frame_step is not None and not 1 <= frame_step <= frame_length:
            raise ValueError(
                "`frame_step` should be a positive integer not greater than `frame_length`. "
                f"Received frame_step={frame_step}, frame_length={frame_length}"
            )
        if fft_length is not None and fft_length < frame_length:
            raise ValueError(
                "`fft_length` should be not less than `frame_length`. "
                f"Received fft_length={fft_length}, frame_length={frame_length}"
            )
        if mode not in _MODES:
            raise ValueError(
                f"Output mode is invalid, it must be one of {', '.join(_MODES)}. "
                f"Received: mode={mode}"
            )
        if padding not in ("valid", "same"):
            raise ValueError(
                f"Padding is invalid, it should be 'valid', 'same'. Received: padding={padding}"
            )
        initializers.STFT("real", window, scaling, periodic)  # which refuses what does not fit
        if fft_length is not None and fft_length & (fft_length - 1):
            warn_caller(
                "`fft_length` is recommended to be a power of two. "
                f"Received fft_length={fft_length}",
                UserWarning,
            )
        super().__init__(**kwargs)
        self.mode = mode
        self.frame_length = frame_length
        self.frame_step = frame_step
        self.fft_length = fft_length
        self.window = window
        self.periodic = periodic
        self.scaling = scaling
        self.padding = padding
        self.expand_dims = expand_dims
        self.data_format = config.standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=3)

    @property
    def _step(self) -> int:
        return self.frame_step or self.frame_length // 2

    def build(self, input_shape: Any) -> None:
        """Makes the kernels: cosines and sines under the window."""
        length = self.fft_length or 1 << (self.frame_length - 1).bit_length()
        for side, other in (("real", "imag"), ("imag", "real")):
            if self.mode != other:
                weight = self.add_weight(
                    name=f"{side}_kernel",
                    shape=(self.frame_length, 1, length // 2 + 1),
                    initializer=initializers.STFT(side, self.window, self.scaling, self.periodic),
                )
                setattr(self, f"{side}_kernel", weight)

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        if ops.dtype(inputs) not in FLOATS:
            raise TypeError(
                "Invalid input type. Expected a floating dtype. Received: input type="
                f"{ops.dtype(inputs)}"
            )
        frames = self._frames(inputs)
        real, imag = (
            None if self.mode == other else self._product(frames, f"{side}_kernel")
            for side, other in (("real", "imag"), ("imag", "real"))
        )
        return self._arranged(self._of_parts(real, imag))

    def _frames(self, inputs: Any) -> Any:
        """The windows, of shape ``(batch, channels, windows, frame_length)``."""
        signal = inputs if self.data_format == "channels_first" else ops.swapaxes(inputs, 1, 2)
        if self.padding == "same":
            size, step = shape_of(signal)[2], self._step
            if not isinstance(size, int):
                raise ShapeError(
                    f"{self.describe()}: padding='same' needs a known number of samples; received "
                    "an input whose length a call decides. Use padding='valid', or name the length"
                )
            missing = max((-(-size // step) - 1) * step + self.frame_length - size, 0)
            edges = [missing // 2, missing - missing // 2]
            signal = ops.pad(signal, [[0, 0], [0, 0], edges])
        return ops.extract_sequences(signal, self.frame_length, self._step)

    def _product(self, frames: Any, name: str) -> Any:
        kernel = ops.squeeze(getattr(self, name), 1)
        return ops.matmul(frames, ops.cast(kernel, ops.dtype(frames)))

    def _of_parts(self, real: Any, imag: Any) -> Any:
        """What the mode names, of shape ``(batch, channels, windows, frequencies)``."""
        if real is None or imag is None:
            return imag if real is None else real
        if self.mode == "angle":
            return ops.arctan2(imag, real)
        if self.mode == "stft":
            return ops.concatenate([real, imag], axis=-1)
        power = ops.add(ops.square(real), ops.square(imag))
        if self.mode == "psd":  # all but the first and the last stand for two frequencies
            twice = ops.pad(power[..., 1:-1], [[0, 0], [0, 0], [0, 0], [1, 1]])
            return ops.add(power, twice)
        magnitude = ops.sqrt(ops.maximum(power, config.epsilon()))
        if self.mode == "magnitude":
            return magnitude
        return ops.log(ops.maximum(magnitude, config.epsilon()))

    def _arranged(self, pictures: Any) -> Any:
        batch, channels, windows, frequencies = shape_of(pictures)
        last = self.data_format == "channels_last"
        if self.expand_dims:
            return ops.transpose(pictures, (0, 2, 3, 1)) if last else pictures
        if last:
            shape = (batch, windows, channels * frequencies)
            return ops.reshape(ops.transpose(pictures, (0, 2, 1, 3)), shape)
        shape = (batch, channels * frequencies, windows)
        return ops.reshape(ops.transpose(pictures, (0, 1, 3, 2)), shape)

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "mode": self.mode,
            "frame_length": self.frame_length,
            "frame_step": self.frame_step,
            "fft_length": self.fft_length,
            "window": self.window,
            "periodic": self.periodic,
            "scaling": self.scaling,
            "padding": self.padding,
            "data_format": self.data_format,
            "expand_dims": self.expand_dims,
        }
