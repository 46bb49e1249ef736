"""Newswires by topic, from a file that the user has or a verified download."""

from handmill.data.datasets.reuters import get_label_names, get_word_index, load_data

__all__ = ["get_label_names", "get_word_index", "load_data"]
