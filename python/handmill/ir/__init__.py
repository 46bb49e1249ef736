"""The intermediate representation: graphs of operators, and what can be done to them.

This floor knows graphs, not operators: it sees an operator only through the fields of
its record (:class:`handmill.ir.op.Op`).
"""
