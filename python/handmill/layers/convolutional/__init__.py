"""Layers that convolve, by files as in Keras."""
