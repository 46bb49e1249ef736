"""The image warp by splines of order 2 to 5, which scipy computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from handmill.ir.op import Array


def require_scipy() -> None:
    """Raises ImportError, saying what to do, where there is no scipy."""
    try:
        import scipy.ndimage  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "interpolation_order: splines of order 2 to 5 need a package: pip install scipy "
            "(orders 0 and 1 need none)"
        ) from error


def warp_batch(
    source: Array | Sequence[Array],
    index: Array | None,
    matrices: Array,
    flips: Array,
    fill_mode: str,
    cval: float,
    order: int,
    scale: float,
    offset: float,
    out: Array,
    threads: int = 1,
) -> None:
    """Warps a batch as :func:`handmill.data.images.warp_reference.warp_batch` does."""
    from scipy.ndimage import affine_transform

    for b, m in enumerate(matrices):
        image = np.asarray(source[b if index is None else index[b]], np.float32)
        turned = image
        if not np.array_equal(m, (1, 0, 0, 0, 1, 0)):
            turned = np.empty_like(image)
            for channel in range(image.shape[2]):
                affine_transform(
                    image[:, :, channel],
                    m[[0, 1, 3, 4]].reshape(2, 2),
                    m[[2, 5]],
                    output=turned[:, :, channel],
                    order=order,
                    mode=fill_mode,
                    cval=cval,
                )
        rows, columns = -1 if flips[b] & 2 else 1, -1 if flips[b] & 1 else 1
        out[b] = turned[::rows, ::columns] * np.float32(scale) + np.float32(offset)
