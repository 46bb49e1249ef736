"""Keras's place for turning raw data into arrays."""

from __future__ import annotations

from handmill.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "image": "handmill.preprocessing.image",
        "sequence": "handmill.preprocessing.sequence",
        "image_dataset_from_directory": "handmill.data.folders.images",
        "text_dataset_from_directory": "handmill.data.folders.texts",
        "timeseries_dataset_from_array": "handmill.data.windows",
    },
)
