"""``handmill info``: what this installation is and how it will run."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import platform

import numpy as np

import handmill
from handmill import config

EXTRAS = {
    "image": "PIL",
    "opencv": "cv2",
    "plot": "matplotlib",
    "h5": "h5py",
    "sklearn": "sklearn",
    "onnx": "onnx",
    "tensorboard": "tensorboard",
    "tune": "optuna",
    "text": "tokenizers",
    "audio": "soundfile",
    "bf16": "ml_dtypes",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """This command has no arguments."""


def run(options: argparse.Namespace) -> int:
    """Prints the facts, one a line."""
    for name, text in facts().items():
        print(f"{name + ':':16}{text}")
    return 0


def facts() -> dict[str, str]:
    """What ``handmill info`` prints, by name."""
    found = {
        "handmill": handmill.__version__,
        "python": f"{platform.python_version()} ({platform.machine()})",
        "numpy": np.__version__,
        "backend": config.backend(),
    }
    if config.has_kernels():
        from handmill import _core

        found["isa"] = (
            f"{config.isa()} ({_core.isa_reason()}; available: "
            f"{', '.join(config.available_isas())})"
        )
        found["threads"] = f"{_core.num_threads()} ({_core.thread_reason()})"
        found["openmp"] = "yes" if _core.openmp else "no: built without OpenMP, programs run serially"
    else:
        found["kernels"] = "none: built with wheel.cmake=false, NumPy runs everything"
    found["image decoder"] = config.image_decoder()
    have = [n for n, module in EXTRAS.items() if importlib.util.find_spec(module)]
    found["extras"] = ", ".join(have) or "none"
    lack = [n for n in EXTRAS if n not in have]
    found["not installed"] = ", ".join(lack) or "nothing"
    return found
