"""Layers that models begin with: inputs, dense layers."""
