"""Models as ONNX: a rule for each operator, what the rules write with, and the file."""
