"""Layers that vary sound while training: samples, and pictures of frequencies."""
