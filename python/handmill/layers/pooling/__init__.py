"""Layers that pool, by files as in Keras."""
