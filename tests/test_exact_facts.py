"""What the plans of the benchmark models hold, exactly: a regression fails without a timer.

The facts are in exact_facts.json. After a change that is meant to move them:

    PYTHONPATH=python python tests/test_exact_facts.py

writes them anew for the levels of this CPU; the diff of the file belongs into the commit, and what
rose needs a reason in its message.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from levels import levels

_core = pytest.importorskip("handmill._core", reason="a build without kernels")

from handmill.inspection.benchmarks.handmill_jobs import make_model  # noqa: E402
from handmill.inspection.benchmarks.workloads import WORKLOADS  # noqa: E402
from handmill.ir.lower import describe  # noqa: E402

BENCH = Path(__file__).resolve().parents[1] / "bench"
FILE = Path(__file__).with_name("exact_facts.json")
BATCHES = (1, 32, 256)
TUNING = "zen4"
# Steps so short that fit returns to Python, and allocates there, about once an epoch only.
COUNTED = ("tiny", "gelu-rmsprop", "elu-adagrad", "tanh-adam")
KINDS = ("train", *(f"predict {batch}" for batch in BATCHES))


def function_and_arrays(workload: str, kind: str) -> tuple[Any, list[Any]]:
    """The program of a training step or of a prediction, and a batch for it."""
    w = WORKLOADS[workload]
    model = make_model(w)
    if kind == "train":
        arrays = [a[: w.batch] for a in w.data()]
    else:
        arrays = [w.inputs(int(kind.split()[1]))]
    return model.step_to_compare(*arrays)[0], arrays


def facts_of_graph(workload: str, kind: str) -> dict[str, Any]:
    """The work of making a plan: what is traced, and what the passes leave."""
    function, arrays = function_and_arrays(workload, kind)
    signature = function.signature(function.specs_of(arrays))
    graph = signature.optimized
    arguments, _ = describe(graph, _core.tile_opcodes(), False)
    return {
        "traced nodes": len(signature.traced.nodes),
        "nodes": len(graph.nodes),
        "values": len(arguments["values"]),
        "constants": len(arguments["constants"]),
    }


def facts_of_plan(workload: str, kind: str, isa: str) -> dict[str, Any]:
    """What a run of the plan does at a level, by one tuning whatever the CPU."""
    function, arrays = function_and_arrays(workload, kind)
    before = _core.isa(), _core.tuning()
    threads = _core.num_threads()
    _core.set_isa(isa)
    _core.set_tuning(TUNING)
    _core.set_num_threads(2)
    try:
        plan = function.plan(*arrays)
    finally:
        _core.set_num_threads(threads)
        _core.set_isa(before[0])
        _core.set_tuning(before[1])
    steps = plan.summary()
    run = [s for s in steps if not s["cached"]]
    products = [s for s in run if s["kernel"].startswith("matmul")]
    return {
        "steps": len(run),
        "cached steps": len(steps) - len(run),
        "host nodes": sum(s["host"] for s in steps),
        "barriers": sum(s["barrier"] for s in run),
        "blocks": sum(s["blocks"] for s in run),
        "flops": int(sum(s["flops"] for s in run)),
        "flops of products": int(sum(s["flops"] for s in products)),
        "bytes read": int(sum(s["bytes_read"] for s in run)),
        "bytes written": int(sum(s["bytes_written"] for s in run)),
        "arena bytes": plan.arena_bytes,
        "plan bytes": plan.nbytes,
    }


def allocations() -> dict[str, dict[str, float]] | None:
    """Calls of malloc in a step of ``fit`` and in the making of a plan; None where unknown."""
    if not BENCH.is_dir():
        return None
    sys.path.insert(0, str(BENCH))
    try:
        from allocations import count_allocations
    finally:
        sys.path.remove(str(BENCH))
    return count_allocations(COUNTED)


def differences(known: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """A line for each fact that is not what the file says."""
    return [
        f"{name}: {known.get(name)} -> {found.get(name)}"
        for name in dict.fromkeys([*known, *found])
        if known.get(name) != found.get(name)
    ]


def check(found: dict[str, Any], *path: str) -> None:
    """Fails with the facts that changed."""
    known: Any = json.loads(FILE.read_text())
    for part in path:
        known = known.get(part, {})
    changed = differences(known, found)
    assert not changed, (
        f"{', '.join(path)}: {'; '.join(changed)}. If that is meant: "
        "PYTHONPATH=python python tests/test_exact_facts.py, and commit tests/exact_facts.json"
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("workload", list(WORKLOADS))
def test_graph(workload, kind):
    check(facts_of_graph(workload, kind), workload, kind, "graph")


@pytest.mark.slow
@pytest.mark.parametrize("isa", levels())
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("workload", list(WORKLOADS))
def test_plan(workload, kind, isa):
    found = facts_of_plan(workload, kind, isa)
    assert found["host nodes"] == 0
    check(found, workload, kind, isa)


def test_allocations():
    """A step makes none; those of a plan, which depend on the C++ library, grow by 5 % at most."""
    found = allocations()
    if found is None:
        pytest.skip("counting needs Linux, a C compiler and bench/")
    known = json.loads(FILE.read_text())["allocations of a plan"]
    for workload, counts in found.items():
        assert counts["step"] < 0.05, f"{workload}: {counts['step']} allocations a step"
        assert counts["plan"] <= 1.05 * known[workload], (
            f"{workload}: allocations of a plan: {known[workload]} -> {counts['plan']}"
        )


@pytest.mark.parametrize("workload", list(WORKLOADS))
def test_products_are_computed_once(workload):
    """The operations follow from the units, whatever the file says."""
    w = WORKLOADS[workload]
    # Updates may happen inside the products of gradients: 14 operations a parameter at most.
    updates = 14 * sum(k * n for k, n in w.layers)
    found = json.loads(FILE.read_text())[workload]["train"]
    for isa in _core.available_isas():
        products = found[isa]["flops of products"]
        assert w.train_flops <= products <= 1.02 * w.train_flops + updates, isa


def test_differences_name_the_fact():
    assert differences({"steps": 3, "barriers": 1}, {"steps": 4, "barriers": 1}) == [
        "steps: 3 -> 4"
    ]
    assert differences({"steps": 3}, {}) == ["steps: 3 -> None"]


def main() -> None:
    """Writes the facts of this build; those of levels that this CPU lacks are kept."""
    warnings.simplefilter("ignore")
    facts = json.loads(FILE.read_text()) if FILE.exists() else {}
    for workload in WORKLOADS:
        for kind in KINDS:
            entry = facts.setdefault(workload, {}).setdefault(kind, {})
            made = {"graph": facts_of_graph(workload, kind)}
            for isa in _core.available_isas():
                made[isa] = facts_of_plan(workload, kind, isa)
            for part, found in made.items():
                for line in differences(entry[part], found) if part in entry else ():
                    sys.stdout.write(f"{workload}, {kind}, {part}: {line}\n")
                entry[part] = found
    counted = allocations()
    if counted is not None:
        facts["allocations of a plan"] = {name: int(c["plan"]) for name, c in counted.items()}
    FILE.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
