"""ONNX files as models: what a file holds, a rule for each of its operators, and the layer."""
