"""The functions that ``keras.ops`` has in common with NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handmill.lazy import publish
from handmill.ops.numpy import (
    arrange,
    create,
    division,
    elementwise,
    logic,
    movement,
    products,
    reductions,
    sorting,
)

if TYPE_CHECKING:
    from handmill.ops.numpy.arrange import *
    from handmill.ops.numpy.create import *
    from handmill.ops.numpy.division import *
    from handmill.ops.numpy.elementwise import *
    from handmill.ops.numpy.logic import *
    from handmill.ops.numpy.movement import *
    from handmill.ops.numpy.products import *
    from handmill.ops.numpy.reductions import *
    from handmill.ops.numpy.sorting import *
else:
    publish(
        __name__,
        arrange,
        create,
        division,
        elementwise,
        logic,
        movement,
        products,
        reductions,
        sorting,
    )
