"""The functions that ``keras.ops`` has in common with NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handmill.lazy import publish
from handmill.ops.numpy import (
    arrange,
    complex_numbers,
    create,
    determinants,
    diagonals,
    differences,
    division,
    elementwise,
    floating,
    logic,
    mapping,
    missing,
    movement,
    products,
    ranges,
    reductions,
    searching,
    sorting,
    stacking,
    statistics,
    trigonometry,
    vectors,
    windows,
)
from handmill.runtime.whole_calls import kept_whole

if TYPE_CHECKING:
    from handmill.ops.numpy.arrange import *
    from handmill.ops.numpy.complex_numbers import *
    from handmill.ops.numpy.create import *
    from handmill.ops.numpy.determinants import *
    from handmill.ops.numpy.diagonals import *
    from handmill.ops.numpy.differences import *
    from handmill.ops.numpy.division import *
    from handmill.ops.numpy.elementwise import *
    from handmill.ops.numpy.floating import *
    from handmill.ops.numpy.logic import *
    from handmill.ops.numpy.mapping import *
    from handmill.ops.numpy.missing import *
    from handmill.ops.numpy.movement import *
    from handmill.ops.numpy.products import *
    from handmill.ops.numpy.ranges import *
    from handmill.ops.numpy.reductions import *
    from handmill.ops.numpy.searching import *
    from handmill.ops.numpy.sorting import *
    from handmill.ops.numpy.stacking import *
    from handmill.ops.numpy.statistics import *
    from handmill.ops.numpy.trigonometry import *
    from handmill.ops.numpy.vectors import *
    from handmill.ops.numpy.windows import *
else:
    publish(
        __name__,
        arrange,
        complex_numbers,
        create,
        determinants,
        diagonals,
        differences,
        division,
        elementwise,
        floating,
        logic,
        mapping,
        missing,
        movement,
        products,
        ranges,
        reductions,
        searching,
        sorting,
        stacking,
        statistics,
        trigonometry,
        vectors,
        windows,
        wrap=kept_whole,
    )
