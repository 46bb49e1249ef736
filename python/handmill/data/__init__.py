"""Feeding models: images from memory and from folders, augmented, on threads of their own."""

from __future__ import annotations

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "DataFrameIterator": ".file_iterators",
        "DirectoryIterator": ".file_iterators",
        "ImageDataGenerator": ".image_generator",
        "Iterator": ".iterator",
        "NumpyArrayIterator": ".array_iterator",
        "array_to_img": ".image_files",
        "img_to_array": ".image_files",
        "load_img": ".image_files",
        "save_img": ".image_files",
        "smart_resize": ".image_files",
    },
)
