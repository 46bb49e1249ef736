"""Layers that prepare inputs."""
