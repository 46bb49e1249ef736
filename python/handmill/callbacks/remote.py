"""Numbers of epochs, sent to a server."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

import numpy as np

from handmill.callbacks.callback import Callback
from handmill.errors import warn_caller

TIMEOUT = 10.0
"""Seconds that training waits for a server."""


class RemoteMonitor(Callback):
    """Posts the numbers of each epoch to a server over HTTP; a server that is away only warns.

    Args:
        root: the server, such as ``"http://localhost:9000"``.
        path: the path below it.
        field: the field of the form that holds the numbers as JSON.
        headers: further headers.
        send_as_json: whether the body is the JSON itself, not a form.

    Raises:
        ValueError: if ``root`` is no address of HTTP.
    """

    def __init__(
        self,
        root: str = "http://localhost:9000",
        path: str = "/publish/epoch/end/",
        field: str = "data",
        headers: Mapping[str, str] | None = None,
        send_as_json: bool = False,
    ) -> None:
        super().__init__()
        if urllib.parse.urlsplit(root).scheme not in ("http", "https"):
            raise ValueError(f"RemoteMonitor: expected an address of HTTP, got root={root!r}")
        self.root = root
        self.path = path
        self.field = field
        self.headers = headers
        self.send_as_json = send_as_json

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Sends the numbers of an epoch."""
        numbers = {"epoch": epoch, **{k: _plain(v) for k, v in (logs or {}).items()}}
        text = json.dumps(numbers)
        if self.send_as_json:
            body, kind = text, "application/json"
        else:
            body = urllib.parse.urlencode({self.field: text})
            kind = "application/x-www-form-urlencoded"
        request = urllib.request.Request(
            self.root + self.path,
            body.encode(),
            {"Content-Type": kind, **(self.headers or {})},
            method="POST",
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT):
                pass
        except urllib.error.HTTPError as error:
            error.close()
            warn_caller(
                f"RemoteMonitor: the server at {self.root} answered {error.code}",
            )
        except OSError as error:
            warn_caller(
                f"Could not reach RemoteMonitor root server at {self.root} ({error})",
            )


def _plain(value: Any) -> Any:
    if not isinstance(value, np.ndarray | np.generic):
        return value
    return value.item() if value.size == 1 else value.tolist()
