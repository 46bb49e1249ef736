"""Operators: what each one means, one record each (:class:`handmill.ir.op.Op`), by families.

Importing the package fills the registry. No family imports another one for a derivative: those are
written with :mod:`handmill.primitives.emit`.
"""

from handmill.primitives import (  # noqa: F401
    attention,
    branches,
    cast,
    contrast,
    convolution,
    ctc,
    cumulate,
    draws,
    fourier,
    fused_updates,
    gather,
    hashing,
    int8,
    int8_conv,
    int8_depthwise,
    int8_recurrent,
    linalg,
    loops,
    loss,
    matmul,
    matmul_bf16,
    metrics,
    moments,
    movement,
    normalize,
    optimizer,
    pooling,
    random,
    recurrent,
    reduce,
    rows,
    sampling,
    scatter,
    search,
    softmax,
    sort,
    tokens,
)
from handmill.primitives.elementwise import (  # noqa: F401
    activations,
    arithmetic,
    floating,
    logic,
    special,
    trigonometry,
    unary,
)
