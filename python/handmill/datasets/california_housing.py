"""Prices of houses in California, from a file that the user has or a verified download."""

from handmill.data.datasets.california_housing import load_data

__all__ = ["load_data"]
