"""Devices: there is one, the CPU."""

from __future__ import annotations

from types import TracebackType


class device:
    """Says where the ``with`` block computes; handmill has the CPU and no other device.

    Args:
        device_name: ``"cpu"`` or ``"cpu:0"``, in Keras's spellings.

    Raises:
        ValueError: for another device.

    Example:
        >>> import handmill
        >>> with handmill.device("cpu:0"):
        ...     x = handmill.ops.ones(2)
    """

    def __init__(self, device_name: str) -> None:
        plain = str(device_name).lower().removeprefix("/").removeprefix("device:")
        if plain not in ("cpu", "cpu:0"):
            raise ValueError(
                f"device({device_name!r}): handmill computes on the CPU alone; pass 'cpu', or "
                "leave the block out"
            )

    def __enter__(self) -> device:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing to undo."""
