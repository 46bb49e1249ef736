"""Prices of houses in Boston, from a file that the user has or a verified download."""

from handmill.data.datasets.boston_housing import load_data

__all__ = ["load_data"]
