"""Threads: equal bits for any number of them, forks, several callers, quotas."""

import json
import math
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from core_programs import F32, Training, equal, node, program, random, state, tile

from handmill import _core

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(not _core.openmp, reason="this build has no threads"),
]


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = _core.num_threads()
    yield
    _core.set_num_threads(before)


@pytest.mark.parametrize("isa", _core.available_isas())
def test_the_number_of_threads_changes_no_bit(isa):
    training = Training()
    training.plan = training.program.specialize(96, isa=isa)
    assert sum(row["blocks"] > 1 for row in training.plan.summary()) >= 5
    results = []
    for threads in (1, 2, 3, 7):
        _core.set_num_threads(threads)
        assert training.plan.call_threads == threads
        results.append(training.run())
    assert all(equal(results[0], other) for other in results[1:])
    assert np.isfinite(results[0][0]).all()


def call_threads_of_a_product(extent):
    square = (extent, extent)
    nodes = [node("matmul", (0, 1), (2,))]
    return program([square] * 3, nodes, inputs=[0, 1], outputs=[2]).specialize(1).call_threads


def test_a_call_that_is_shorter_than_its_region_stays_on_one_thread():
    """65^3 with two threads took 1.5 times as long, 128^3 three quarters (core/tuning.cpp)."""
    _core.set_num_threads(2)
    assert [call_threads_of_a_product(extent) for extent in (33, 65, 128, 512)] == [1, 1, 2, 2]
    _core.set_num_threads(1)
    assert call_threads_of_a_product(512) == 1


def test_a_step_of_its_own_needs_more_work_than_a_call():
    """What it updates was last in the caches of both threads."""
    _core.set_num_threads(2)
    found = [Training(batch).program.specialize(batch).call_threads for batch in (20, 96)]
    assert found == [1, 2]


def test_a_fed_run_equals_single_calls():
    training = Training()
    wanted = training.run(steps=5)
    data = np.concatenate([training.x] * 5)
    for threads in (1, 2, 5):
        _core.set_num_threads(threads)
        for s, array in zip(training.states, training.initial, strict=True):
            s.write(array)
        feed = _core.Feed([data])
        assert training.plan.run_fed(feed, 99, 60.0) == (5, 0, ())
        assert equal(wanted[1:], [s.copy() for s in training.states])


def test_number_of_threads():
    _core.set_num_threads(5)
    assert _core.num_threads() == 5
    assert _core.thread_reason() == "set_num_threads"
    for bad in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            _core.set_num_threads(bad)


