"""``handmill serve``: a saved model behind HTTP."""

from __future__ import annotations

import argparse
import signal
import socket
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the model, the place and the limits."""
    parser.add_argument("model", help="a .hmill or .keras file")
    parser.add_argument("--host", default="127.0.0.1", help="default 127.0.0.1: this machine only")
    parser.add_argument("--port", type=int, default=8000, help="default 8000; 0 for a free one")
    parser.add_argument("--name", help="of the model in answers; default: its own")
    parser.add_argument("--batch-size", type=int, default=32, help="rows at once (default 32)")
    parser.add_argument(
        "--max-wait-ms",
        type=float,
        default=0.0,
        help="how long a free model waits for a batch to fill (default 0: it takes what is there)",
    )
    parser.add_argument("--max-rows", type=int, default=1024, help="of a request (default 1024)")
    parser.add_argument(
        "--max-bytes", type=int, default=16 << 20, help="of a request (default 16777216)"
    )
    parser.add_argument(
        "--max-waiting", type=int, default=256, help="requests that may wait (default 256)"
    )
    parser.add_argument(
        "--stop-seconds", type=float, default=30.0, help="to answer what is open (default 30)"
    )
    parser.add_argument("--threads", type=int, help="of the model; default: all cores")


def run(options: argparse.Namespace) -> int:
    """Serves until it is told to stop; status 2 for what does not fit."""
    try:
        import uvicorn
    except ImportError:
        return _refuse("needs an HTTP server: pip install 'handmill[serve]'")
    from handmill import config, models
    from handmill.serving.application import Application, Limits

    try:
        if options.threads is not None:
            config.set_num_threads(options.threads)
        limits = Limits(
            options.batch_size,
            options.max_rows,
            options.max_bytes,
            options.max_waiting,
            options.max_wait_ms / 1e3,
        )
        application = Application(
            models.load_model(options.model, compile=False), limits, options.name
        )
    except (OSError, ValueError) as error:
        return _refuse(str(error))
    try:
        place = _listening(options.host, options.port)
    except (OSError, OverflowError) as error:
        return _refuse(f"cannot listen on {options.host}:{options.port}: {error}")
    settings = uvicorn.Config(
        application,
        log_level="warning",
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=max(int(options.stop_seconds), 1),
    )
    host, port = place.getsockname()[:2]
    batches = "" if application.batches_alike else "; each row is predicted alone"
    print(f"handmill serve: {application.name} on http://{host}:{port}{batches}", flush=True)
    # uvicorn passes on the signal that it was told to stop by when all is answered.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(settings).run([place])
    answers = application.figures.answers
    print(f"handmill serve: stopped; answers {dict(sorted(answers.items()))}", flush=True)
    return 0


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(1024)
    except BaseException:
        found.close()
        raise
    found.setblocking(False)
    return found


def _refuse(text: str) -> int:
    print(f"handmill serve: {text}", file=sys.stderr)
    return 2
