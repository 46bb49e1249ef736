"""Layers that average values, weighted by how well their keys fit a query."""
