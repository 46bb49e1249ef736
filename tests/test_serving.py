"""A model behind HTTP: what is answered, what is refused, and that nothing is lost."""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handmill as keras
from handmill.serving import Application, Limits
from processes import environment

L = keras.layers

needs_uvicorn = pytest.mark.skipif(importlib.util.find_spec("uvicorn") is None, reason="no uvicorn")


def network(width: int = 32) -> keras.Sequential:
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((5,)), L.Dense(width, "relu"), L.Dense(3, "softmax")], name="flowers"
    )


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 5), dtype=np.float32)


async def call(
    app: Application,
    method: str,
    path: str,
    body: bytes = b"",
    kind: str | None = None,
    cuts: int = 1,
) -> tuple[int, dict[str, str], bytes]:
    """Send one request to an application, in some pieces."""
    size = -(-len(body) // cuts)
    parts = [body[i : i + size] for i in range(0, len(body), size)] if body else [b""]
    waiting = [
        {"type": "http.request", "body": part, "more_body": i + 1 < len(parts)}
        for i, part in enumerate(parts)
    ]
    said: list[dict[str, Any]] = []
    headers = [] if kind is None else [(b"content-type", kind.encode())]

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    await app(scope, receive, send)
    found = {name.decode(): value.decode() for name, value in said[0]["headers"]}
    return said[0]["status"], found, said[1]["body"]


def ask(app: Application, *args: Any, **options: Any) -> tuple[int, dict[str, str], bytes]:
    return asyncio.run(call(app, *args, **options))


def npy(array: np.ndarray) -> bytes:
    target = io.BytesIO()
    np.save(target, array)
    return target.getvalue()


def test_json_and_npy_give_what_predict_gives() -> None:
    model, x = network(), rows(4)
    app = Application(model)
    wanted = np.concatenate([model.predict(x[i : i + 1], verbose=0) for i in range(4)])
    for path in ("/predict", "/v1/models/flowers:predict"):
        body = json.dumps({"instances": x.tolist()}).encode()
        status, headers, answer = ask(app, "POST", path, body, "application/json", cuts=3)
        assert (status, headers["content-type"]) == (200, "application/json")
        assert int(headers["content-length"]) == len(answer)
        found = np.asarray(json.loads(answer)["predictions"], "float32")
        assert found.tobytes() == wanted.tobytes()
    status, headers, answer = ask(app, "POST", "/predict", npy(x), "application/x-npy")
    assert (status, headers["content-type"]) == (200, "application/x-npy")
    assert np.load(io.BytesIO(answer)).tobytes() == wanted.tobytes()
    by_column = json.dumps({"inputs": x.tolist()}).encode()
    assert list(json.loads(ask(app, "POST", "/predict", by_column)[2])) == ["outputs"]
    curl = "application/x-www-form-urlencoded"
    assert ask(app, "POST", "/predict", by_column, curl)[1]["content-type"] == "application/json"


def test_rows_have_the_bits_that_they_have_alone_in_any_batch() -> None:
    app = Application(network(300), Limits(batch_size=16))
    x = rows(40)
    alone = [app._predict([x[i : i + 1]])[0] for i in range(40)]

    async def together() -> list[bytes]:
        sizes = (1, 3, 2, 17, 1, 9, 7)
        starts = np.cumsum([0, *sizes])[:-1]
        calls = [
            call(app, "POST", "/predict", npy(x[a : a + n]), "application/x-npy")
            for a, n in zip(starts, sizes, strict=True)
        ]
        return [body for _, _, body in await asyncio.gather(*calls)]

    found = np.concatenate([np.load(io.BytesIO(b)) for b in asyncio.run(together())])
    assert found.tobytes() == np.concatenate(alone).tobytes()
    assert app.batches_alike
    batches = app.figures.batches
    assert sum(batches.counts) < 7  # requests went together


def test_several_inputs_and_outputs_by_name() -> None:
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    both = L.Concatenate()([a, b])
    model = keras.Model([a, b], [L.Dense(1, name="p")(both), L.Dense(2, name="q")(both)])
    app = Application(model)
    x = {"a": [[1.0, 2.0], [0.0, 1.0]], "b": [[1.0, 0.0, 3.0], [2.0, 2.0, 2.0]]}
    arrays = [np.asarray(x[name], "float32") for name in ("a", "b")]
    wanted = model.predict(arrays, verbose=0)
    answer = json.loads(ask(app, "POST", "/predict", json.dumps({"inputs": x}).encode())[2])
    np.testing.assert_allclose(answer["outputs"]["q"], wanted[1], rtol=1e-6)
    instances = [{"a": x["a"][i], "b": x["b"][i]} for i in range(2)]
    body = json.dumps({"instances": instances}).encode()
    answer = json.loads(ask(app, "POST", "/predict", body)[2])
    np.testing.assert_allclose([row["p"] for row in answer["predictions"]], wanted[0], rtol=1e-6)
    status, _, body = ask(app, "POST", "/predict", b'{"inputs": {"a": [[1, 2]]}}')
    assert (status, json.loads(body)) == (
        422, {"error": "expected the inputs ['a', 'b'], received ['a']"},
    )  # fmt: skip


REFUSED = (
    (b"", "application/json", 400, "the body is not JSON"),
    (b"{", "application/json", 400, "the body is not JSON"),
    (b"\xff\xfe", "application/json", 400, "the body is not JSON"),
    (b"[" * 100_000, "application/json", 400, "the body is not JSON"),
    (b'{"instances": [[NaN, 1, 2, 3, 4]]}', "application/json", 400, "NaN is not JSON"),
    (b"[1, 2]", "application/json", 422, 'expected {"instances"'),
    (b'{"rows": [[1]]}', "application/json", 422, r"received the keys \['rows'\]"),
    (b'{"instances": [], "x": 1}', "application/json", 422, "received the keys"),
    (b'{"instances": []}', "application/json", 422, "at least one row"),
    (b'{"instances": 3}', "application/json", 422, "at least one row"),
    (b'{"instances": [[1, 2, 3, 4]]}', "application/json", 422, r"shape \(5\).*shape \(1, 4\)"),
    (b'{"instances": [[1, 2, 3, 4, 5], [1]]}', "application/json", 422, "not equally long"),
    (b'{"instances": [["a", "b", "c", "d", "e"]]}', "application/json", 422, "received text"),
    (b'{"instances": [[1e300, 1, 2, 3, 4]]}', "application/json", 422, "numbers that it cannot"),
    (b'{"instances": [[null, 1, 2, 3, 4]]}', "application/json", 422, "hold null"),
    (b'{"instances": [{"x": [1, 2, 3, 4, 5]}]}', "application/json", 422, "the model's input is"),
    (b'{"instances": [{"x": 1}, {"y": 1}]}', "application/json", 422, "same inputs"),
    (b'{"instances": [[1e999, 1, 2, 3, 4]]}', "application/json", 200, ""),
    (b"\x93NUMPY\x01\x00", "application/x-npy", 400, "no array in NumPy's format"),
    (npy(np.array([{}], object))[:200], "application/x-npy", 400, "no array in NumPy's format"),
    (npy(np.zeros((0, 5))), "application/x-npy", 422, "no row"),
    (npy(rows(2))[:-1], "application/x-npy", 400, "takes 40 bytes, but 39 follow"),
    (npy(rows(2)).replace(b"(2, 5)", b"(9, 5)"), "application/x-npy", 400, "takes 180 bytes"),
    (npy(rows(2)).replace(b"<f4", b"<f3"), "application/x-npy", 400, "not that of numbers"),
    (npy(rows(2)).replace(b"5), }", b"5), %" + b"(" * 60), "application/x-npy", 400, "NumPy"),
    (npy(np.asfortranarray(rows(3))), "application/x-npy", 200, ""),
    (npy(np.zeros((2, 5), complex)), "application/x-npy", 422, "received complex128"),
    (npy(np.zeros(5)), "application/x-npy", 422, r"shape \(5,\)"),
    (npy(np.zeros((33, 5))), "application/x-npy", 413, "holds 33 rows; at most 32"),
    (npy(np.zeros((400, 5))), "application/x-npy", 413, "more than 8000 bytes"),
    (b"x", "text/plain", 415, "received 'text/plain'"),
)  # fmt: skip


def test_what_does_not_fit_is_refused_and_said() -> None:
    app = Application(network(), Limits(max_rows=32, max_bytes=8000))
    for body, kind, status, text in REFUSED:
        if body.startswith(b"[["):
            body = body[:7000]
        found, _, answer = ask(app, "POST", "/predict", body, kind, cuts=2)
        assert found == status, (body[:60], answer[:200])
        if status != 200:
            assert re.search(text, json.loads(answer)["error"]), answer
    for method, path, status, text in (
        ("GET", "/predict", 405, "/predict takes POST, not GET"),
        ("POST", "/health", 405, "/health takes GET, not POST"),
        ("GET", "/other", 404, "no '/other' here"),
    ):
        found, headers, answer = ask(app, method, path)
        assert found == status
        assert text in json.loads(answer)["error"]
        assert status != 405 or headers["allow"] in ("GET", "POST")
    metrics = ask(app, "GET", "/metrics")[2].decode()
    assert 'handmill_requests_total{code="413"} 2' in metrics
    assert "handmill_rows_total 4\n" in metrics


def test_numbers_that_are_not_finite_are_null_in_json() -> None:
    model = keras.Sequential([keras.Input((1,)), L.Rescaling(1e38)])
    answer = ask(Application(model), "POST", "/predict", b'{"instances": [[1], [1e30]]}')[2]
    found = json.loads(answer)["predictions"]
    assert found[0][0] == pytest.approx(1e38, rel=1e-6)
    assert found[1] == [None]


def test_whole_numbers_stay_whole() -> None:
    model = keras.Sequential([keras.Input((2,), dtype="int32"), L.Embedding(7, 2), L.Flatten()])
    app = Application(model)
    for text, status, said in (
        ('[[1, 6]]', 200, ""),
        ('[[1.0, 2.0]]', 200, ""),
        ('[[1.5, 2]]', 422, "not whole"),
        ('[[1, 3000000000]]', 422, "received 1 to 3000000000"),
        ('[[1, 7]]', 422, "7"),
    ):  # fmt: skip
        found, _, answer = ask(app, "POST", "/predict", b'{"instances": %s}' % text.encode())
        assert found == status, answer
        assert said in answer.decode()


def test_a_bad_request_does_not_spoil_its_batch() -> None:
    """An index that no row of the table has: its request is refused, those beside it are not."""
    model = keras.Sequential([keras.Input((3,), dtype="int32"), L.Embedding(9, 2), L.Flatten()])
    app = Application(model, Limits(max_wait=0.01))
    good, bad = np.array([[1, 2, 3]], "int32"), np.array([[1, 1, 1], [1, 9, 1]], "int32")

    async def many() -> list[tuple[int, dict[str, str], bytes]]:
        bodies = [npy(bad if i in (2, 5) else good + i % 3) for i in range(8)]
        calls = [call(app, "POST", "/predict", body, "application/x-npy") for body in bodies]
        return await asyncio.gather(*calls)

    found = asyncio.run(many())
    assert [status for status, _, _ in found] == [200, 200, 422, 200, 200, 422, 200, 200]
    assert "at row 1" in json.loads(found[2][2])["error"]  # of its own rows
    for i in (0, 1, 3, 4, 6, 7):
        answer = np.load(io.BytesIO(found[i][2]))
        np.testing.assert_array_equal(answer, model.predict(good + i % 3, verbose=0))


def test_too_many_waiting_requests_are_told_to_come_again() -> None:
    app = Application(network(), Limits(max_waiting=2, batch_size=1))

    async def many() -> list[tuple[int, dict[str, str], bytes]]:
        calls = [call(app, "POST", "/predict", npy(rows(1)), "application/x-npy") for _ in range(9)]
        return await asyncio.gather(*calls)

    found = asyncio.run(many())
    statuses = [status for status, _, _ in found]
    assert set(statuses) == {200, 503}
    refused = next(one for one in found if one[0] == 503)
    assert refused[1]["retry-after"] == "1"
    assert json.loads(refused[2])["error"].endswith(
        "requests wait for the model, which is the limit"
    )


def test_a_stopping_application_refuses_and_finishes() -> None:
    app = Application(network())
    said: list[str] = []

    async def live() -> int:
        inbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()

        async def send(message: dict[str, str]) -> None:
            said.append(message["type"])

        task = asyncio.get_running_loop().create_task(app({"type": "lifespan"}, inbox.get, send))
        await inbox.put({"type": "lifespan.startup"})
        await call(app, "POST", "/predict", npy(rows(1)), "application/x-npy")
        await inbox.put({"type": "lifespan.shutdown"})
        await task
        return (await call(app, "GET", "/health"))[0]

    assert asyncio.run(live()) == 503
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_limits_and_models_that_do_not_fit() -> None:
    for arguments in ({"batch_size": 0}, {"max_rows": -1}, {"max_waiting": 1.5}, {"max_wait": -1}):
        with pytest.raises(ValueError, match=f"{next(iter(arguments))} must be"):
            Limits(**arguments)
    with pytest.raises(ValueError, match=r"inputs of Sequential .* are not known"):
        Application(keras.Sequential([L.Dense(1)]))


def test_serving_leaves_the_model_as_it_was() -> None:
    model = keras.Sequential(
        [keras.Input((5,)), L.BatchNormalization(), L.Dropout(0.5), L.Dense(2)]
    )
    model.compile("adam", "mse")
    before = [v.numpy().tobytes() for v in model.variables]
    ask(Application(model), "POST", "/predict", npy(rows(3)), "application/x-npy")
    assert before == [v.numpy().tobytes() for v in model.variables]


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_million_hostile_bodies() -> None:
    from handmill.serving.bodies import RequestError, Wanted, arrays_of

    rng = np.random.default_rng(0)
    wanted = [Wanted("x", (5,), "float32")]
    seeds = [npy(rows(2)), json.dumps({"instances": rows(2).tolist()}).encode()]
    for number in range(1_000_000):
        body = bytearray(seeds[number % 2])
        for _ in range(int(rng.integers(1, 6))):
            at = int(rng.integers(len(body)))
            body[at : at + int(rng.integers(0, 3))] = rng.bytes(int(rng.integers(0, 4)))
        kind = ("application/x-npy", "application/json")[number % 2]
        try:
            arrays, _ = arrays_of(bytes(body), kind, wanted)
        except RequestError:
            continue
        assert arrays[0].dtype == np.float32
        assert arrays[0].shape[1:] == (5,)


# A server of its own.


class Served:
    """``handmill serve`` in a process."""

    def __init__(self, folder: Path, *options: str) -> None:
        path = folder / "model.hmill"
        network().save(path)
        command = (sys.executable, "-m", "handmill", "serve", str(path), "--port", "0", *options)
        self.process = subprocess.Popen(
            command,
            env=environment(HANDMILL_NUM_THREADS="1", PYTHONWARNINGS="ignore"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r":(\d+)$", line.strip())
        assert found, line + self.process.stdout.read()
        self.port = int(found.group(1))

    def stop(self) -> tuple[int, str]:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stdout is not None
        return self.process.wait(30), self.process.stdout.read()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    server = Served(tmp_path)
    yield server
    if server.process.poll() is None:
        server.process.kill()
        server.process.wait()
    assert server.process.stdout is not None
    server.process.stdout.close()


@needs_uvicorn
@pytest.mark.alone
def test_nothing_is_lost_when_the_server_is_stopped(served: Served) -> None:
    """Under load from several clients: what was accepted is answered, and the server says so."""
    model, x = network(), rows(8)
    wanted = [model.predict(x[i : i + 1], verbose=0).tobytes() for i in range(8)]
    answered, refused, wrong = [0] * 4, [0] * 4, []

    def client(number: int) -> None:
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
            i = answered[number] % 8
            try:
                body, kind = npy(x[i : i + 1]), {"content-type": "application/x-npy"}
                connection.request("POST", "/predict", body, kind)
                response = connection.getresponse()
                found = response.read()
            except (ConnectionError, http.client.BadStatusLine):
                refused[number] += 1
                return
            finally:
                connection.close()
            if response.status != 200 or np.load(io.BytesIO(found)).tobytes() != wanted[i]:
                wrong.append((response.status, found[:100]))
                return
            answered[number] += 1

    threads = [threading.Thread(target=client, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    while min(answered) < 5 and not wrong:
        assert served.process.poll() is None
    status, said = served.stop()
    for thread in threads:
        thread.join()
    assert not wrong
    assert status == 0, said
    # Each answer that the server made has reached whoever asked for it.
    assert f"stopped; answers {{200: {sum(answered)}}}" in said


@needs_uvicorn
@pytest.mark.alone
def test_a_body_that_is_announced_too_large_is_refused_before_it_is_read(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 413 ")
    assert served.stop()[0] == 0


@needs_uvicorn
def test_a_port_in_use_and_other_bad_places(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from handmill.cli import main

    model = str(tmp_path / "model.hmill")
    network().save(model)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for options, text in (
            ((model, "--port", str(port)), f"cannot listen on 127.0.0.1:{port}: [Errno 98]"),
            ((model, "--port", "99999"), "cannot listen on 127.0.0.1:99999"),
            ((model, "--host", "203.0.113.1"), "cannot listen on 203.0.113.1:8000"),
            ((str(tmp_path / "no.hmill"),), "no.hmill"),
            ((model, "--batch-size", "0"), "batch_size must be an integer of at least 1"),
        ):
            assert main(["serve", *options]) == 2
            said = capfd.readouterr().err
            assert said.startswith("handmill serve: ")
            assert text in said
