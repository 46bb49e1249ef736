"""Devices, meshes of them and layouts, as Keras names them: here a device is a process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from handmill.distribution.ranks import ranks
from handmill.ir.op import Array


def list_devices(device_type: str | None = None) -> list[str]:
    """The processes of the training, as devices: ``"cpu:0"`` is rank 0.

    Args:
        device_type: ``"cpu"`` or None.

    Raises:
        ValueError: for another type.

    Example:
        >>> from handmill import distribution
        >>> distribution.list_devices("cpu")
        ['cpu:0']
    """
    if device_type is not None and str(device_type).lower() != "cpu":
        raise ValueError(
            f"list_devices() got device_type={device_type!r}; handmill computes on 'cpu' alone"
        )
    return [f"cpu:{q}" for q in range(ranks().size)]


def get_device_count(device_type: str | None = None) -> int:
    """How many processes the training has: the length of :func:`list_devices`.

    Args:
        device_type: ``"cpu"`` or None.

    Example:
        >>> from handmill import distribution
        >>> distribution.get_device_count()
        1
    """
    return len(list_devices(device_type))


class DeviceMesh:
    """Devices in a grid whose axes have names.

    Args:
        shape: the extents; ``(4,)`` for four processes that share the rows of a batch.
        axis_names: a name for each axis, such as ``("batch",)``.
        devices: default: :func:`list_devices`.

    Raises:
        ValueError: if shape, names and devices do not fit each other.

    Example:
        >>> from handmill import distribution
        >>> mesh = distribution.DeviceMesh((1,), ("batch",))
        >>> mesh.shape, mesh.axis_names, mesh.devices.tolist()
        ((1,), ('batch',), ['cpu:0'])
    """

    def __init__(
        self, shape: Sequence[int], axis_names: Sequence[str], devices: Sequence[Any] | None = None
    ) -> None:
        if not shape or not axis_names:
            raise ValueError(
                "Shape and axis_names cannot be empty. Received: "
                f"shape={shape}, axis_names={axis_names}"
            )
        if len(shape) != len(axis_names):
            raise ValueError(
                "Shape and axis_names should have same size. "
                f"Received: shape={shape}, axis_names={axis_names}"
            )
        found = np.array(list_devices() if devices is None else devices)
        if math.prod(shape) != found.size:
            raise ValueError(
                "Shape does not match the number of devices. "
                f"Received: shape={shape}; devices.shape={found.shape}"
            )
        self.shape = tuple(shape)
        self.axis_names = tuple(axis_names)
        self.devices: Array = found.reshape(self.shape)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} shape={self.shape}, axis_names={self.axis_names}>"


class TensorLayout:
    """Along which axes of a mesh the axes of a tensor are cut.

    Args:
        axes: a name of an axis of the mesh, or None, for each axis of the tensor.
        device_mesh: the mesh; may be set later, once.

    Raises:
        ValueError: for a name that the mesh does not have.

    Example:
        >>> from handmill import distribution
        >>> mesh = distribution.DeviceMesh((1,), ("batch",))
        >>> distribution.TensorLayout(("batch", None), mesh).axes
        ('batch', None)
    """

    def __init__(self, axes: Sequence[str | None], device_mesh: DeviceMesh | None = None) -> None:
        self.axes = tuple(axes)
        self._device_mesh = device_mesh
        self._check()

    @property
    def device_mesh(self) -> DeviceMesh | None:
        """The mesh."""
        return self._device_mesh

    @device_mesh.setter
    def device_mesh(self, device_mesh: DeviceMesh) -> None:
        if self._device_mesh is not None:
            raise ValueError(
                f"Cannot override device mesh value. Existing value is {self._device_mesh}"
            )
        self._device_mesh = device_mesh
        self._check()

    def _check(self) -> None:
        if self._device_mesh is None:
            return
        known = set(self._device_mesh.axis_names)
        if {axis for axis in self.axes if axis is not None} - known:
            raise ValueError(
                f"Invalid axis names for Layout. Valid axis names: {known}, Got {set(self.axes)}"
            )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} axes={self.axes}, device_mesh={self.device_mesh}>"
