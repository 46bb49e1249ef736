"""Load ``handmill serve`` over loopback: answers a second, and how long the slowest take.

python bench/serve_load.py [--clients 8] [--seconds 3] [--batch-size 32]

One process is the server, this one all clients: each sends a row of 784 numbers, waits for the
answer and sends the next, over a connection that stays open. The model is 784-512-256-10.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import handmill as keras

HEAD = "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {size}\r\n\r\n"


def requests() -> dict[str, bytes]:
    """A request of each kind."""
    row = np.random.default_rng(0).random((1, 784), dtype=np.float32)
    target = io.BytesIO()
    np.save(target, row)
    bodies = {
        "application/json": json.dumps({"instances": row.round(4).tolist()}).encode(),
        "application/x-npy": target.getvalue(),
    }
    return {
        kind: HEAD.format(kind=kind, size=len(body)).encode() + body
        for kind, body in bodies.items()
    }


async def client(port: int, request: bytes, end: float, times: list[float]) -> None:
    """One client: request after request until the time is over."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < end:
        start = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert length is not None
        await reader.readexactly(int(length.group(1)))
        times.append(time.perf_counter() - start)
    writer.close()


async def load(port: int, request: bytes, clients: int, seconds: float) -> list[float]:
    """All clients at once; returns the seconds of each answer."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    await asyncio.gather(*[client(port, request, end, times) for _ in range(clients)])
    return sorted(times)


def main() -> None:
    """Prints a line for each kind of body and number of clients."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()
    layers = keras.layers
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.hmill"
        keras.Sequential(
            [
                keras.Input((784,)),
                layers.Dense(512, "relu"),
                layers.Dense(256, "relu"),
                layers.Dense(10, "softmax"),
            ]
        ).save(path)
        start = time.perf_counter()
        command = (sys.executable, "-m", "handmill", "serve", str(path), "--port", "0")
        command += ("--batch-size", str(options.batch_size))
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            port = int(server.stdout.readline().strip().rpartition(":")[2])
            print(f"ready after {time.perf_counter() - start:.2f} s")
            for kind, request in requests().items():
                for clients in options.clients:
                    asyncio.run(load(port, request, clients, 0.3))
                    times = asyncio.run(load(port, request, clients, options.seconds))
                    p50, p99 = (1e3 * times[int(q * len(times))] for q in (0.5, 0.99))
                    print(
                        f"{kind:18} {clients:3} clients: {len(times) / options.seconds:7.0f} a "
                        f"second, p50 {p50:.2f} ms, p99 {p99:.2f} ms"
                    )
            server.terminate()
            print(server.stdout.read().strip())


if __name__ == "__main__":
    main()
