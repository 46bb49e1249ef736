"""Data sets as chains of verbs: where elements come from, and what happens to them on the way."""
