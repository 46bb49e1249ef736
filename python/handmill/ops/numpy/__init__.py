"""The functions that ``keras.ops`` has in common with NumPy."""
