"""Processes that end with those that started them, where they belong to a server started here."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from edco_rl.engine.processes import SERVER_VARIABLE, session_of, shared_memory_of

FAMILY = """
import multiprocessing
import time
from multiprocessing.shared_memory import SharedMemory

from edco_rl.engine.processes import die_with_server


def work():
    die_with_server()
    memory = SharedMemory(create=True, size=100)
    print("works", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=work).start()
    time.sleep(600)
"""


@pytest.mark.parametrize("started_here", [True, False])
def test_a_servers_own_processes_end_with_it_and_leave_no_shared_memory(tmp_path, started_here):
    (tmp_path / "family.py").write_text(FAMILY)
    environment = {**os.environ, **({SERVER_VARIABLE: "1"} if started_here else {})}
    command = [sys.executable, str(tmp_path / "family.py")]
    leader = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True, cwd=os.getcwd()
    )
    try:
        assert leader.stdout.readline() == "works\n"
        [memory] = shared_memory_of(session_of(leader.pid))
        leader.kill()
        leader.wait()
        deadline = time.monotonic() + (20.0 if started_here else 0.5)
        while (left := session_of(leader.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert bool(left) is not started_here and memory.exists() is not started_here
    finally:
        for process in session_of(leader.pid):
            if "resource_tracker" not in " ".join(process.cmdline()):
                process.kill()
        psutil.wait_procs(session_of(leader.pid), timeout=10)
