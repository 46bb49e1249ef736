"""Operators: the functions of ``keras.ops``, by Keras's modules.

On arrays they run at once; while a model is traced they append nodes to its graph. What an operator
means is said by its record in :mod:`handmill.primitives`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from handmill.ir.graph import Operators
from handmill.lazy import plain_module, publish
from handmill.ops import core, linalg, math, nn, numpy
from handmill.ops import image as image
from handmill.runtime.whole_calls import kept_whole

if TYPE_CHECKING:  # a __getattr__ would hide typing errors
    from handmill.ops.core import *
    from handmill.ops.linalg import *
    from handmill.ops.math import *
    from handmill.ops.nn import *
    from handmill.ops.numpy import *
else:
    publish(__name__, core, linalg, math, nn, numpy, wrap=kept_whole)
    Operators.operators.update(
        {
            name: kept_whole(function, {"getitem": "get_item"}.get(name))
            for name, function in Operators.operators.items()
        }
    )
    vars(linalg).update({name: globals()[name] for name in linalg.__all__})
    __getattr__ = plain_module(__name__)
