"""Small photographs in ten classes, from a file that the user has or a verified download."""

from handmill.data.datasets.cifar10 import load_data

__all__ = ["load_data"]
