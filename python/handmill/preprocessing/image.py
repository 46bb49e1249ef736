"""Images: loading, saving, and the generators that augment them while a model trains."""

from __future__ import annotations

from handmill.data.images.array_iterator import NumpyArrayIterator
from handmill.data.images.file_iterators import DataFrameIterator, DirectoryIterator
from handmill.data.images.files import (
    array_to_img,
    img_to_array,
    load_img,
    save_img,
    smart_resize,
)
from handmill.data.images.generator import ImageDataGenerator
from handmill.data.images.iterator import Iterator
from handmill.lazy import plain_module

__all__ = [
    "DataFrameIterator",
    "DirectoryIterator",
    "ImageDataGenerator",
    "Iterator",
    "NumpyArrayIterator",
    "array_to_img",
    "img_to_array",
    "load_img",
    "save_img",
    "smart_resize",
]

__getattr__ = plain_module(__name__)
