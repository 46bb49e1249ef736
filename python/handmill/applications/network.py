"""What all applications do before their first layer and after their last one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handmill import activations, config, layers
from handmill.applications import torch_layout
from handmill.applications.imagenet_utils import keras_models
from handmill.errors import warn_caller
from handmill.ir.op import Array
from handmill.layers.symbolic import KerasTensor, get_source_inputs
from handmill.models.input_scale import expect
from handmill.models.model import Model
from handmill.runtime.variable import stored_values
from handmill.saving.model_file import read_tensors
from handmill.saving.weights import assign

_IMAGENET = "imagenet"
_CLASSES = 1000


@dataclass(frozen=True)
class Published:
    """Where Keras publishes the weights of a network.

    Attributes:
        url: the folder.
        whole: the file with the classifier.
        base: the file without it.
    """

    url: str
    whole: str
    base: str

    def name(self, include_top: bool) -> str:
        """The file with the classifier, or without."""
        return self.whole if include_top else self.base


@dataclass(frozen=True)
class Arguments:
    """What a user gave to an application; see :func:`handmill.applications.ResNet50`."""

    include_top: bool
    weights: Any
    input_tensor: Any
    input_shape: Any
    pooling: str | None
    classes: int
    classifier_activation: Any

    def __post_init__(self) -> None:
        shape = self.input_shape
        if shape is None or shape == ():
            return
        if (
            not isinstance(shape, tuple | list)
            or len(shape) != 3
            or not all(n is None or (isinstance(n, int | np.integer) and n > 0) for n in shape)
        ):
            raise ValueError(
                "`input_shape` must be a tuple of three integers, the height, width and channels "
                "of an image (the first two may be None where include_top=False). Received: "
                f"input_shape={shape!r}"
            )


_ARGUMENTS = """

Args:
    include_top: whether the model ends with the classifier of ImageNet.
    weights: None for random numbers; the path of a file (WEIGHTS); or ``"imagenet"``: the file of
        Keras in ``~/.keras/models``, if it is there. Nothing is downloaded.
    input_tensor: a symbolic tensor that is the image; default: a new ``Input``.
    input_shape: the shape of an image; default ``(SIZE, SIZE, 3)``, without the classifier
        ``(None, None, 3)``.
    pooling: without the classifier: None for the images of the last layer, ``"avg"`` or ``"max"``
        for one number a channel.
    classes: how many classes the classifier has.
    classifier_activation: its activation; None for logits.
    name: of the model.

Returns:
    A functional model.

Raises:
    ValueError: for arguments or weights that do not fit; the message says where weights are.
