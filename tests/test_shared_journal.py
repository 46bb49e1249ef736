"""Searches by several processes over one folder: nothing twice, nothing lost, one table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import handmill
from handmill.strategy import shared_journal
from handmill.strategy.journal import Journal
from handmill.strategy.shared_journal import SharedJournal
from processes import environment

SCRIPT = """
import json, os, sys, time
import numpy as np
import handmill
from handmill import layers
from handmill.strategy import lanes

rng = np.random.default_rng(0)
X, Y = rng.random((60, 4), dtype=np.float32), rng.integers(0, 3, 60)

def build(units, rate):
    model = handmill.Sequential([
        handmill.Input((4,)), layers.Dense(units, "relu"), layers.Dense(3, "softmax")])
    model.compile(handmill.optimizers.Adam(rate), "sparse_categorical_crossentropy", ["accuracy"])
    return model

trained = []
advance = lanes.Lanes.advance

def counted(self, epochs, chosen=None, last=False):
    advance(self, epochs, chosen, last)
    trained.extend((lane.configuration, lane.seed, epochs) for lane in chosen)
    if WAIT:
        open(sys.argv[2] + ".begun", "w").close()
        time.sleep(WAIT)

lanes.Lanes.advance = counted
"""

SEARCH = """
runs = handmill.try_all(build, {"units": [2, 4, 8], "rate": [0.01, 0.1]}, X, Y, seeds=4, epochs=2,
                        validation_split=0.25, journal=sys.argv[1])
print(json.dumps([str(runs), trained, runs.scores("val_accuracy").tolist()]))
"""

TUNE = """
from handmill.strategy import Int, Float
found = handmill.tune(build, {"units": Int(2, 8), "rate": Float(0.01, 0.1, log=True)}, X, Y,
                      trials=9, epochs=4, finalists=2, seeds=2, journal=sys.argv[1])
print(json.dumps([str(found.best), trained, found.runs.scores("loss").tolist()]))
"""


def start(folder: Path, body: str, wait: float = 0.0, name: str = "a") -> subprocess.Popen[str]:
    command = (sys.executable, "-c", f"WAIT = {wait}\n{SCRIPT}{body}", str(folder) + "/")
    return subprocess.Popen(
        (*command, str(folder.parent / name)),
        env=environment(HANDMILL_NUM_THREADS="1", PYTHONWARNINGS="ignore"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(process: subprocess.Popen[str]) -> list:
    said, problems = process.communicate(timeout=120)
    assert process.returncode == 0, problems
    return json.loads(said.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(("body", "most"), ((SEARCH, 24), (TUNE, None)))
def test_two_processes_share_a_search(body: str, most: int | None, tmp_path: Path) -> None:
    alone = result(start(tmp_path / "one", body))
    both = [start(tmp_path / "two", body, 0.02, name) for name in "ab"]
    first, second = map(result, both)
    assert first[0] == second[0] == alone[0]
    assert first[2] == second[2] == alone[2]
    made = [tuple(t) for t in (*first[1], *second[1])]
    assert len(set(made)) == len(made)
    if most is not None:
        assert len(made) == most
    assert not list((tmp_path / "two" / "claims").iterdir())
    again = result(start(tmp_path / "two", body))
    assert (again[0], again[1]) == (alone[0], [])


@pytest.mark.slow
def test_what_a_killed_process_had_claimed_is_taken_over(tmp_path: Path) -> None:
    alone = result(start(tmp_path / "one", SEARCH))
    killed = start(tmp_path / "two", SEARCH, 60.0, "killed")
    while not (tmp_path / "killed.begun").exists():
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    assert len([p for p in (tmp_path / "two" / "claims").iterdir() if p.name[0] != "."]) == 8
    found = result(start(tmp_path / "two", SEARCH))
    assert found[0] == alone[0]
    assert len(found[1]) == 24


def test_a_silent_claim_of_another_machine_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SharedJournal(tmp_path, {}, None) as book:
        path = tmp_path / "claims" / "x"
        path.write_text(json.dumps(["elsewhere", 1]))
        assert not book._is_abandoned(path)
        past = time.time() - shared_journal.SILENT - 5
        os.utime(path, (past, past))
        assert book._is_abandoned(path)
        assert book._take(path)
        assert json.loads(path.read_text())[1] == os.getpid()
        assert not book._take(tmp_path / "claims" / "gone")
    assert not list(tmp_path.glob("*.jsonl"))  # nothing was trained


def test_folders_of_something_else_are_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "other.jsonl", {"a": 1}, np.zeros(3)):
        pass
    with pytest.raises(ValueError, match=r"other.jsonl was written with other data"):
        SharedJournal(tmp_path, {"a": 1}, np.ones(3))
    (tmp_path / "other.jsonl").write_text("hello\n")
    with pytest.raises(ValueError, match=r"other.jsonl is not a journal of handmill"):
        SharedJournal(tmp_path, {"a": 1}, np.ones(3))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["claims", "other.jsonl"]


def test_lines_that_are_being_written_are_read_when_they_are_whole(tmp_path: Path) -> None:
    lane = handmill.strategy.runs.Lane(0, seed=1, history={"loss": [0.5]})
    with SharedJournal(tmp_path, {}, None) as one, SharedJournal(tmp_path, {}, None) as other:
        one.add({"units": 3}, lane, {})
        content = one.path.read_bytes()
        torn = tmp_path / "torn.jsonl"
        torn.write_bytes(content.replace(b'"units": 3', b'"units": 4')[:-9])
        other.refresh()
        assert other.find({"units": 3}, 1, 1) is not None
        assert other.find({"units": 4}, 1, 1) is None
        torn.write_bytes(content.replace(b'"units": 3', b'"units": 4'))
        other.refresh()
        assert other.find({"units": 4}, 1, 1) is not None
