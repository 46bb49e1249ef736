"""Operators that work element by element; in programs they become instructions of tiles."""
