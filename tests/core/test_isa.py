"""Levels of the instruction set: choosing one, asking for one that is missing."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from core_programs import node, program, random

from handmill import _core


def run_python(code, **environment):
    full = {k: v for k, v in os.environ.items() if not k.startswith(("HANDMILL_", "OMP_"))}
    full["PYTHONPATH"] = os.pathsep.join(sys.path)
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**full, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_levels():
    levels = _core.available_isas()
    assert levels[0] == "portable"
    assert _core.isa() in levels


LEVELS = {"x86_64": ("avx2", "avx512", "avx512_bf16"), "AMD64": ("avx2", "avx512", "avx512_bf16")}


@pytest.mark.parametrize("level", ("portable", *LEVELS.get(platform.machine(), ())))
def test_kernels_of_the_level_are_tested_here(level):
    """Tests run at the levels that this CPU has; this one says in the report which it has not."""
    if level not in _core.available_isas():
        pytest.skip(f"this CPU has no {level}: no kernel of that level is tested")
    before = _core.isa()
    try:
        _core.set_isa(level)
        made = program([(8, 8)] * 3, [node("matmul", (0, 1), (2,))], inputs=[0, 1], outputs=[2])
        assert {row["isa"] for row in made.specialize(1).summary()} == {level}
    finally:
        _core.set_isa(before)


@pytest.mark.parametrize("level", _core.available_isas())
def test_the_environment_forces_a_level(level):
    done = run_python("from handmill import _core; print(_core.isa())", HANDMILL_ISA=level)
    assert (done.stdout.strip(), done.stderr) == (level, "")


def test_a_missing_level_is_an_error_that_lists_the_others():
    code = "from handmill import _core\ntry: _core.isa()\nexcept RuntimeError as e: print(e)"
    done = run_python(code, HANDMILL_ISA="avx1024")
    assert 'no instruction-set level "avx1024" here; available: portable' in done.stdout
    with pytest.raises(RuntimeError, match=r"available: portable"):
        _core.set_isa("neon")
    made = program([(2,)], inputs=[0])
    with pytest.raises(RuntimeError, match=r"available: portable"):
        made.specialize(1, isa="sse9")


def test_the_level_counts_when_a_plan_is_made():
    made = program([(8, 8)] * 3, [node("matmul", (0, 1), (2,))], inputs=[0, 1], outputs=[2])
    before = _core.isa()
    x = random(8, 8)
    try:
        for level in _core.available_isas():
            _core.set_isa(level)
            plan = made.specialize(1)
            _core.set_isa(before)
            assert plan.isa == level
            assert {row["isa"] for row in plan.summary()} == {level}
            np.testing.assert_allclose(plan(x, x), x @ x, rtol=1e-4, atol=1e-5)
    finally:
        _core.set_isa(before)


def test_tables_are_whole():
    assert len(set(_core.kernels())) == len(_core.kernels())
    assert len(set(_core.lowering_rules())) == len(_core.lowering_rules())
    assert list(_core.tile_opcodes().values()) == list(range(len(_core.tile_opcodes())))
