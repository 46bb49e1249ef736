"""Settings of the process: the executor, threads, instruction set, Keras strictness, decoder."""

from __future__ import annotations

import importlib.util
import os
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any

import handmill.console as _console
import handmill.dtype_policies as _policies
import handmill.errors as _errors
from handmill.lazy import plain_module

BACKENDS = ("native", "numpy")

_backend: str | None = None  # of the process, once it was asked for
_chosen: ContextVar[str | None] = ContextVar("handmill backend", default=None)
_strict_keras = False
_image_decoder = "pillow"
_reduces_images = False
_epsilon = 1e-7
_image_data_format = "channels_last"
_max_epochs: int | None = None
_max_steps_per_epoch: int | None = None
_flash_attention: bool | None = None


def has_kernels() -> bool:
    """Whether this installation holds compiled kernels (a pure build holds none)."""
    return importlib.util.find_spec("handmill._core") is not None


def backend() -> str:
    """The executor in use: ``"native"`` (C++ kernels) or ``"numpy"`` (the references).

    Threads and tasks in which :class:`use_backend` was not called have that of the process. Its
    first call reads ``HANDMILL_BACKEND``. Without it the answer is ``"native"``, or
    ``"numpy"`` in an installation that was built without kernels on purpose.

    Raises:
        RuntimeError: if the kernels are missing from an installation that should hold them.
    """
    global _backend
    chosen = _chosen.get()
    if chosen is not None:
        return chosen
    if _backend is None:
        wanted = os.environ.get("HANDMILL_BACKEND")
        if not wanted:
            wanted = "native" if has_kernels() else "numpy"
            if wanted == "numpy" and not _is_pure_installation():
                raise RuntimeError(
                    "handmill's kernels (handmill._core) are missing: they were not built, or for "
                    "another Python. Install handmill again, or set HANDMILL_BACKEND=numpy to run "
                    "without kernels."
                )
        _backend = _checked(wanted, "HANDMILL_BACKEND")
    return _backend


def _is_pure_installation() -> bool:
    """Whether the installed wheel was built without kernels (wheel.cmake=false)."""
    import importlib.metadata

    try:
        wheel = importlib.metadata.distribution("handmill").read_text("WHEEL") or ""
    except importlib.metadata.PackageNotFoundError:
        return False
    return "Root-Is-Purelib: true" in wheel


def is_native() -> bool:
    """Whether programs run on kernels."""
    return (_chosen.get() or _backend or backend()) == "native"


def _checked(name: str, source: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f"{source}: expected one of {', '.join(BACKENDS)}, got {name!r}")
    if name == "native" and not has_kernels():
        raise RuntimeError(
            f"{source}: this handmill was built without kernels (wheel.cmake=false); "
            "only 'numpy' is available. Install it again without that option for 'native'."
        )
    return name


class use_backend:
    """Chooses the executor: ``use_backend("numpy")``, or ``with use_backend("numpy"):``.

    The choice is that of the calling thread (or task of asyncio), and of the threads that handmill
    starts for it, such as those that prepare batches. Other threads go on with theirs.

    Both executors run the same programs from the same seeds; masks, shuffles and initial
    weights agree exactly.

    Args:
        name: ``"native"`` or ``"numpy"``.

    Raises:
        ValueError: for another name.
        RuntimeError: for ``"native"`` in an installation without kernels.

    Example:
        >>> import numpy as np, handmill
        >>> with handmill.use_backend("numpy"):
        ...     y = handmill.ops.exp(np.zeros(2, "float32"))
        >>> y
        array([1., 1.], dtype=float32)
    """

    def __init__(self, name: str) -> None:
        checked = _checked(name, "use_backend")
        self._before = _chosen.get()
        _chosen.set(checked)

    def __enter__(self) -> use_backend:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _chosen.set(self._before)


def strict_keras() -> bool:
    """Whether every deliberate deviation from Keras is switched off."""
    return _strict_keras


