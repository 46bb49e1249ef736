"""Models as C: the loops of each operator, where values lie, and the file."""
