"""MNIST, from a file that the user has."""

from handmill.data.datasets.mnist import load_data

__all__ = ["load_data"]
