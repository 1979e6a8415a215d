"""SIGTERM and Ctrl-C, of a run in this process: a checkpoint is saved, and the exit code is the conventional one."""

import os
import signal

import pytest
import yaml

from edco_rl.cli import main
from edco_rl.curriculum.orders import Random
from edco_rl.store import check_checkpoint
from edco_rl.trainers.checkpoint import CheckpointMixin
from edco_rl.trainers.stopping import StopSignals


class Asking(Random):
    """Sends signals to its own process while it chooses a batch, as the first process does that is asked to."""

    def __init__(self, context, *, batch, signals):
        super().__init__(context)
        self.left = batch
        self.signals = signals

    def select(self, n):
        self.left -= 1
        if self.left == 0:
            for number in self.signals:
                os.kill(os.getpid(), number)
        return super().select(n)


@pytest.fixture(autouse=True)
def handlers():
    """The process's own handlers, put back afterwards: the command sets one."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where the tests run in the background
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.fixture
def train(tiny_model_path, tmp_path, capfd):
    """Fine-tunes for four steps of one batch each; the exit code and what was printed."""
    base = {
        "model_name_or_path": tiny_model_path,
        "dataset_name": "reasoning_gym:chain_sum",
        "train_prompts": 12,
        "held_out_prompts": 0,
        "output_dir": str(tmp_path / "run"),
        "report_to": "none",
        "max_steps": 4,
        "save_strategy": "no",
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": False,
        "engine_mode": "none",
        "disable_tqdm": True,
        "strategy": f"{__name__}:Asking",
    }

    def run(*signals, batch=3, **changes):
        path = tmp_path / "recipe.yaml"
        kwargs = {"batch": batch, "signals": [int(number) for number in signals]}
        path.write_text(yaml.safe_dump(base | {"strategy_kwargs": kwargs} | changes))
        code = 0
        try:
            main(["train", "sft", "--config", str(path)])
        except SystemExit as stop:
            code = stop.code
        return code, capfd.readouterr().err

    return run


def checkpoints(tmp_path):
    return [path.name for path in (tmp_path / "run").glob("checkpoint-*")]


def test_sigterm_stops_after_the_step_with_a_checkpoint(train, tmp_path):
    code, told = train(signal.SIGTERM)
    assert code == 143 and "SIGTERM: stopping after this optimizer step and a checkpoint" in told
    assert checkpoints(tmp_path) == ["checkpoint-3"] and not (tmp_path / "run" / "summary.json").exists()
    assert check_checkpoint(tmp_path / "run" / "checkpoint-3")["step"] == 3


def test_ctrl_c_does_the_same(train, tmp_path):
    assert train(signal.SIGINT)[0] == 130
    assert checkpoints(tmp_path) == ["checkpoint-3"]


def test_the_option_turns_it_off(train, tmp_path):
    assert train(signal.SIGTERM, enable_jit_checkpoint=False)[0] == 143
    assert not checkpoints(tmp_path)


def test_a_run_whose_checkpoint_fails_stops_nevertheless_and_says_why(train, monkeypatch, caplog):
    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(CheckpointMixin, "_save_checkpoint", fail)
    assert train(signal.SIGTERM)[0] == 143
    assert "not in a checkpoint is lost" in caplog.text and "OSError: No space left on device" in caplog.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_held_back_once_and_then_takes_its_usual_course(number):
    taken = []
    signal.signal(number, lambda *_: taken.append(number))
    with StopSignals(True, lambda: True) as stop:
        assert not stop.asked()
        signal.raise_signal(number)
        assert stop.asked() and not taken
        signal.raise_signal(number)  # a second one
        assert taken == [number]
    with StopSignals(True, lambda: True) as stop:
        signal.raise_signal(number)
        stop.stop()
    with StopSignals(True, lambda: True):  # what trains may end before it looks
        signal.raise_signal(number)
    assert taken == [number] * 3
    with pytest.raises(ValueError, match="broken"), StopSignals(True, lambda: True):  # nor does it get lost
        signal.raise_signal(number)
        raise ValueError("broken")
    assert taken == [number] * 4


def test_a_signal_takes_its_usual_course_where_nothing_is_to_be_saved_or_it_is_turned_off():
    taken = []
    signal.signal(signal.SIGTERM, lambda *_: taken.append("SIGTERM"))
    for settings in ((True, lambda: False), (False, lambda: True)):
        with StopSignals(*settings) as stop:
            signal.raise_signal(signal.SIGTERM)
            assert not stop.asked()
    assert taken == ["SIGTERM"] * 2


def test_what_a_shell_had_ignored_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with StopSignals(True, lambda: True) as stop:
        signal.raise_signal(signal.SIGINT)
        assert not stop.asked()
