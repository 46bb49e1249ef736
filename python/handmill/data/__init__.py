"""Feeding models: data sets as chains of verbs; images, augmented, on threads of their own."""

from __future__ import annotations

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AUTOTUNE": ".pipeline.dataset",
        "CropAndFlip": ".images.crops",
        "Dataset": ".pipeline.dataset",
        "DataFrameIterator": ".images.file_iterators",
        "DirectoryIterator": ".images.file_iterators",
        "ElementSpec": ".pipeline.elements",
        "ImageDataGenerator": ".images.generator",
        "Iterator": ".images.iterator",
        "NumpyArrayIterator": ".images.array_iterator",
        "PyDataset": ".dataset",
        "array_to_img": ".images.files",
        "img_to_array": ".images.files",
        "load_img": ".images.files",
        "mirrored": ".images.crops",
        "save_img": ".images.files",
        "shifted": ".images.crops",
        "smart_resize": ".images.files",
    },
)
