"""The parts of tools/keras_tests.py."""
