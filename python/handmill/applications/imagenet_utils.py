"""What goes into the networks and comes out: scales of pixels, names of classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handmill import config, ops
from handmill.errors import FileFormatError
from handmill.files import read_regular
from handmill.ir.op import Array
from handmill.layers.symbolic import KerasTensor
from handmill.saving.json_data import from_json

CLASS_INDEX = "imagenet_class_index.json"
_CLASS_INDEX_URL = "https://storage.googleapis.com/download.tensorflow.org/data/" + CLASS_INDEX

_MODES = ("caffe", "tf", "torch")
MEAN = {"caffe": (103.939, 116.779, 123.68), "torch": (0.485, 0.456, 0.406)}
"""What is subtracted from the channels, by mode; those of "caffe" are blue, green, red."""
DEVIATION = (0.229, 0.224, 0.225)
"""What the channels are divided by in mode "torch"."""


def keras_models() -> Path:
    """The folder in which Keras keeps the files that it downloads for its applications."""
    return Path("~/.keras/models").expanduser()


def channels_axis(ndim: int) -> int:
    """The axis of the channels of an image (3 axes) or a batch (4), by the global setting."""
    return ndim - 3 if config.image_data_format() == "channels_first" else ndim - 1


def preprocess_input(x: Any, data_format: str | None = None, mode: str = "caffe") -> Any:
    """Returns images on the scale that a network was trained on.

    Args:
        x: images of 3 channels (red, green, blue) with values from 0 to 255, one or a batch: an
            array, or a tensor of a model that is put together. It is not changed.
        data_format: ``"channels_last"`` or ``"channels_first"``; default:
            ``config.image_data_format()``.
        mode: ``"caffe"``: blue, green, red, each less its mean over ImageNet; ``"tf"``: from -1 to
            1; ``"torch"``: divided by 255, less the mean of each channel, divided by its standard
            deviation.

    Returns:
        An array of the same shape; of integers one of ``floatx``.

    Raises:
        ValueError: for another mode or data format, or images without 3 channels.

    Example:
        >>> import numpy as np
        >>> from handmill.applications.imagenet_utils import preprocess_input
        >>> preprocess_input(np.full((1, 1, 3), 255), mode="tf")
        array([[[1., 1., 1.]]], dtype=float32)
    """
    if mode not in _MODES:
        raise ValueError(f"`mode` must be one of {_MODES}. Received: mode={mode!r}")
    data_format = config.standardize_data_format(data_format)
    is_tensor = isinstance(x, KerasTensor) or hasattr(x, "spec")
    if not is_tensor:
        x = np.asarray(x)
        if x.dtype.kind != "f" and x.dtype.name != "bfloat16":
            x = x.astype(config.floatx())
    if mode == "tf":
        return x / 127.5 - 1.0
    axis = len(x.shape) - 3 if data_format == "channels_first" else len(x.shape) - 1
    if len(x.shape) not in (3, 4) or x.shape[axis] != 3:
        raise ValueError(
            f"preprocess_input: expected images of 3 channels, shape (H, W, 3) or (B, H, W, 3) "
            f"with data_format='channels_last'. Received: shape={tuple(x.shape)}, "
            f"data_format={data_format!r}"
        )
    shape = [1] * len(x.shape)
    shape[axis] = 3
    dtype = str(x.dtype)
    mean = np.asarray(MEAN[mode], dtype).reshape(shape)
    if mode == "caffe":
        return (ops.flip(x, axis) if is_tensor else np.flip(x, axis)) - mean
    return (x / 255.0 - mean) / np.asarray(DEVIATION, dtype).reshape(shape)


def decode_predictions(
    preds: Any, top: int = 5, class_names: Sequence[Any] | None = None
) -> list[list[tuple[Any, ...]]]:
    """Names the most probable classes of each row of predictions.

    Args:
        preds: predictions of shape ``(B, 1000)`` of an ImageNet network; with ``class_names`` of
            any number of classes.
        top: how many classes are named.
        class_names: the names of the classes in order, or pairs ``(id, name)``. Default: those of
            ImageNet, from Keras's file ``~/.keras/models/imagenet_class_index.json``. It is
            handmill's addition to Keras.

    Returns:
        For each row a list of ``(id, name, score)``, best first; the id of a plain name is its
        number.

    Raises:
        ValueError: for another shape, or a file that is damaged.
        FileNotFoundError: without ``class_names``, if Keras's file is not there.

    Example:
        >>> import numpy as np
        >>> from handmill.applications.imagenet_utils import decode_predictions
        >>> scores = np.array([[0.25, 0.75]])
        >>> [(name, float(p)) for _, name, p in decode_predictions(scores, 1, ["cat", "dog"])[0]]
        [('dog', 0.75)]
    """
    scores = np.asarray(preds)
    classes = 1000 if class_names is None else len(class_names)
    if scores.ndim != 2 or scores.shape[1] != classes:
        hint = "; pass the names of other classes as class_names=" if class_names is None else ""
        raise ValueError(
            f"`decode_predictions` expects a batch of predictions of shape (B, {classes}). "
            f"Received: shape={scores.shape}{hint}"
        )
    pairs = _imagenet_classes() if class_names is None else _pairs(class_names)
    return [_best(row, top, pairs) for row in scores]


def _best(row: Array, top: int, pairs: Sequence[tuple[Any, Any]]) -> list[tuple[Any, ...]]:
    best = row.argsort()[-top:][::-1]
    found = [(*pairs[i], row[i]) for i in best]
    return sorted(found, key=lambda entry: entry[2], reverse=True)


def _pairs(names: Sequence[Any]) -> list[tuple[Any, Any]]:
    return [(str(i), n) if isinstance(n, str) else tuple(n) for i, n in enumerate(names)]


def _imagenet_classes() -> list[tuple[Any, Any]]:
    path = keras_models() / CLASS_INDEX
    if not path.exists():
        raise FileNotFoundError(
            f"the names of ImageNet's classes are not on this machine, and nothing is downloaded. "
            f"Put {_CLASS_INDEX_URL} into {path.parent}, or pass class_names=, a list of names"
        )
    content = from_json(read_regular(path), str(path))
    try:
        return [(str(content[str(i)][0]), str(content[str(i)][1])) for i in range(1000)]
    except (LookupError, TypeError) as error:
        raise FileFormatError(
            f"{path} is not Keras's list of classes: expected 1000 entries such as "
            f'"0": ["n01440764", "tench"] ({error!r})'
        ) from None
