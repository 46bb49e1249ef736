"""The UCI handwritten digits: 1,797 images of 8x8 pixels that ship with handmill."""

from handmill.data.datasets.digits import load_data

__all__ = ["load_data"]
