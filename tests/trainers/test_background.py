"""Work beside the trainer's thread."""

import threading
from contextlib import contextmanager

import pytest

from edco_rl.trainers.background import Background


def test_pieces_of_work_follow_each_other_and_raise_where_their_result_is_asked_for():
    waited, order, go = [], [], threading.Event()

    @contextmanager
    def timer(part):
        waited.append(part)
        go.set()
        yield

    background = Background(timer)

    def first():
        assert go.wait(10)
        order.append("first")
        raise LookupError("nothing there")

    one = background.begin("rollout", first)
    two = background.begin("scoring", lambda: order.append("second") or threading.current_thread())
    assert order == []
    background.idle()  # raises nothing, and lets the first go on
    assert order == ["first", "second"] and waited[0] == "rollout"
    with pytest.raises(LookupError, match="nothing there"):
        background.result(one)
    assert background.result(two) is not threading.main_thread() and background.result(two).daemon
