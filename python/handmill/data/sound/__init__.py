"""Sound in files and arrays."""
