"""Every benchmark runs: in a mode of seconds whose figures mean nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("handmill._core", reason="a build without kernels")

BENCH = Path(__file__).resolve().parents[1] / "bench"
pytestmark = pytest.mark.skipif(not BENCH.is_dir(), reason="no bench/ beside the tests")


def run_script(name: str, *options: str | Path, cwd: Path) -> str:
    environment = dict(os.environ)
    if "PYTHONPATH" in environment:  # may be relative to the folder that pytest was started in
        entries = environment["PYTHONPATH"].split(os.pathsep)
        environment["PYTHONPATH"] = os.pathsep.join(str(Path(e).resolve()) for e in entries)
    done = subprocess.run(
        (sys.executable, BENCH / name, *options),
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def report_of(name: str, *options: str, cwd: Path) -> dict:
    path = cwd / "report.json"
    run_script(name, "--smoke", "--json", path, *options, cwd=cwd)
    return json.loads(path.read_text())


def peers(*candidates: str) -> list[str]:
    modules = {"scikit-learn": "sklearn"}
    return [c for c in candidates if importlib.util.find_spec(modules.get(c, c)) is not None]


def test_ceilings(tmp_path):
    report = report_of("ceilings.py", cwd=tmp_path)
    assert {c["isa"] for c in report["ceilings"]} == set(report["isas"])
    for c in report["ceilings"]:
        assert c["peak_gflops"] > 0
        assert all(v > 0 for kind in c["gb_per_second"].values() for v in kind.values())


@pytest.mark.slow
def test_run_ops_knows_every_operator(tmp_path):
    from handmill import ops  # noqa: F401  (fills the registry)
    from handmill.ir.op import REGISTRY

    report = report_of("run_ops.py", "--isa", "portable", cwd=tmp_path)
    rows = report["rows"]
    assert all(row["us"] > 0 and row["gb_per_second"] >= 0 for row in rows)
    tagged = {op.name for op in REGISTRY.values() if any(s.bench for s in op.samples())}
    assert {row["op"] for row in rows} == tagged


def test_sweep_matmul_replaces_the_rows_that_it_times(tmp_path):
    report_of("sweep_matmul.py", "--only", "64x64x64,33x33x33", cwd=tmp_path)
    rows = report_of("sweep_matmul.py", "--only", "33x33x33", cwd=tmp_path)["rows"]
    names = [row["name"] for row in rows]
    assert len(names) == len(set(names)) == 3
    for row in rows:
        assert row["faster_peer"] in {"numpy", "torch"}
        assert set(row["ratio"]) == set(row["percent_of_peak"])
        assert all(r > 0 for r in row["ratio"].values())


def test_run_optimizers(tmp_path):
    rows = report_of("run_optimizers.py", "--threads", "1", cwd=tmp_path)["rows"]
    bytes_of = {row["optimizer"]: round(row["bytes_per_parameter"], 1) for row in rows}
    assert bytes_of["SGD"] == 12
    assert bytes_of["RMSprop"] == bytes_of["Adagrad"] == bytes_of["SGD momentum"] == 20
    assert bytes_of["Adam"] == bytes_of["AdamW"] == 28
    assert all(row["percent_of_ceiling"] > 0 for row in rows)


def test_measure_update_refuses_what_it_cannot_measure():
    from handmill import _core

    with pytest.raises(ValueError, match=r"count must be 1 \.\. 3, got 4"):
        _core.measure_update(4, 1 << 20)
    with pytest.raises(ValueError, match="bytes must be in"):
        _core.measure_update(1, 0)
    assert _core.measure_update(3, 1, threads=1, seconds=0.001) > 0


def test_run_ops_at_every_level(tmp_path):
    report = report_of("run_ops.py", "--only", "exp,matmul,adam_update", cwd=tmp_path)
    assert {row["isa"] for row in report["rows"]} == set(report["isas"])


def test_run_models(tmp_path):
    report = report_of("run_models.py", "--workloads", "tiny", "--profile", cwd=tmp_path)
    (row,) = report["training"]
    assert row["workload"] == "tiny"
    assert row["host_steps"] == 0
    assert row["plan_steps"] == len(row["profile"])
    assert [r["batch"] for r in report["inference"]] == [1, 32, 256]


@pytest.mark.slow
def test_peers_train(tmp_path):
    names = peers("torch", "scikit-learn")
    libraries = ",".join(["handmill", *names])
    report = report_of(
        "peers.py", "--workloads", "tiny", "--libraries", libraries, "--isa", "portable",
        cwd=tmp_path,
    )  # fmt: skip
    rows = report["rows"]["tiny"]
    assert list(rows) == ["handmill", *names]
    ours = rows["handmill"]["check"]
    for name in names:  # equal weights at the start, as many steps: about the same loss
        assert rows[name]["check"] == pytest.approx(ours, rel=0.02), name
    if importlib.util.find_spec("matplotlib") is not None:
        run_script("chart.py", tmp_path / "report.json", tmp_path / "chart.png", cwd=tmp_path)
        assert (tmp_path / "chart.png").stat().st_size > 1000


@pytest.mark.slow
def test_peers_inference(tmp_path):
    names = peers("onnxruntime") if peers("onnx") else []
    libraries = ",".join(["handmill", "handmill predict", *names])
    report = report_of(
        "peers.py", "--kind", "inference", "--workloads", "tiny", "--libraries", libraries,
        cwd=tmp_path,
    )  # fmt: skip
    assert set(report["rows"]) == {f"tiny, batch {b}" for b in (1, 32, 256)}
    for rows in report["rows"].values():  # equal weights: equal outputs
        checks = [row["check"] for row in rows.values()]
        assert checks == pytest.approx([checks[0]] * len(checks), rel=1e-5)


@pytest.mark.slow
def test_overheads(tmp_path):
    report = report_of("overheads.py", cwd=tmp_path)
    assert len(report["rows"]) >= 7


def test_run_images_starts(tmp_path):
    run_script("run_images.py", "--help", cwd=tmp_path)
