"""Operators: the functions of ``keras.ops``, by Keras's modules.

On arrays they run at once; while a model is traced they append nodes to its graph. What an operator
means is said by its record in :mod:`handmill.primitives`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from handmill.lazy import plain_module
from handmill.ops import core, linalg, math, nn, numpy
from handmill.ops.core import *
from handmill.ops.linalg import *
from handmill.ops.math import *
from handmill.ops.nn import *
from handmill.ops.numpy import *

if not TYPE_CHECKING:  # mypy follows the stars by itself; a __getattr__ would hide typing errors
    __all__ = core.__all__ + linalg.__all__ + math.__all__ + nn.__all__ + numpy.__all__
    __getattr__ = plain_module(__name__)