def set_strict_keras(strict: bool) -> None:
    """Switches all deviations listed in docs/differences.md off (True) or on (False)."""
    global _strict_keras
    _strict_keras = bool(strict)
    _notice_setting()


def image_decoder() -> str:
    """The library that decodes image files: ``"pillow"`` or ``"opencv"``."""
    return _image_decoder


def set_image_decoder(name: str, reduced: bool = False) -> None:
    """Chooses the library that decodes image files; resizing always has Pillow's meaning.

    Args:
        name: ``"pillow"`` or ``"opencv"`` (package opencv-python-headless).
        reduced: decodes a JPEG at 1/2, 1/4 or 1/8 of its size where that is at least twice the size
            wanted, which takes a fraction of the time for photographs; the images differ a little
            from Keras's then. For ``"pillow"`` alone.

    Raises:
        ValueError: for another name, or ``reduced`` with another library than Pillow.
        ImportError: if the package is not installed.
    """
    global _image_decoder, _reduces_images
    packages = {"pillow": ("PIL", "pillow"), "opencv": ("cv2", "opencv-python-headless")}
    if name not in packages:
        raise ValueError(f"image decoder: expected one of {', '.join(packages)}, got {name!r}")
    if reduced and name != "pillow":
        raise ValueError(f"image decoder: reduced=True is for 'pillow' alone, got {name!r}")
    module, package = packages[name]
    if importlib.util.find_spec(module) is None:
        raise ImportError(f"image decoder {name!r} needs a package: pip install {package}")
    _image_decoder = name
    _reduces_images = bool(reduced)


def reduces_images() -> bool:
    """Whether JPEGs are decoded at a part of their size; see :func:`set_image_decoder`."""
    return _reduces_images


enable_interactive_logging = _console.enable_interactive_logging
disable_interactive_logging = _console.disable_interactive_logging
is_interactive_logging_enabled = _console.is_interactive_logging_enabled

enable_traceback_filtering = _errors.enable_traceback_filtering
disable_traceback_filtering = _errors.disable_traceback_filtering
is_traceback_filtering_enabled = _errors.is_traceback_filtering_enabled

floatx = _policies.floatx
set_floatx = _policies.set_floatx
dtype_policy = _policies.dtype_policy
set_dtype_policy = _policies.set_dtype_policy


def epsilon() -> float:
    """The small constant against division by zero, 1e-7 unless set."""
    return _epsilon


def set_epsilon(value: float) -> None:
    """Sets the small constant against division by zero."""
    global _epsilon
    _epsilon = float(value)
    _notice_setting()


def image_data_format() -> str:
    """The layout of images where an argument ``data_format`` is None: ``"channels_last"`` at first.

    Inside images are always laid out so; others are copied on the way in.
    """
    return _image_data_format


def set_image_data_format(data_format: str) -> None:
    """Sets the layout of images where an argument ``data_format`` is None.

    Layers and image functions take it when they are made or called; those that are made stay.

    Args:
        data_format: ``"channels_last"`` or ``"channels_first"``.

    Raises:
        ValueError: for another one.
    """
    global _image_data_format
    _image_data_format = standardize_data_format(str(data_format))


def standardize_data_format(data_format: Any) -> str:
    """Returns the layout that an argument ``data_format`` means, None being the default one.

    Raises:
        ValueError: if it is none of ``"channels_last"`` and ``"channels_first"``.
    """
    if data_format is None:
        return _image_data_format
    found = str(data_format).lower()
    if found not in ("channels_first", "channels_last"):
        raise ValueError(
            "The `data_format` argument must be one of 'channels_first', 'channels_last'. "
            f"Received: data_format={data_format}"
        )
    return found


def max_epochs() -> int | None:
    """How many epochs any ``fit`` may have; None for no limit."""
    return _max_epochs


