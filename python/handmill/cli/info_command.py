"""``handmill info``: what this installation is and how it will run."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
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
        "backend": backend(),
    }
    if config.has_kernels():
        from handmill import _core

        found["isa"] = f"{config.isa()} ({isa_reason()})"
        found["tuning"] = f"{_core.tuning()} ({_core.tunings()[_core.tuning()]})"
        found["threads"] = f"{_core.num_threads()} ({_core.thread_reason()})"
        found["openmp"] = (
            "yes" if _core.openmp else "no: built without OpenMP, programs run serially"
        )
    found["image decoder"] = decoder()
    have = [n for n, module in EXTRAS.items() if importlib.util.find_spec(module)]
    found["extras"] = ", ".join(have) or "none"
    lack = [n for n in EXTRAS if n not in have]
    found["not installed"] = ", ".join(lack) or "nothing"
    return found


def backend() -> str:
    """The executor, and why."""
    if not config.has_kernels():
        return "numpy (built with wheel.cmake=false: there are no kernels)"
    why = os.environ.get("HANDMILL_BACKEND")
    return config.backend() + (f" (HANDMILL_BACKEND={why})" if why else "")


def isa_reason() -> str:
    """Why the kernels of this instruction set level run."""
    from handmill import _core

    available, default = config.available_isas(), _core.default_isa()
    listed = f"available: {', '.join(available)}"
    forced = os.environ.get("HANDMILL_ISA")
    if forced and forced == config.isa():
        return f"HANDMILL_ISA={forced}; {listed}"
    if config.isa() != default:
        return f"chosen with config.set_isa; {listed}"
    if default != available[-1]:
        return f"the default on this CPU; {available[-1]} has to be asked for; {listed}"
    return f"the best that this CPU and this build have; {listed}"


def decoder() -> str:
    """The library that decodes image files, and whether it is there."""
    name = config.image_decoder()
    module, package = {"pillow": ("PIL", "pillow"), "opencv": ("cv2", "opencv-python-headless")}[
        name
    ]
    if importlib.util.find_spec(module) is None:
        return f"{name}, which is not installed: pip install {package}"
    return f"{name} {importlib.metadata.version(package)}"
