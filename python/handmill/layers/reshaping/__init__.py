"""Layers that give the same elements another shape."""
