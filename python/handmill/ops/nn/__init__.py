"""Activation functions, losses, normalizations: the functions of ``keras.ops`` about networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handmill.lazy import publish
from handmill.ops.nn import (
    attention,
    blocks,
    convolutions,
    coordinates,
    ctc,
    functions,
    normalizations,
    pools,
    sparse,
)
from handmill.runtime.whole_calls import kept_whole

if TYPE_CHECKING:
    from handmill.ops.nn.attention import *
    from handmill.ops.nn.blocks import *
    from handmill.ops.nn.convolutions import *
    from handmill.ops.nn.coordinates import *
    from handmill.ops.nn.ctc import *
    from handmill.ops.nn.functions import *
    from handmill.ops.nn.normalizations import *
    from handmill.ops.nn.pools import *
    from handmill.ops.nn.sparse import *
else:
    _MODULES = (
        attention,
        blocks,
        convolutions,
        coordinates,
        ctc,
        functions,
        normalizations,
        pools,
        sparse,
    )
    publish(__name__, *_MODULES, wrap=kept_whole)
