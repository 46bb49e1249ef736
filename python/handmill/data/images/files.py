"""Image files: decoding, resizing in Pillow's meaning, and the conversions of Keras."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handmill import config
from handmill.data.images.resizing import resize_axis
from handmill.errors import warn_caller
from handmill.files import open_regular

if TYPE_CHECKING:
    from handmill.ir.op import Array

COLOR_MODES = {"grayscale": 1, "rgb": 3, "rgba": 4}
_PIL_MODES = {"grayscale": "L", "rgb": "RGB", "rgba": "RGBA"}
# Grey images of more than 8 bits keep their values, as in Keras.
_GREY_MODES = ("L", "I;16", "I")


def _pillow() -> Any:
    try:
        import PIL.Image
    except ImportError as error:
        raise ImportError(
            "reading and writing images needs a package: pip install pillow"
        ) from error
    return PIL.Image


def checked_color_mode(color_mode: str) -> str:
    """The argument ``color_mode`` itself.

    Raises:
        ValueError: if it is unknown.
    """
    if color_mode not in COLOR_MODES:
        raise ValueError(
            f"color_mode: expected one of {', '.join(COLOR_MODES)}, got {color_mode!r}"
        )
    return color_mode


def resampling(interpolation: str) -> Any:
    """Pillow's constant for the name of an interpolation.

    Raises:
        ValueError: if the name is unknown.
    """
    names = ("nearest", "bilinear", "bicubic", "hamming", "box", "lanczos")
    if interpolation not in names:
        raise ValueError(
            f"interpolation: expected one of {', '.join(names)}, got {interpolation!r}"
        )
    return getattr(_pillow().Resampling, interpolation.upper())


def load_img(
    path: str | bytes | os.PathLike[str] | io.BytesIO,
    color_mode: str = "rgb",
    target_size: tuple[int, int] | None = None,
    interpolation: str = "nearest",
    keep_aspect_ratio: bool = False,
) -> Any:
    """Loads an image file into a Pillow image.

    Args:
        path: the file, or its bytes in a BytesIO.
        color_mode: ``"grayscale"``, ``"rgb"`` or ``"rgba"``.
        target_size: (height, width) in pixels; None keeps the size of the file.
        interpolation: how to resize: ``"nearest"``, ``"bilinear"``, ``"bicubic"``, ``"hamming"``,
            ``"box"`` or ``"lanczos"``.
        keep_aspect_ratio: crops the centre to the target's aspect ratio before resizing.

    Returns:
        A ``PIL.Image.Image``.

    Raises:
        FileNotFoundError: if there is no such file.
        OSError: if the file is empty, truncated or not an image; the message names it.
        ValueError: for an unknown color mode or interpolation.
        ImportError: if Pillow is not installed.

    Example:
        >>> import tempfile, numpy as np
        >>> from handmill.preprocessing.image import load_img, save_img
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_img(folder + "/grey.png", np.zeros((2, 3, 1)))
        ...     load_img(folder + "/grey.png", target_size=(4, 6)).size
        (6, 4)
    """
    checked_color_mode(color_mode)
    if isinstance(path, io.BytesIO):
        name, data = "in memory", path.getvalue()
    elif isinstance(path, str | bytes | os.PathLike):
        name = os.fsdecode(path)
        data = read_bytes(name)
    else:
        raise TypeError(f"path: expected a path or io.BytesIO, got {type(path).__name__}")
    image = _decode(data, name, color_mode, target_size)
    return resize(image, target_size, interpolation, keep_aspect_ratio)


def read_image(
    path: str,
    color_mode: str,
    target_size: tuple[int, int] | None,
    interpolation: str,
    keep_aspect_ratio: bool,
    wanted_size: tuple[int, int] | None = None,
) -> Array:
    """Reads an image file into an array (H, W, C), uint8 unless its grey values need more.

    ``wanted_size``: to which the caller will resize it himself, where ``target_size`` is None.

    Raises:
        OSError: if the file cannot be read; the message names it.
    """
    wanted = wanted_size if target_size is None else target_size
    image = _decode(read_bytes(path), path, color_mode, wanted)
    image = resize(image, target_size, interpolation, keep_aspect_ratio)
    if image.mode in ("I", "I;16"):
        return np.asarray(image, np.float32)[:, :, None]
    width, height = image.size
    # Twice as fast for small images as np.asarray(image), which asks Pillow for the same bytes.
    return np.frombuffer(image.tobytes(), np.uint8).reshape(height, width, -1)


def read_bytes(path: str) -> bytes:
    """The bytes of a file.

    Raises:
        OSError: if there are none, or the path leads to a pipe or a device; the message names it.
    """
    descriptor = open_regular(path)
    if descriptor is None:
        raise OSError(f"cannot read image {path!r}: it is not a regular file")
    with io.FileIO(descriptor) as file:  # unbuffered: one read of the whole file
        data = file.readall()
    if not data:
        raise OSError(f"cannot read image {path!r}: the file is empty (0 bytes)")
    return data


def _decode(data: bytes, name: str, color_mode: str, wanted_size: tuple[int, int] | None) -> Any:
    pillow = _pillow()
    use_opencv = config.image_decoder() == "opencv" and _is_complete(data)
    try:
        image = _decode_opencv(data) if use_opencv else None
        if image is None:
            image = pillow.open(io.BytesIO(data))
            if wanted_size is not None and config.reduces_images():
                _reduce(image, wanted_size)
        if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
            image = image.convert("RGBA")  # the same colours; Pillow warns of other ways
        if color_mode == "grayscale":
            if image.mode not in _GREY_MODES:
                image = image.convert("L")
        elif image.mode != _PIL_MODES[color_mode]:
            image = image.convert(_PIL_MODES[color_mode])
        image.load()
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes Pillow raise almost anything
        reason: object = error
        if isinstance(error, pillow.UnidentifiedImageError):
            reason = "it is in no format that Pillow knows, or its header is damaged"
        raise OSError(f"cannot read image {name!r}: {reason}") from error
    return image


def _reduce(image: Any, wanted_size: tuple[int, int]) -> None:
    """Lets a JPEG be decoded at the least size of at least twice what is wanted both ways."""
    width, height = image.size
    scale = 2 * max(wanted_size[0] / height, wanted_size[1] / width)
    image.draft(None, (math.ceil(width * scale), math.ceil(height * scale)))


def _is_complete(data: bytes) -> bool:
    """Whether a JPEG or PNG ends as it should; OpenCV fills the rest of a truncated one."""
    end = data[-64:].rstrip(b"\0")
    return end.endswith(b"\xff\xd9") or b"IEND" in end


def _decode_opencv(data: bytes) -> Any | None:
    """A Pillow image decoded by OpenCV, None where Pillow has to decide."""
    import cv2

    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint8:
        return None
    if pixels.ndim == 3:
        pixels = pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]]
    return _pillow().fromarray(np.ascontiguousarray(pixels))


def resize(
    image: Any, target_size: tuple[int, int] | None, interpolation: str, keep_aspect_ratio: bool
) -> Any:
    """Resizes a Pillow image to (height, width) as Keras's load_img does."""
    if target_size is None:
        return image
    target_height, target_width = target_size
    width, height = image.size
    if (width, height) == (target_width, target_height):
        return image
    box = None
    if keep_aspect_ratio:
        crop_height = min(height, width * target_height // target_width)
        crop_width = min(width, height * target_width // target_height)
        top, left = (height - crop_height) // 2, (width - crop_width) // 2
        box = (left, top, left + crop_width, top + crop_height)
    return image.resize((target_width, target_height), resampling(interpolation), box=box)


def img_to_array(img: Any, data_format: str | None = None, dtype: str | None = None) -> Array:
    """Converts a Pillow image to an array.

    Args:
        img: the image.
        data_format: ``"channels_last"`` (the default) or ``"channels_first"``.
        dtype: of the result; float32 by default.

    Returns:
        An array of rank 3, grey images having one channel.

    Raises:
        ValueError: for an unknown data format or an image of another rank.

    Example:
        >>> from PIL import Image
        >>> from handmill.preprocessing.image import img_to_array
        >>> img_to_array(Image.new("L", (4, 2))).shape
        (2, 4, 1)
    """
    data_format = config.standardize_data_format(data_format)
    x = np.asarray(img, dtype or config.floatx())
    if x.ndim == 2:
        x = x[:, :, None]
    if x.ndim != 3:
        raise ValueError(f"img_to_array: expected an image of rank 2 or 3, got shape {x.shape}")
    return x.transpose(2, 0, 1) if data_format == "channels_first" else x


def array_to_img(
    x: Any, data_format: str | None = None, scale: bool = True, dtype: str | None = None
) -> Any:
    """Converts an array to a Pillow image.

    Args:
        x: an array of rank 3 with 1, 3 or 4 channels.
        data_format: ``"channels_last"`` (the default) or ``"channels_first"``.
        scale: stretches the values so that the least becomes 0 and the largest 255. Without it the
            values must lie in 0..255.
        dtype: to compute in; float32 by default.

    Returns:
        A ``PIL.Image.Image``.

    Raises:
        ValueError: for another rank or number of channels.
        ImportError: if Pillow is not installed.

    Example:
        >>> import numpy as np
        >>> from handmill.preprocessing.image import array_to_img
        >>> array_to_img(np.zeros((2, 4, 3))).size
        (4, 2)
    """
    data_format = config.standardize_data_format(data_format)
    image = _pillow()
    x = np.asarray(x, dtype or config.floatx())
    if x.ndim != 3:
        raise ValueError(f"array_to_img: expected an array of rank 3, got shape {x.shape}")
    if data_format == "channels_first":
        x = x.transpose(1, 2, 0)
    channels = x.shape[2]
    if channels not in COLOR_MODES.values():
        raise ValueError(f"array_to_img: expected 1, 3 or 4 channels, got shape {x.shape}")
    if scale:
        x = x - np.min(x)
        top = np.max(x)
        if top != 0:
            x = x / top
        x = x * 255
    if channels == 1:
        wide = np.max(x) > 255
        return image.fromarray(x[:, :, 0].astype(np.int32 if wide else np.uint8))
    return image.fromarray(np.ascontiguousarray(x.astype(np.uint8)))


def save_img(
    path: Any,
    x: Any,
    data_format: str | None = None,
    file_format: str | None = None,
    scale: bool = True,
    **kwargs: Any,
) -> None:
    """Writes an array to an image file.

    Args:
        path: the file, or an open binary file.
        x: an array of rank 3 with 1, 3 or 4 channels.
        data_format: ``"channels_last"`` (the default) or ``"channels_first"``.
        file_format: such as ``"png"``; by default that of the path's suffix.
        scale: see :func:`array_to_img`.
        **kwargs: for ``PIL.Image.Image.save``.

    Raises:
        ValueError: for another rank or number of channels, or an unknown format.

    Example:
        >>> import io, numpy as np
        >>> from handmill.preprocessing.image import save_img
        >>> save_img(io.BytesIO(), np.zeros((2, 2, 3)), file_format="png")
    """
    if file_format is None and isinstance(path, str | os.PathLike):
        file_format = Path(path).suffix[1:].lower()
    if file_format and file_format.lower() == "jpg":
        file_format = "jpeg"
    image = array_to_img(x, data_format=data_format, scale=scale)
    if image.mode == "RGBA" and file_format == "jpeg":
        warn_caller("The JPEG format does not support RGBA images, converting to RGB.")
        image = image.convert("RGB")
    image.save(path, format=file_format, **kwargs)


def smart_resize(
    x: Any,
    size: tuple[int, int],
    interpolation: str = "bilinear",
    data_format: str = "channels_last",
) -> Array:
    """Resizes images without distortion: crops the centre to the aspect ratio of ``size`` first.

    As in Keras the samples of the source are blended without smoothing, so shrinking by much
    aliases; ``load_img(..., keep_aspect_ratio=True)`` smooths.

    Args:
        x: an image (H, W, C), or a batch of images (B, H, W, C).
        size: (height, width) in pixels.
        interpolation: ``"bilinear"`` or ``"nearest"``.
        data_format: ``"channels_last"`` or ``"channels_first"``.

    Returns:
        An array of the dtype of ``x``, float32 if ``x`` has no float dtype.

    Raises:
        ValueError: for another rank, a size that is not two positive integers, or an unknown
            interpolation.

    Example:
        >>> import numpy as np
        >>> from handmill.preprocessing.image import smart_resize
        >>> smart_resize(np.zeros((340, 500, 3), "float32"), (200, 200)).shape
        (200, 200, 3)
    """
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"smart_resize: size must be two positive integers, got {size!r}")
    if interpolation not in ("bilinear", "nearest"):
        raise ValueError(
            f"smart_resize: interpolation must be 'bilinear' or 'nearest', got {interpolation!r}"
        )
    x = np.asarray(x)
    if x.ndim not in (3, 4):
        raise ValueError(f"smart_resize: expected an image or a batch of images, got {x.shape}")
    if x.dtype.kind != "f":
        x = x.astype(np.float32)
    first = x.ndim - 3 + (config.standardize_data_format(data_format) == "channels_first")
    height, width = x.shape[first : first + 2]
    crops = (
        max(min(height, int(width * size[0] / size[1])), 1),
        max(min(width, int(height * size[1] / size[0])), 1),
    )
    for axis, (length, crop, target) in enumerate(
        zip((height, width), crops, size, strict=True), start=first
    ):
        start = (length - crop) // 2
        x = resize_axis(x, axis, start, crop, target, interpolation)
    result: Array = x
    return result
