"""Layers that go along a sequence."""