"""
KERAS_FILES = "``.weights.h5`` and ``.h5`` of Keras"
TORCH_FILES = "``.safetensors`` of torchvision and timm"


def application(
    title: str,
    build: Callable[[Arguments, str], Any],
    text: str,
    module: str,
    files: Sequence[str] = (KERAS_FILES, TORCH_FILES),
    size: int = 224,
) -> Callable[..., Any]:
    """Makes the function of an application, with the arguments that they share.

    Args:
        title: its name.
        build: makes the model from the arguments and its name.
        text: what its documentation begins with.
        module: the ``__name__`` of the module that it belongs to.
        files: the kinds of files of weights that it reads.
        size: height and width of the images if nothing is said.
    """

    def make(
        include_top: bool = True,
        weights: Any = "imagenet",
        input_tensor: Any = None,
        input_shape: Any = None,
        pooling: str | None = None,
        classes: int = 1000,
        classifier_activation: Any = "softmax",
        name: str = title.lower(),
    ) -> Any:
        arguments = Arguments(
            include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation
        )
        with drawn_unless_stored(weights):
            return build(arguments, name)

    make.__name__ = make.__qualname__ = title
    make.__module__ = module
    kinds = ", or ".join(files)
    make.__doc__ = text + _ARGUMENTS.replace("SIZE", str(size)).replace("WEIGHTS", kinds)
    return make


def drawn_unless_stored(weights: Any) -> AbstractContextManager[Any]:
    """Lets the block draw no initial weights if all of them will be read from a file."""
    return nullcontext() if weights is None else stored_values()


class Network:
    """A network while it is put together.

    Args:
        title: what errors call it.
        arguments: what the user gave.
        published: where Keras publishes weights; None for networks that Keras lacks.
        scale: the scale of pixels that Keras's weights were trained on, a name of
            ``models.input_scale.SCALES``.
        torch_scale: that of torch's weights.
        default_size: height and width of the images if nothing is said.

    Attributes:
        image: the symbolic images.
        axis: the axis of the channels.
        torch: whether weights of torch's layout are read: such networks pad on both sides, and
            some of their numbers differ.
        imagenet: whether the weights are those that Keras publishes.

    Raises:
        ValueError: for arguments that do not fit.
    """

    def __init__(
        self,
        title: str,
        arguments: Arguments,
        published: Published | None,
        scale: str,
        torch_scale: str = "torch",
        default_size: int = 224,
    ) -> None:
        self.title = title
        self.arguments = arguments
        shape = _input_shape(arguments, default_size)
        self._path = _path_of(arguments, published, title)
        self._tensors: dict[str, Array] = {}
        if self._path is not None and self._path.suffix == ".safetensors":
            self._tensors = read_tensors(self._path)
        self.torch = bool(self._tensors) and not torch_layout.is_own(self._tensors)
        names = (published.whole, published.base) if published else ()
        self.imagenet = self._path is not None and self._path.name in names
        self._scale = torch_scale if self.torch else scale
        self.axis = 1 if config.image_data_format() == "channels_first" else 3
        if arguments.pooling not in (None, "avg", "max"):
            raise ValueError(
                f"`pooling` must be None, 'avg' or 'max'. Received: pooling={arguments.pooling!r}"
            )
        if arguments.include_top:
            self._check_classifier()
        given = arguments.input_tensor
        if isinstance(given, KerasTensor):
            if arguments.input_shape and not _fits(given.shape, arguments.input_shape):
                raise ValueError(
                    f"{title}: `input_tensor` has images of shape {tuple(given.shape[1:])}, but "
                    f"input_shape={tuple(arguments.input_shape)}. Leave `input_shape` out."
                )
            self.image = given
        elif given is None:
            self.image = layers.Input(shape)
        else:
            raise ValueError(
                f"{title}: `input_tensor` must be a tensor that Input or a layer made. "
                f"Received: {given!r} of type {type(given).__name__}"
            )

    def _check_classifier(self) -> None:
        if self._path is None:
            return
        known = (activations.get("softmax"), activations.get(None))
        if activations.get(self.arguments.classifier_activation) not in known:
            raise ValueError(
                "Only `None` and `softmax` activations are allowed for the "
                "`classifier_activation` argument when weights are loaded; Received: "
                f"classifier_activation={self.arguments.classifier_activation!r}"
            )

    def conv(self, x: Any, filters: int, size: int, name: str, strides: int = 1, **kw: Any) -> Any:
        """A convolution; with ``padding="torch"``, zeros on both sides as torch pads."""
        if kw.get("padding") == "torch":
            kw["padding"] = "same"
            if strides > 1:
                x = self.pad(x, size // 2, f"{name}_pad")
                kw["padding"] = "valid"
        return layers.Conv2D(filters, size, strides=strides, name=name, **kw)(x)

    def norm(self, x: Any, name: str, **kwargs: Any) -> Any:
        """A batch normalization over the channels."""
        return layers.BatchNormalization(axis=self.axis, name=name, **kwargs)(x)

    def pad(self, x: Any, padding: Any, name: str) -> Any:
        """Zeros around images."""
        return layers.ZeroPadding2D(padding, name=name)(x)

    def pad_for_strides(self, x: Any, size: int, name: str) -> Any:
        """Zeros for a convolution with strides of 2: torch pads both sides alike, Keras not."""
        if self.torch:
            return self.pad(x, size // 2, name)
        height, width = x.shape[1:3] if self.axis == 3 else x.shape[2:4]
        odd = (1, 1) if height is None else (1 - height % 2, 1 - width % 2)
        half = size // 2
        return self.pad(x, ((half - odd[0], half), (half - odd[1], half)), name)

    def pooled(self, x: Any, names: Mapping[str, str | None]) -> Any:
        """The end of a network without a classifier: what ``pooling`` says."""
        pooling = self.arguments.pooling
        if pooling == "avg":
            return layers.GlobalAveragePooling2D(name=names["avg"])(x)
        if pooling == "max":
            return layers.GlobalMaxPooling2D(name=names["max"])(x)
        return x

    def classified(self, x: Any, name: str = "predictions", **kwargs: Any) -> Any:
        """The classifier, on rows of features."""
        chosen = self.arguments
        return layers.Dense(
            chosen.classes, activation=chosen.classifier_activation, name=name, **kwargs
        )(x)

    def model(self, outputs: Any, name: str, naming: torch_layout.Naming | None = None) -> Any:
        """Returns the model, with its weights.

        Args:
            outputs: the end of the network.
            name: of the model.
            naming: how torch's libraries call its layers; None if they do not have it.

        Raises:
            ValueError: if the weights do not fit.
        """
        inputs: Any = self.image
        if self.arguments.input_tensor is not None:
            found = get_source_inputs(self.image)
            inputs = found[0] if len(found) == 1 else found
        model = Model(inputs, outputs, name=name)
        expect(model, self.image, self._scale, self.title, self._path is not None)
        if self._path is None:
            return model
        if not self.torch:
            self._read_own(model, self._path)
        elif naming is None:
            raise ValueError(
                f"{self.title}: {self._path} holds weights of torch's layout, which are not known "
                "for this network; pass a file of Keras"
            )
        else:
            torch_layout.assign(
                model, self._tensors, naming, str(self._path), self.arguments.include_top
            )
        return model

    def _read_own(self, model: Any, path: Path) -> None:
        """Reads what handmill or Keras wrote; leaves out a classifier that the model is without."""
        variables, tensors = model.variables, list(self._tensors.items())
        leading = [name.partition(".")[2] for name in self._tensors][: len(variables)]
        is_whole = not self.arguments.include_top and len(tensors) > len(variables)
        if is_whole and leading == [v.path.replace("/", ".") for v in variables]:
            assign(variables, tensors[: len(variables)], str(path), skip=False)
        else:
            model.load_weights(path)


def _fits(of_tensor: Sequence[Any], shape: Sequence[Any]) -> bool:
    """Whether a batch of images may have the sizes that were asked for."""
    return len(of_tensor) == 4 and all(
        None in (size, wanted) or size == wanted
        for size, wanted in zip(of_tensor[1:], shape, strict=True)
    )


def _path_of(arguments: Arguments, published: Published | None, title: str) -> Path | None:
    """The file of weights; None if there are to be none.

    Raises:
        ValueError: if there is no such file.
    """
    weights = arguments.weights
    if weights is None:
        return None
    if weights != _IMAGENET:
        if not isinstance(weights, str | os.PathLike) or not Path(weights).exists():
            raise ValueError(
                f"{title}: `weights` must be None (random numbers), 'imagenet', or the path of a "
                f"file of weights: .weights.h5 or .h5 of Keras, .safetensors of torchvision or "
                f"timm. Received: weights={weights!r}"
                + (", and there is no such file" if isinstance(weights, str) else "")
            )
        return Path(weights)
    if arguments.include_top and arguments.classes != _CLASSES:
        raise ValueError(
            f"{title}: with weights='imagenet' and include_top=True there are {_CLASSES} classes. "
            f"Received: classes={arguments.classes}; pass include_top=False, and put a layer "
            "Dense of your own behind the model"
        )
    if published is None:
        raise ValueError(
            f"{title}: weights='imagenet' would have to be downloaded, and handmill downloads no "
            "weights (Keras has none for this network). Get a .safetensors file of torchvision's "
            "or timm's network (https://huggingface.co/timm), and pass its path: "
            f"{title}(weights='model.safetensors'). weights=None starts from random numbers."
        )
    name = published.name(arguments.include_top)
    path = keras_models() / name
    if not path.exists():
        raise ValueError(
            f"{title}: weights='imagenet' are not on this machine, and handmill downloads no "
            f"weights. Get {published.url}{name} and pass its path, {title}(weights={name!r}"
            f"{'' if arguments.include_top else ', include_top=False'}), or put it into "
            f"{path.parent}, where Keras keeps it. weights=None starts from random numbers."
        )
    return path


def _input_shape(arguments: Arguments, default_size: int, smallest: int = 32) -> Any:
    """The shape of an image, by Keras's rules.

    Raises:
        ValueError: for a shape that does not fit.
    """
    first = config.image_data_format() == "channels_first"
    shape, top = arguments.input_shape, arguments.include_top
    pretrained = arguments.weights == _IMAGENET

    def with_channels(size: int | None, channels: Any = 3) -> tuple[Any, ...]:
        return (channels, size, size) if first else (size, size, channels)

    default = with_channels(default_size)
    if pretrained and top:
        if shape is not None and tuple(shape) != default:
            raise ValueError(
                "With include_top=True and weights='imagenet', `input_shape` must be "
                f"{default}. Received: input_shape={shape}"
            )
        return default
    if not shape:
        return default if top else with_channels(None)
    shape = tuple(shape)
    channels, sizes = (shape[0], shape[1:]) if first else (shape[2], shape[:2])
    if pretrained and channels != 3:
        raise ValueError(
            f"The input must have 3 channels; Received: input_shape={shape}\n  hint: grayscale "
            "files are read with color_mode='rgb', arrays become ops.repeat(x, 3, axis=-1)"
        )
    if channels not in (1, 3):
        warn_caller(
            f"These networks usually take 1 or 3 channels; input_shape={shape} has {channels}",
            UserWarning,
        )
    if any(size is not None and size < smallest for size in sizes):
        raise ValueError(
            f"Input size must be at least {smallest}x{smallest}; Received: input_shape={shape}"
        )
    if top and None in shape:
        raise ValueError(
            "If `include_top` is True, `input_shape` must be of known sizes. "
            f"Received: input_shape={shape}"
        )
    return shape
