"""Times a function's first answer: from the start of a process to its first prediction.

    python bench/cold_start.py [--rounds 9] [--json F]

Each round starts a process for handmill and one for ONNX Runtime, in turn; both load 784-512-256-10
from a file and predict one sample. Prints the medians, the ratio with its 90 % interval, and what
each needs beside Python: every package that it requires, zipped, libraries stripped.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from common import HERE, compile_as_installed, environment, parser, warn_if_busy, write_json

from handmill.inspection.benchmarks.handmill_jobs import make_model
from handmill.inspection.benchmarks.onnx_jobs import onnx_model
from handmill.inspection.benchmarks.peers import ratio_interval
from handmill.inspection.benchmarks.workloads import WORKLOADS

WORKLOAD = WORKLOADS["mlp"]

HANDMILL = """
import json, sys
import lambda_handler
event = {"body": open(sys.argv[1]).read()}
print(json.loads(lambda_handler.handler(event)["body"])["class"], flush=True)
"""
ONNXRUNTIME = """
import json, sys
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[2], providers=["CPUExecutionProvider"])
x = np.asarray(json.load(open(sys.argv[1]))["x"], "float32")
print(int(session.run(None, {"x": x[None]})[0].argmax()), flush=True)
"""


def first_answer(code: str, *arguments: str, **variables: str) -> tuple[float, str]:
    """Seconds from the start of a process to the first line that it prints, and the line."""
    source = str(HERE.parent / "python")
    path = os.pathsep.join([str(HERE.parent / "examples"), source])
    start = time.perf_counter()
    with subprocess.Popen(
        (sys.executable, "-c", code, *arguments),
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **variables},
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        return time.perf_counter() - start, line


def requirements(name: str) -> set[str]:
    """The distribution and all that it requires."""
    found: set[str] = set()
    wanted = [name]
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        found.add(name)
        for line in importlib.metadata.requires(name) or []:
            if "extra ==" not in line and "platform_system" not in line:
                wanted.append(re.split(r"[^\w.-]", line)[0].lower())
    return found


def files_of(name: str) -> list[tuple[Path, str]]:
    files = importlib.metadata.files(name) or []
    return [(Path(str(f.locate())), str(f)) for f in files if not str(f).startswith("..")]


def zipped_bytes(files: list[tuple[Path, str]]) -> int:
    """The size of a zip of these files."""
    memory = io.BytesIO()
    strip = shutil.which("strip")
    with (
        zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive,
        tempfile.TemporaryDirectory() as folder,
    ):
        for path, name in files:
            if not path.is_file() or path.suffix == ".pyc":
                continue
            if strip and ".so" in path.name:
                stripped = Path(folder) / path.name
                shutil.copyfile(path, stripped)
                subprocess.run((strip, "--strip-unneeded", str(stripped)), check=False)
                path = stripped
            archive.write(path, name)
    return memory.tell()


def sizes() -> dict[str, int]:
    """Zipped bytes of handmill and of ONNX Runtime, each with all that it requires."""
    source = HERE.parent / "python"
    ours = [(p, str(p.relative_to(source))) for p in (source / "handmill").rglob("*")]
    for name in ("numpy", "tqdm", "safetensors"):
        ours += files_of(name)
    theirs = [file for name in requirements("onnxruntime") for file in files_of(name)]
    return {"handmill": zipped_bytes(ours), "onnxruntime": zipped_bytes(theirs)}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=9)
    options = arguments.parse_args()
    rounds = 2 if options.smoke else options.rounds
    warn_if_busy()
    compile_as_installed()
    report: dict[str, Any] = {**environment(options.machine), "rows": {}}
    with tempfile.TemporaryDirectory() as folder:
        event, ours, theirs = (str(Path(folder) / n) for n in ("event", "m.hmill", "m.onnx"))
        Path(event).write_text(json.dumps({"x": WORKLOAD.inputs(1)[0].tolist()}))
        model = make_model(WORKLOAD)
        model.set_weights([a for layer in WORKLOAD.weights() for a in layer])
        model.save(ours)
        Path(theirs).write_bytes(onnx_model(WORKLOAD).SerializeToString())
        seconds: dict[str, list[float]] = {"handmill": [], "onnxruntime": []}
        answers = set()
        for _ in range(rounds + 1):  # the first fills the file cache
            for name, code in (("handmill", HANDMILL), ("onnxruntime", ONNXRUNTIME)):
                took, answer = first_answer(code, event, theirs, MODEL_FILE=ours)
                seconds[name].append(took)
                answers.add(answer)
    if len(answers) != 1:
        raise SystemExit(f"the answers differ: {sorted(answers)}")
    zipped = {} if options.smoke else sizes()
    for name, times in seconds.items():
        row: dict[str, Any] = {"ms": float(np.median(times[1:])) * 1e3, "seconds": times[1:]}
        row["ratio"], row["low"], row["high"] = ratio_interval(
            np.array(times[1:]), np.array(seconds["handmill"][1:])
        )
        row["zipped_bytes"] = zipped.get(name)
        report["rows"][name] = row
        size = f"{zipped[name] / 1e6:6.1f} MB zipped" if zipped else ""
        interval = f"[{row['low']:.2f}, {row['high']:.2f}]"
        print(f"{name:12s} {row['ms']:7.1f} ms  {row['ratio']:.2f}x {interval}  {size}")
    write_json(options.json, report)


if __name__ == "__main__":
    main()
