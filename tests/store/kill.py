"""Kills a process at a chosen one of its steps on the file system."""

import os
import sys
import traceback

STEPS = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir"}
_KILLED, _FAILED = 9, 1


def killed_at(step, work):
    """Do some work in a child that ends, like one that is killed, just before its `step`-th step; whether it did."""
    child = os.fork()
    if child == 0:
        steps = 0

        def count(event, arguments):
            nonlocal steps
            steps += event in STEPS
            if steps > step:
                os._exit(_KILLED)

        try:
            sys.addaudithook(count)
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(_FAILED)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, _KILLED)
    return code == _KILLED


def in_processes(works):
    """Do several works, each in a process of its own, at the same time."""
    children = []
    for work in works:
        children.append(os.fork())
        if children[-1] == 0:
            try:
                work()
            except BaseException:
                traceback.print_exc()
                os._exit(_FAILED)
            os._exit(0)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * len(children)
