"""Lines of Keras's tests that ask which backend this is, said for handmill."""

from __future__ import annotations

REWRITES: dict[str, tuple[tuple[str, str], ...]] = {
    # handmill refuses float16 on purpose: each layer is tried with bfloat16.
    "testing/test_case.py": (("mixed_float16", "mixed_bfloat16"),),
    # All but one backend leave the first and the last elements of a signal out of the comparison.
    "ops/math_test.py": (
        (
            '("numpy", "jax", "torch", "openvino")',
            '("numpy", "jax", "torch", "openvino", "handmill")',
        ),
    ),
    # A backend is known there by a trainer and a device of its own.
    "trainers/trainer_test.py": (
        (
            'raise ImportError(f"Invalid backend: {backend.backend()}")',
            "from keras.src.trainers.trainer import Trainer",
        ),
        ("CPU_DEVICES[backend.backend()]", '"cpu"'),
    ),
}
"""File of keras/src -> (what stands there, what is run)."""


def rewritten(file: str, text: str) -> str:
    """The text of a file of Keras as it is run."""
    for old, new in REWRITES.get(file, ()):
        if old not in text:
            raise ValueError(f"{file} of the installed Keras does not have the line {old!r}")
        text = text.replace(old, new)
    return text
