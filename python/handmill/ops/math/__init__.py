"""Mathematical functions of ``keras.ops`` that NumPy lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handmill.lazy import publish
from handmill.ops.math import fourier, functions, segments
from handmill.runtime.whole_calls import kept_whole

if TYPE_CHECKING:
    from handmill.ops.math.fourier import *
    from handmill.ops.math.functions import *
    from handmill.ops.math.segments import *
else:
    publish(__name__, fourier, functions, segments, wrap=kept_whole)
