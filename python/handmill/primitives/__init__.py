"""Operators: what each one means, one record each (:class:`handmill.ir.op.Op`), by families.

Importing the package fills the registry. No family imports another one for a derivative: those are
written with :mod:`handmill.primitives.emit`.
"""

from handmill.primitives import (  # noqa: F401
    branches,
    cast,
    cumulate,
    fused_updates,
    gather,
    hashing,
    loops,
    loss,
    matmul,
    matmul_bf16,
    metrics,
    movement,
    optimizer,
    random,
    reduce,
    softmax,
    sort,
)
from handmill.primitives.elementwise import activations, arithmetic, logic, unary  # noqa: F401
