"""Reviews of movies, good or bad, from a file that the user has or a verified download."""

from handmill.data.datasets.imdb import get_word_index, load_data

__all__ = ["get_word_index", "load_data"]
