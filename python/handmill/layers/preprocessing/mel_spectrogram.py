"""Sound as pictures of its frequencies, on the scale on which ears tell them apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from handmill import ops
from handmill.ir.op import Array
from handmill.layers.layer import Layer
from handmill.ops.math.mel import CONVENTIONS, mel_bands


class MelSpectrogram(Layer):
    """Turns sound into decibels of frequency bands that are equally wide on the mel scale.

    Args:
        fft_length: the length of a Fourier transform.
        sequence_stride: how many samples one window begins after the other.
        sequence_length: the length of a window; default: ``fft_length``.
        window: ``"hann"``, ``"hamming"``, factors, or None for none.
        sampling_rate: samples in a second.
        num_mel_bins: the number of bands.
        min_freq: the lowest frequency, in hertz.
        max_freq: the highest; default: half of ``sampling_rate``.
        power_to_db: whether the result is in decibels.
        top_db: how many decibels below the loudest the result ends.
        mag_exp: the exponent of magnitudes: 2 for power.
        min_power: the smallest power of which a logarithm is taken.
        ref_power: the power of 0 decibels.
        convention: whose bands and edges: ``"keras"``, ``"librosa"`` or ``"torchaudio"`` (see
            below). The other arguments keep their defaults, which are Keras's.
        **kwargs: ``name`` and the like.

    Input shape:
        ``(batch, samples)`` or ``(samples,)``

    Output shape:
        ``(batch, num_mel_bins, windows)`` or ``(num_mel_bins, windows)``

    Three libraries give three answers, so their conventions have names:

    ==========  =========================  ===========================  =========  ===============
    convention  mel scale                  bands                        ends       floor of top_db
    ==========  =========================  ===========================  =========  ===============
    keras       HTK, 1127 ln(1 + f/700)    straight in mel, height 1    reflected  of the batch
    librosa     Slaney, straight to 1 kHz  straight in hertz, area 1    zeros      of each sound
    torchaudio  HTK                        straight in hertz, height 1  reflected  of each sound
    ==========  =========================  ===========================  =========  ===============

    (librosa: ``min_freq=0.0`` is its default; torchaudio: its transform beside ``AmplitudeToDB``.)
    A floor of the batch makes what a sound gives depend on its neighbours.

    Raises:
        ValueError: for a window that is longer than the transform, frequencies that are not in the
            samples or in the wrong order, no bands, or an unknown convention.

    Example:
        >>> import numpy as np
        >>> from handmill.layers import MelSpectrogram
        >>> layer = MelSpectrogram(sampling_rate=8000, num_mel_bins=80, sequence_stride=128)
        >>> layer(np.ones((2, 16000), "float32")).shape
        (2, 80, 126)
    """

    def __init__(
        self,
        fft_length: int = 2048,
        sequence_stride: int = 512,
        sequence_length: int | None = None,
        window: Any = "hann",
        sampling_rate: int = 16000,
        num_mel_bins: int = 128,
        min_freq: float = 20.0,
        max_freq: float | None = None,
        power_to_db: bool = True,
        top_db: float = 80.0,
        mag_exp: float = 2.0,
        min_power: float = 1e-10,
        ref_power: float = 1.0,
        convention: str = "keras",
        **kwargs: Any,
    ) -> None:
        sequence_length = sequence_length or fft_length
        if fft_length < sequence_length:
            raise ValueError(
                "`fft_length` must be greater than or equal to `sequence_length`. Received: "
                f"sequence_length={sequence_length}, fft_length={fft_length}"
            )
        if convention not in CONVENTIONS:
            raise ValueError(
                f"`convention` must be one of {', '.join(CONVENTIONS)}. Received: {convention!r}"
            )
        for name, number in (("sampling_rate", sampling_rate), ("num_mel_bins", num_mel_bins)):
            if not number > 0:
                raise ValueError(f"`{name}` must be above 0. Received: {name}={number!r}")
        highest = max_freq or int(sampling_rate / 2)
        if not 0 <= min_freq < highest:
            raise ValueError(
                f"the lowest frequency must lie from 0 to below the highest, {highest} hertz. "
                f"Received: min_freq={min_freq}"
            )
        if max_freq is not None and max_freq > sampling_rate / 2:
            raise ValueError(
                f"max_freq={max_freq} hertz lies above half of sampling_rate={sampling_rate}: such "
                "frequencies are not in the samples"
            )
        super().__init__(**kwargs)
        self.fft_length = fft_length
        self.sequence_stride = sequence_stride
        self.sequence_length = sequence_length
        self.window = window
        self.sampling_rate = sampling_rate
        self.num_mel_bins = num_mel_bins
        self.min_freq = min_freq
        self.max_freq = highest
        self.power_to_db = power_to_db
        self.top_db = top_db
        self.mag_exp = mag_exp
        self.min_power = min_power
        self.ref_power = ref_power
        self.convention = convention
        self._build_at_init()

    def call(self, inputs: Any) -> Any:
        """Computes the output."""
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        inputs = ops.cast(inputs, dtype)
        center = self.convention != "librosa"
        if not center:  # zeros around, where others reflect
            edge = self.fft_length // 2
            inputs = ops.pad(inputs, [(0, 0)] * (len(inputs.shape) - 1) + [(edge, edge)])
        real, imag = ops.stft(
            inputs,
            self.sequence_length,
            self.sequence_stride,
            self.fft_length,
            window=self.window,
            center=center,
        )
        power = ops.add(ops.square(real), ops.square(imag))
        if self.mag_exp != 2.0:
            power = ops.power(ops.sqrt(power), self.mag_exp)
        bands = ops.matmul(power, self._bands().astype(dtype))
        if self.power_to_db:
            bands = self._decibels(bands)
        return ops.cast(ops.swapaxes(bands, -1, -2), self.compute_dtype)

    def _decibels(self, power: Any) -> Any:
        reference = float(10.0 * np.log10(max(abs(self.ref_power), self.min_power)))
        found = ops.multiply(ops.log10(ops.maximum(power, self.min_power)), 10.0)
        found = ops.subtract(found, reference)
        of_each = (-2, -1) if self.convention != "keras" else None
        loudest = ops.max(found, axis=of_each, keepdims=of_each is not None)
        return ops.maximum(found, ops.subtract(loudest, self.top_db))

    def _bands(self) -> Array:
        """How much each frequency of a transform counts in each band."""
        return mel_bands(
            self.fft_length,
            self.sampling_rate,
            self.num_mel_bins,
            float(self.min_freq),
            float(self.max_freq),
            self.convention,
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments, as plain data."""
        return {
            **super().get_config(),
            "fft_length": self.fft_length,
            "sequence_stride": self.sequence_stride,
            "sequence_length": self.sequence_length,
            "window": self.window,
            "sampling_rate": self.sampling_rate,
            "num_mel_bins": self.num_mel_bins,
            "min_freq": self.min_freq,
            "max_freq": self.max_freq,
            "power_to_db": self.power_to_db,
            "top_db": self.top_db,
            "mag_exp": self.mag_exp,
            "min_power": self.min_power,
            "ref_power": self.ref_power,
            **({} if self.convention == "keras" else {"convention": self.convention}),
        }
