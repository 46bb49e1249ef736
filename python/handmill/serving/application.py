"""The ASGI application that answers for a model."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handmill import tree
from handmill.errors import RowError, ShapeError
from handmill.ir.op import Array
from handmill.models.layout import Layout, split
from handmill.models.lengths import lengths_of
from handmill.models.steps import Predictor
from handmill.runtime.function import TracedFunction
from handmill.serving.batching import Batcher
from handmill.serving.bodies import JSON, NPY, RequestError, Wanted, arrays_of, body_of
from handmill.serving.figures import Figures


@dataclass(frozen=True)
class Limits:
    """What a server accepts.

    Args:
        batch_size: rows that the model is given at once.
        max_rows: rows of one request.
        max_bytes: bytes of one request.
        max_waiting: requests that may wait for the model.
        max_wait: seconds that a free model waits for a batch to fill; 0: it takes what is there.

    Raises:
        ValueError: for numbers that are too small.

    Example:
        >>> from handmill.serving import Limits
        >>> Limits(batch_size=16).max_rows
        1024
    """

    batch_size: int = 32
    max_rows: int = 1024
    max_bytes: int = 16 << 20
    max_waiting: int = 256
    max_wait: float = 0.0

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_rows", "max_bytes", "max_waiting"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be an integer of at least 1, got {getattr(self, name)!r}"
                )
        if not self.max_wait >= 0:
            raise ValueError(f"max_wait must be seconds of at least 0, got {self.max_wait!r}")


class _RowPredictor(Predictor):
    """A prediction that gives a row the same bits whatever rows are beside it."""

    def __init__(self, model: Any, layout: Layout) -> None:
        super().__init__(model, layout)
        lengths = lengths_of(model, (layout.counts[0],))
        self.function = TracedFunction(
            self._trace, "predict_step", subject=self, lengths=lengths, rows_alone=True
        )


class Application:
    """An ASGI application that answers for a model; any ASGI server can run it.

    ``POST /predict`` takes ``{"instances": [row, ...]}`` and answers ``{"predictions": [...]}``,
    as TensorFlow Serving does (under ``/v1/models/NAME:predict`` too), or takes and gives an array
    in NumPy's format (``application/x-npy``). ``GET /health`` says whether it answers, ``GET
    /metrics`` what it has done, for Prometheus. Rows of several requests are predicted together;
    each row gets the bits that it gets alone.

    Args:
        model: a model whose inputs are known.
        limits: what it accepts; default: ``Limits()``.
        name: of the model in answers; default: its own.

    Raises:
        ValueError: for a model whose inputs are not known.

    Example:
        >>> import handmill as keras
        >>> from handmill.serving import Application
        >>> model = keras.Sequential([keras.Input((4,), name="sizes"), keras.layers.Dense(3)])
        >>> Application(model, name="flowers").described()["inputs"]
        [{'name': 'sizes', 'shape': [None, 4], 'dtype': 'float32'}]
    """

    def __init__(self, model: Any, limits: Limits | None = None, name: str | None = None) -> None:
        self.model = model
        self.limits = limits or Limits()
        self.name = name or model.name
        self.figures = Figures()
        self.stopping = False
        self.inputs = _inputs_of(model)
        self._predictors: dict[Any, Predictor] = {}
        self._names: list[str] | None = None
        self._batcher: Batcher | None = None
        self.batches_alike = self._looks_alike()

    def described(self) -> dict[str, Any]:
        """What ``GET /health`` says."""
        inputs = [
            {"name": w.name, "shape": [None, *w.shape], "dtype": w.dtype} for w in self.inputs
        ]
        return {
            "status": "stopping" if self.stopping else "ok",
            "model": self.name,
            "inputs": inputs,
            "batch_size": self.limits.batch_size if self.batches_alike else 1,
        }

    # Prediction.

    def _predict(self, arrays: Sequence[Array]) -> Sequence[Array]:
        given = list(arrays)
        x = given[0] if len(given) == 1 else given
        layout, found = split(self.model._as_numbers(x), None, None)
        predictor = self._predictors.get(layout.key)
        if predictor is None:
            predictor = self._predictors[layout.key] = _RowPredictor(self.model, layout)
        outputs = predictor(found)
        if self._names is None:
            self._names = _names_of(self.model, predictor.nesting(found), len(outputs))
        return [np.asarray(y) for y in outputs]

    def _looks_alike(self) -> bool:
        """Whether rows have the same bits in a batch and alone: tried at the start."""
        if any(w.dtype == "string" or None in w.shape for w in self.inputs):
            sample = None
        else:
            sample = _sample(self.inputs, min(self.limits.batch_size, 7))
        if sample is None:
            return True
        whole = self._predict(sample)
        for row in range(len(sample[0])):
            alone = self._predict([a[row : row + 1] for a in sample])
            pairs = zip(alone, whole, strict=True)
            if any(a.tobytes() != w[row : row + 1].tobytes() for a, w in pairs):
                return False
        return True

    def _named(self, outputs: Sequence[Array]) -> Any:
        if len(outputs) == 1:
            return outputs[0]
        return dict(zip(self._names or (), outputs, strict=True))

    # ASGI.

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers one request, or takes part in the life of the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _live(self, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                self.stopping = True
                if self._batcher is not None:
                    await self._batcher.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        headers: list[tuple[bytes, bytes]] = []
        try:
            status, kind, body = await self._respond(scope, receive)
        except RequestError as error:
            status, kind = error.status, JSON
            body = json.dumps({"error": str(error)}).encode()
            if status == 503:
                headers.append((b"retry-after", b"1"))
            if status == 413:  # the rest of the body is not read
                headers.append((b"connection", b"close"))
            if status == 405:
                headers.append((b"allow", b"POST" if _is_prediction(scope["path"]) else b"GET"))
        except Exception as error:
            status, kind = 500, JSON
            body = json.dumps({"error": f"{type(error).__name__}: {error}"}).encode()
        self.figures.answers[status] = self.figures.answers.get(status, 0) + 1
        headers += [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _respond(self, scope: Any, receive: Any) -> tuple[int, str, bytes]:
        path, method = scope["path"], scope["method"]
        if _is_prediction(path):
            _check_method(method, "POST", path)
            return await self._predicted(scope, receive)
        if path == "/metrics":
            _check_method(method, "GET", path)
            waiting = self._batcher.waiting if self._batcher is not None else 0
            return 200, "text/plain; version=0.0.4", self.figures.text(waiting).encode()
        if path in ("/health", "/"):
            _check_method(method, "GET", path)
            return 503 if self.stopping else 200, JSON, json.dumps(self.described()).encode()
        raise RequestError(
            404, f"no {path!r} here; there are POST /predict, GET /health and GET /metrics"
        )

    async def _predicted(self, scope: Any, receive: Any) -> tuple[int, str, bytes]:
        limits = self.limits
        headers = {name.lower(): value for name, value in scope["headers"]}
        kind = headers.get(b"content-type", JSON.encode()).decode("latin-1")
        kind = kind.partition(";")[0].strip().lower()
        body = await _body(receive, headers.get(b"content-length"), limits.max_bytes)
        if self.stopping:
            raise RequestError(503, "the server is stopping")
        start = time.perf_counter()
        arrays, by_columns = arrays_of(body, kind, self.inputs)
        rows = len(arrays[0])
        if rows > limits.max_rows:
            raise RequestError(
                413, f"the request holds {rows} rows; at most {limits.max_rows} are accepted"
            )
        if self._batcher is None:
            most = limits.batch_size if self.batches_alike else 1
            self._batcher = Batcher(
                self._predict,
                most,
                limits.max_waiting,
                limits.max_wait,
                self.figures.batches.add,
            )
        try:
            outputs = self._named(await self._batcher.predict(arrays))
        except (RowError, ShapeError, ValueError) as error:
            raise RequestError(422, str(error)) from error
        if kind == NPY and isinstance(outputs, dict):
            raise RequestError(422, f"the model has {len(outputs)} outputs; ask for {JSON}")
        answer = body_of(outputs, kind, by_columns)
        self.figures.rows += rows
        self.figures.seconds.add(time.perf_counter() - start)
        return 200, NPY if kind == NPY else JSON, answer


def _is_prediction(path: str) -> bool:
    return path == "/predict" or (path.startswith("/v1/models/") and path.endswith(":predict"))


def _check_method(method: str, wanted: str, path: str) -> None:
    if method != wanted and not (wanted == "GET" and method == "HEAD"):
        raise RequestError(405, f"{path} takes {wanted}, not {method}")


async def _body(receive: Any, length: bytes | None, most: int) -> bytes:
    if length is not None and length.isdigit() and int(length) > most:
        raise RequestError(413, f"the request has {int(length)} bytes; at most {most} are accepted")
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestError(400, "the request ended before its body did")
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > most:
            raise RequestError(413, f"the request has more than {most} bytes, which is the limit")
        if not message.get("more_body"):
            return b"".join(parts)


def _inputs_of(model: Any) -> list[Wanted]:
    try:
        given = tree.flatten(model.inputs)
    except (AttributeError, ValueError):
        given = []
    if not given:
        raise ValueError(
            f"the inputs of {type(model).__name__} {model.name!r} are not known; expected a "
            "functional model, or a Sequential one that begins with an Input"
        )
    return [Wanted(t.name, tuple(t.shape[1:]), str(t.dtype)) for t in given]


def _names_of(model: Any, nesting: Any, count: int) -> list[str]:
    if isinstance(nesting, dict):
        return [str(name) for name in tree.flatten({k: k for k in nesting})]
    names = [str(name) for name in getattr(model, "output_names", ())]
    return names if len(set(names)) == count else [f"output_{i}" for i in range(count)]


def _sample(inputs: Sequence[Wanted], rows: int) -> list[Array]:
    found = []
    for wanted in inputs:
        shape = (rows, *(d or 1 for d in wanted.shape))
        numbers = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
        is_float = np.dtype(wanted.dtype).kind == "f"
        found.append((np.sin(numbers) if is_float else numbers % 2).astype(wanted.dtype))
    return found
