"""Sound: files, rates, features, and layers that vary it.

Spectrograms are layers and operators under Keras's names: ``layers.MelSpectrogram`` (by the
conventions of three libraries), ``layers.STFTSpectrogram``, ``ops.stft`` and its kin; folders are
read by ``utils.audio_dataset_from_directory``.
"""

from __future__ import annotations

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "RandomGain": "handmill.layers.preprocessing.sound.samples",
        "RandomNoise": "handmill.layers.preprocessing.sound.samples",
        "RandomShift": "handmill.layers.preprocessing.sound.samples",
        "SpecAugment": "handmill.layers.preprocessing.sound.masks",
        "hertz_of": "handmill.ops.math.mel",
        "load": "handmill.data.sound.files",
        "mel_bands": "handmill.ops.math.mel",
        "mel_of": "handmill.ops.math.mel",
        "mfcc": "handmill.ops.math.mel",
        "resample": "handmill.data.sound.files",
        "save": "handmill.data.sound.files",
    },
)
