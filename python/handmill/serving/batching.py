"""Rows of several requests in one call of the model."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from handmill.ir.op import Array
from handmill.serving.bodies import RequestError

Predict = Callable[[Sequence[Array]], Sequence[Array]]


class _Waiting(NamedTuple):
    arrays: list[Array]
    rows: int
    key: Any
    answer: asyncio.Future[list[Array]]


class Batcher:
    """Gives waiting requests to the model, as many at once as fit into a batch.

    While the model works, requests gather; when it is free, those that wait become its next
    batch. So a lone request never waits, and under load batches grow by themselves.

    Args:
        predict: the model, called in a thread of its own, one call at a time.
        most_rows: of a batch.
        most_waiting: requests that may wait; others are refused.
        seconds: how long the model may wait for a batch to fill when it is free.
        note: is told the rows of each call.
    """

    def __init__(
        self,
        predict: Predict,
        most_rows: int,
        most_waiting: int,
        seconds: float,
        note: Callable[[int], None],
    ) -> None:
        self._predict = predict
        self._most_rows = most_rows
        self._most_waiting = most_waiting
        self._seconds = seconds
        self._note = note
        self._queue: deque[_Waiting] = deque()
        self._filled = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "handmill-predict")
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._queue)

    async def predict(self, arrays: list[Array]) -> list[Array]:
        """Returns the outputs for the rows of one request.

        Raises:
            RequestError: 503 if too many requests wait.
        """
        if len(self._queue) >= self._most_waiting:
            raise RequestError(
                503, f"{len(self._queue)} requests wait for the model, which is the limit"
            )
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())
        key = tuple((a.shape[1:], a.dtype.str) for a in arrays)
        answer: asyncio.Future[list[Array]] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(arrays, len(arrays[0]), key, answer))
        self._filled.set()
        return await answer

    async def _work(self) -> None:
        while self._queue:
            if self._seconds:
                await self._fill()
            chosen = self._next()
            if not chosen:
                continue
            await self._answer(chosen)

    async def _answer(self, chosen: Sequence[_Waiting]) -> None:
        """Answers the requests of a batch; what is wrong with one of them is its own affair."""
        try:
            outputs = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._run, chosen
            )
        except Exception as error:
            if len(chosen) > 1:
                for one in chosen:
                    await self._answer([one])
            elif not chosen[0].answer.done():
                chosen[0].answer.set_exception(error)
            return
        for one, found in zip(chosen, outputs, strict=True):
            if not one.answer.done():
                one.answer.set_result(found)

    async def _fill(self) -> None:
        """Waits until a batch is full, at most for the time that is set."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._seconds
        while sum(w.rows for w in self._queue) < self._most_rows:
            self._filled.clear()
            try:
                await asyncio.wait_for(self._filled.wait(), end - loop.time())
            except (TimeoutError, asyncio.TimeoutError):
                return

    def _next(self) -> list[_Waiting]:
        """The requests of the next batch: the first, and those behind it that go with it."""
        chosen: list[_Waiting] = []
        left: deque[_Waiting] = deque()
        rows = 0
        for one in self._queue:
            if one.answer.done():  # whoever asked is gone
                continue
            goes = not chosen or (one.key == chosen[0].key and rows + one.rows <= self._most_rows)
            (chosen if goes else left).append(one)
            rows += one.rows if goes else 0
        self._queue = left
        return chosen

    def _run(self, chosen: Sequence[_Waiting]) -> list[list[Array]]:
        columns = [
            parts[0] if len(parts) == 1 else np.concatenate(parts)
            for parts in zip(*[one.arrays for one in chosen], strict=True)
        ]
        rows, most = len(columns[0]), self._most_rows
        pieces = []
        for start in range(0, rows, most):
            piece = [c[start : start + most] for c in columns]
            self._note(len(piece[0]))
            pieces.append(self._predict(piece))
        outputs = [p[0] if len(p) == 1 else np.concatenate(p) for p in zip(*pieces, strict=True)]
        found, start = [], 0
        for one in chosen:
            found.append([o[start : start + one.rows] for o in outputs])
            start += one.rows
        return found

    async def close(self) -> None:
        """Waits until all that was accepted is answered."""
        if self._task is not None:
            await self._task
        self._thread.shutdown()
