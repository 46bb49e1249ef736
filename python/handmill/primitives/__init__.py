"""Operators: what each one means, one record each (:class:`handmill.ir.op.Op`), by families."""