def set_max_epochs(max_epochs: int | None) -> None:
    """Limits the number of epochs of every ``fit``, to try a script out. A cut one warns.

    Args:
        max_epochs: at least 1; None for no limit.
    """
    global _max_epochs
    _max_epochs = _checked_limit("max_epochs", max_epochs)


def max_steps_per_epoch() -> int | None:
    """How many steps a pass over data may have; None for no limit."""
    return _max_steps_per_epoch


def set_max_steps_per_epoch(max_steps_per_epoch: int | None) -> None:
    """Limits the steps of an epoch in ``fit``, and those of ``evaluate`` and ``predict``.

    Args:
        max_steps_per_epoch: at least 1; None for no limit.
    """
    global _max_steps_per_epoch
    _max_steps_per_epoch = _checked_limit("max_steps_per_epoch", max_steps_per_epoch)


def _checked_limit(name: str, value: int | None) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ValueError(f"{name}: expected an integer of at least 1, or None, got {value!r}")
    return value


def set_backend(backend: str) -> None:
    """Keras's way to compute with another library; handmill has kernels of its own and refuses.

    Raises:
        ValueError: always; it says what can be chosen.
    """
    raise ValueError(
        f"set_backend({backend!r}): handmill computes with its own kernels and cannot hand over to "
        "tensorflow, jax or torch. Leave the call out; handmill.use_backend('numpy') runs the same "
        "programs by NumPy, and with Keras itself the backend stays your choice."
    )


def enable_flash_attention() -> None:
    """Lets attention choose how it computes, as from the start; results stay the same."""
    global _flash_attention
    _flash_attention = None


def disable_flash_attention() -> None:
    """Lets attention build whole matrices of scores."""
    global _flash_attention
    _flash_attention = False


def is_flash_attention_enabled() -> bool | None:
    """False after :func:`disable_flash_attention`; otherwise None: attention chooses."""
    return _flash_attention


def is_nnx_enabled() -> bool:
    """False: NNX is a part of Keras's JAX backend."""
    return False


def enable_unsafe_deserialization() -> None:
    """Keras's way to let files run code; files of handmill hold data only, so this is refused.

    Raises:
        ValueError: always; it says how to load what a file names.
    """
    raise ValueError(
        "enable_unsafe_deserialization(): handmill never runs code that a file holds, such as "
        "that of a lambda. Register the function with "
        "@handmill.saving.register_keras_serializable(), or pass it in custom_objects."
    )


def debug() -> bool:
    """Whether ``HANDMILL_DEBUG=1`` asks for a verifier after every trace and pass."""
    return os.environ.get("HANDMILL_DEBUG") == "1"


def num_threads() -> int:
    """The number of threads that programs run on."""
    return _core().num_threads() if backend() == "native" else 1


def set_num_threads(count: int) -> None:
    """Sets the number of threads that programs run on; results do not depend on it.

    Args:
        count: at least 1; obeyed even beyond the number of cores.
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"num_threads: expected an integer of at least 1, got {count!r}")
    if has_kernels():
        _core().set_num_threads(count)


def isa() -> str:
    """The instruction set level of the kernels in use, ``"none"`` without kernels."""
    return str(_core().isa()) if has_kernels() else "none"


def set_isa(name: str) -> None:
    """Chooses the instruction set level for programs planned from now on.

    Raises:
        ValueError: if this CPU or build lacks it; the message lists the available ones.
    """
    _core().set_isa(name)


def available_isas() -> tuple[str, ...]:
    """The instruction set levels that this CPU and build have, best last."""
    return tuple(_core().available_isas()) if has_kernels() else ()


def _notice_setting() -> None:
    """Programs that were traced with another setting are traced again."""
    from handmill.runtime.watch import SETTINGS, notice

    notice(SETTINGS)


def _core() -> Any:
    from handmill import _core

    return _core


if not TYPE_CHECKING:  # a __getattr__ would hide typing errors from mypy
    __getattr__ = plain_module(__name__)
