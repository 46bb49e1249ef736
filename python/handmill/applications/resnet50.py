"""ResNet50 under the module name that Keras 2 had for it."""

from __future__ import annotations

from handmill.applications.resnet import ResNet50, decode_predictions, preprocess_input

__all__ = ["ResNet50", "decode_predictions", "preprocess_input"]
