"""Layers that join several tensors."""