def python(code, timeout=60, **environment):
    full = {k: v for k, v in os.environ.items() if not k.startswith(("HANDMILL_", "OMP_"))}
    full["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**full, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SHOW = "from handmill import _core; print(_core.num_threads(), _core.thread_reason())"


@pytest.mark.parametrize(
    ("environment", "shown"),
    (
        ({"HANDMILL_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, "3 HANDMILL_NUM_THREADS"),
        ({"OMP_NUM_THREADS": "5,2"}, "5 OMP_NUM_THREADS"),
        ({"HANDMILL_NUM_THREADS": "", "OMP_NUM_THREADS": "4"}, "4 OMP_NUM_THREADS"),
    ),
)
def test_environment(environment, shown):
    assert python(SHOW, **environment) == shown


@pytest.mark.parametrize("text", ("many", "0", "-1", "2.5", "1e3", "3 ", "99999999999"))
def test_a_number_of_threads_that_is_none_is_an_error(text):
    code = "from handmill import _core\ntry: _core.num_threads()\nexcept ValueError as e: print(e)"
    shown = python(code, HANDMILL_NUM_THREADS=text)
    assert shown == f'HANDMILL_NUM_THREADS must be a positive number of threads, got "{text}"'


def test_threads_bound_by_openmp_count_all_cpus():
    assert python(SHOW, OMP_PROC_BIND="true").split()[0] == python(SHOW).split()[0]


def test_affinity():
    cpus = len(os.sched_getaffinity(0))
    assert int(python(SHOW).split()[0]) <= cpus
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n" + SHOW
    assert python(code).startswith("1 ")


# --- Control groups ------------------------------------------------------------------------------


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_quota_of_version_2(tmp_path):
    root, groups = str(tmp_path), tmp_path / "sys/fs/cgroup"
    assert _core.cgroup_quota(root) == 0
    write(tmp_path / "proc/self/cgroup", "0::/a/b\n")
    assert _core.cgroup_quota(root) == 0
    write(groups / "a/b/cpu.max", "max 100000\n")
    assert _core.cgroup_quota(root) == 0
    write(groups / "a/cpu.max", "250000 100000\n")
    assert _core.cgroup_quota(root) == 2.5
    write(groups / "a/b/cpu.max", "50000 100000\n")
    assert _core.cgroup_quota(root) == 0.5
    write(groups / "a/b/cpu.max", "800000 100000\n")
    assert _core.cgroup_quota(root) == 2.5
    write(groups / "cpu.max", "100000 100000\n")  # inside a container the mount is the group
    assert _core.cgroup_quota(root) == 1


def test_quota_of_version_1(tmp_path):
    root, groups = str(tmp_path), tmp_path / "sys/fs/cgroup"
    lines = "12:memory:/x\n4:cpu,cpuacct:/docker/1\n3:cpuset:/y\n0::/\n"
    write(tmp_path / "proc/self/cgroup", lines)
    assert _core.cgroup_quota(root) == 0
    write(groups / "cpu/docker/1/cpu.cfs_quota_us", "-1\n")
    write(groups / "cpu/docker/1/cpu.cfs_period_us", "100000\n")
    assert _core.cgroup_quota(root) == 0
    write(groups / "cpu/docker/cpu.cfs_quota_us", "300000\n")
    write(groups / "cpu/docker/cpu.cfs_period_us", "100000\n")
    assert _core.cgroup_quota(root) == 3
    # mounted under the names of both controllers only, the path not visible
    write(tmp_path / "proc/self/cgroup", "4:cpuacct,cpu:/docker/2\n")
    write(groups / "cpu/docker/cpu.cfs_quota_us", "-1\n")
    write(groups / "cpuacct,cpu/cpu.cfs_quota_us", "150000\n")
    write(groups / "cpuacct,cpu/cpu.cfs_period_us", "100000\n")
    assert _core.cgroup_quota(root) == 1.5


@pytest.mark.parametrize(
    "text",
    (
        "",
        "\n",
        "::::\n",
        "0:",
        "0::/../../x\n",
        "garbage",
        "0::relative\n",
        "4:cpu\n",
        "0::/a\x00b\n",
    ),
)
@pytest.mark.parametrize("limit", ("", "x y", "100000", "1 0", "-5 100000", "1e99 1"))
def test_strange_files(tmp_path, text, limit):
    write(tmp_path / "proc/self/cgroup", text)
    write(tmp_path / "sys/fs/cgroup/cpu.max", limit)
    assert _core.cgroup_quota(str(tmp_path)) in (0, 1e99)


# --- Forks ---------------------------------------------------------------------------------------


def run_in_child(training, wanted):
    """Forks and runs a step in the child; 0 if the bits are the same."""
    pid = os.fork()
    if pid == 0:
        status = 3
        try:
            status = 0 if equal(training.run(), wanted) else 4
        finally:
            os._exit(status)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return "hung"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
class TestFork:
    def test_from_the_thread_that_ran(self):
        _core.set_num_threads(3)
        training = Training()
        wanted = training.run()
        for _ in range(5):
            assert run_in_child(training, wanted) == 0
            assert equal(training.run(), wanted)

    def test_before_anything_ran(self):
        code = (
            "import os\nfrom core_programs import *\nfrom handmill import _core\n"
            "_core.set_num_threads(3)\nt = Training()\n"
            "pid = os.fork()\nresult = t.run()\n"
            "if pid == 0: os._exit(0)\nprint(os.waitpid(pid, 0)[1])"
        )
        assert python(code) == "0"

    def test_from_another_thread(self):
        _core.set_num_threads(3)
        training = Training()
        wanted = training.run()
        results = []
        thread = threading.Thread(target=lambda: results.append(run_in_child(training, wanted)))
        thread.start()
        thread.join()
        assert results == [0]
        assert equal(training.run(), wanted)

    def test_while_another_thread_runs(self):
        _core.set_num_threads(3)
        training, other = Training(), Training()
        wanted = training.run()
        stop = threading.Event()

        def loop():
            feed = _core.Feed([np.concatenate([other.x] * 50)])
            while not stop.is_set():
                feed.position = 0
                other.plan.run_fed(feed, 50, 0.01)

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            for _ in range(20):
                assert run_in_child(training, wanted) == 0
        finally:
            stop.set()
            thread.join()

    def test_pools_of_processes(self):
        _core.set_num_threads(2)
        training = Training()
        wanted = training.run()
        with multiprocessing.get_context("fork").Pool(2) as pool:
            for name, size in pool.map(_train_in_pool, range(4)):
                assert (name, size) == ("ok", len(wanted))
        assert equal(training.run(), wanted)


def _train_in_pool(_):
    return "ok", len(Training().run(3))


# --- Several callers -----------------------------------------------------------------------------


def test_two_threads_train_at_once():
    _core.set_num_threads(2)
    trainings = [Training() for _ in range(3)]
    wanted = trainings[0].run(50)
    results = [None] * 3

    def run(i):
        results[i] = trainings[i].run(50)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(equal(wanted, r) for r in results)


def test_many_threads_predict_with_one_plan():
    _core.set_num_threads(2)
    w, x = random(200, 200), random(64, 200, seed=1)
    made = program(
        [(200, 200), (-1, 200), (-1, 200), (-1, 200)],
        [node("matmul", (1, 0), (2,)), node("matmul", (2, 0), (3,), activation="relu")],
        inputs=[1],
        outputs=[3],
        variables=[(0, state(w))],
    )
    plan = made.specialize(64)
    wanted = {i: plan(x * np.float32(i)).tobytes() for i in range(64)}
    wrong = []

    def run(i):
        scaled = x * np.float32(i)
        for _ in range(20):
            if plan(scaled).tobytes() != wanted[i]:
                wrong.append(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_threads_come_and_go():
    """Each caller that had the team leaves; later ones still get it."""
    _core.set_num_threads(2)
    training = Training()
    wanted = training.run(3)
    results = []
    for _ in range(20):
        thread = threading.Thread(target=lambda: results.append(training.run(3)))
        thread.start()
        thread.join()
    assert all(equal(wanted, r) for r in results)
    assert threading.active_count() < 20


def test_busy_cores_do_not_stall_a_region():
    """More threads than cores, and the cores busy with others: barriers sleep."""
    burners = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(len(os.sched_getaffinity(0)))
    ]
    try:
        _core.set_num_threads(7)
        training = Training()
        seconds = []
        while len(seconds) < 3 and min(seconds, default=math.inf) >= 20:  # other tenants only add
            begin = time.perf_counter()
            training.run(20)
            seconds.append(time.perf_counter() - begin)
        assert min(seconds) < 20, seconds
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


BUSY = """
import time
from core_programs import *
from handmill import _core
t = Training()
def seconds():
    t.run(1)
    begin = time.perf_counter()
    t.run(150)
    return time.perf_counter() - begin
chosen = seconds()
_core.set_num_threads(1)
print(chosen / seconds())
"""


def test_a_busy_machine_costs_no_more_than_its_share():
    """Where others hold the cores, plans soon run on the caller's thread alone."""
    burners = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(2 * len(os.sched_getaffinity(0)))
    ]
    try:
        ratios = []
        while len(ratios) < 3 and min(ratios, default=math.inf) >= 15:
            ratios.append(float(python(BUSY, timeout=200)))
        assert min(ratios) < 15, ratios  # some 50 in each if threads go on
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def test_denormals_are_left_alone():
    _core.set_num_threads(2)
    Training().run(2)
    tiny = np.full(100_000, np.finfo(np.float32).smallest_subnormal)
    made = program([(-1,), (-1,)], [tile("neg", [0], 1)], inputs=[0], outputs=[1])
    np.testing.assert_array_equal(made.specialize(tiny.size)(tiny), -tiny)
    assert np.float32(2.0) * tiny[0] > 0
    assert F32 == 0


LIMIT = """
import os, resource
from core_programs import *
from handmill import _core
t = Training()
_core.set_num_threads(1)
wanted = t.run()
_core.set_num_threads(4)
threads = len(os.listdir("/proc/self/task"))
soft, hard = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_STACK, (1 << 40, resource.RLIM_INFINITY))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (6 << 20), hard))
result = t.run()
resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
print(equal(result, wanted), len(os.listdir("/proc/self/task")) - threads)
"""


@pytest.mark.address_space
def test_threads_that_cannot_be_made():
    """Address space for no further stack: the caller runs alone and the process lives."""
    assert python(LIMIT) == "True 0"


ROOM = """
import os, resource, time
from core_programs import *
from handmill import _core
t = Training()
for threads in {teams}:
    _core.set_num_threads(threads)
    wanted = t.run()
time.sleep(1.1)
soft, hard = resource.getrlimit(resource.RLIMIT_AS)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + ({room} << 20), hard))
_core.set_num_threads(14)
result = t.run()
resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
print(equal(result, wanted), len(os.listdir("/proc/self/task")))
"""


@pytest.mark.slow
@pytest.mark.address_space
def test_a_team_that_grows_again_looks_for_threads_again():
    """OpenMP ends the threads that a smaller region leaves out, and the next of that size makes
    others. The C library keeps the stacks of five that ended."""
    same, threads = python(ROOM.format(teams=(14, 2), room=6)).split()
    assert same == "True"
    assert 2 <= int(threads) < 14


@pytest.mark.slow
@pytest.mark.address_space
def test_a_team_leaves_room_for_threads_of_others():
    same, threads = python(ROOM.format(teams=(1,), room=170)).split()  # for 20 stacks of 8 MB
    assert same == "True"
    assert int(threads) < 12


# --- When runs go alone (csrc/core/pace.h) --------------------------------------------------------

MS = 1_000_000


def rests(milliseconds, used):
    """How long (ms) runs of two threads would go alone after each, one run following the other.

    ``used``: the processor time that the process had, by what a run of 1 ms took too long.
    """
    runs, time, process = [], 1000 * MS, 0
    for took in milliseconds:
        end = time + int(took * MS)
        process += int((2 + used(took - 1)) * MS)
        runs.append((2, time, end, process))
        time = end
    # In a process of its own: a number of threads that was set, as by this file, is always obeyed.
    found = python(f"from handmill import _core; print(_core.rests_after({runs}))")
    return [rest / MS for rest in json.loads(found)]


QUIET = [1.0] * 10


def test_busy_neighbours_make_runs_go_alone():
    found = rests([*QUIET, 5, 1, 1, 5, 20, 60], lambda lost: 0)
    assert found == [*(0 for _ in QUIET), 0, 0, 0, 120, 480, 500]


def test_one_slow_run_does_not():
    assert not any(rests([*QUIET, 5, *QUIET, 5, *QUIET], lambda lost: 0))


def test_threads_of_this_process_that_spin_do_not():
    """After a product in NumPy every fourth run loses a time slice to a thread of its library."""
    assert not any(rests([*QUIET, *(5, 1, 1, 1) * 20], lambda lost: lost))
    assert not any(rests([*QUIET, *(9, 5, 1, 3) * 20], lambda lost: lost))


def test_threads_of_this_process_that_keep_all_cores_busy_do():
    found = rests([*QUIET, *(5,) * 25], lambda lost: lost)
    assert [rest for rest in found if rest] == [3, 6, 12]
    assert rests([*QUIET, *(5,) * 25, *QUIET, *(5,) * 9], lambda lost: lost)[-1] == 3
