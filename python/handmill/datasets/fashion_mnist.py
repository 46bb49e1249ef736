"""Pictures of clothes, from a file that the user has or a verified download."""

from handmill.data.datasets.fashion_mnist import load_data

__all__ = ["load_data"]
