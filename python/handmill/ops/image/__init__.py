"""The functions of ``keras.ops.image``: compositions of operators, so they have gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handmill.lazy import plain_module, publish
from handmill.ops.image import borders, colors, filters, patches, resizing, warps
from handmill.runtime.whole_calls import kept_whole

if TYPE_CHECKING:  # a __getattr__ would hide typing errors
    from handmill.ops.image.borders import *
    from handmill.ops.image.colors import *
    from handmill.ops.image.filters import *
    from handmill.ops.image.patches import *
    from handmill.ops.image.resizing import *
    from handmill.ops.image.warps import *
else:
    publish(__name__, borders, colors, filters, patches, resizing, warps, wrap=kept_whole)
    __getattr__ = plain_module(__name__)
