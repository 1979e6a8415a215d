"""`edco-rl score --runner ray` on a cluster of two workers: the file of one process, whatever is killed."""

import functools
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import psutil
import pytest
from transformers import AutoTokenizer

from edco_rl.cli import main
from edco_rl.config import EstimatorConfig, RunnerConfig
from edco_rl.data.tokens import RowTokenizer
from edco_rl.errors import ConfigurationError
from edco_rl.runs.ray_cluster import WorkerLostError
from edco_rl.runs.score_on_ray import Scoring, score_rows_on_ray, scoring_workers
from edco_rl.scoring import RowScorer
from edco_rl.scoring.job import score_rows
from edco_rl.store import Parts
from tests.benchmarks.stand_in import StandInEngine

from .test_score import arguments, rows  # noqa: F401 (a fixture)

pytestmark = pytest.mark.slow


class DyingEngine(StandInEngine):
    """Kills its process at its third part, once, unless there is no file to count the parts with."""

    def __init__(self, counted=None):
        self.counted = counted

    def generate(self, prompts, sampling):
        if self.counted is not None:
            with self.counted.open("ab") as file:
                file.write(b".")
            if self.counted.stat().st_size == 3:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().generate(prompts, sampling)

    def max_model_len(self):
        return 200


@contextmanager
def opening(model, counted, number):
    tokenizer = RowTokenizer(AutoTokenizer.from_pretrained(model))
    scorer = RowScorer(tokenizer, EstimatorConfig(scoring_prefix_tokens=2))
    yield Scoring(scorer, DyingEngine(counted), "1")


def questions(count):
    for number in range(count):
        yield {"id": f"r{number}", "prompt": f"{number} + {number * number} ="}


def on_ray(path, source, model, counted=None, **settings):
    reports = []
    with Parts(path, {}) as parts:
        opened = functools.partial(opening, model, counted)
        with scoring_workers(opened, RunnerConfig(runner="ray", **settings)) as workers:
            score_rows_on_ray(source, workers, parts, part_prompts=7, report=reports.append)
        parts.merge()
    return reports


def here(path, source, model):
    with Parts(path, {}) as parts, opening(model, None, 0) as opened:
        reports = []
        options = {"policy_version": "1", "part_prompts": 7, "in_flight": 1, "report": reports.append}
        score_rows(source, opened.scorer, opened.backend, parts, **options)
        parts.merge()
    return path.read_bytes(), reports


def test_a_worker_that_is_killed_is_replaced_and_the_file_is_the_same(ray_of_two, tiny_model_path, tmp_path):
    whole, reports = here(tmp_path / "whole", questions(100), tiny_model_path)
    counted = tmp_path / "parts"
    found = on_ray(tmp_path / "spread", questions(100), tiny_model_path, counted)
    assert (tmp_path / "spread").read_bytes() == whole and found == reports
    assert len(reports) == 15 and counted.stat().st_size == 16  # one part was done twice


def test_a_worker_killed_too_often_ends_the_run_and_one_process_goes_on(ray_of_two, tiny_model_path, tmp_path):
    path, counted = tmp_path / "scores", tmp_path / "parts"
    with pytest.raises(WorkerLostError, match="A Ray worker was lost"):
        on_ray(path, questions(100), tiny_model_path, counted, ray_max_restarts=0, ray_workers=1)
    assert len(Parts(path, {})) == 2
    resumed, reports = here(path, questions(100), tiny_model_path)
    assert [report.resumed for report in reports] == [True] * 2 + [False] * 13
    assert resumed == here(tmp_path / "whole", questions(100), tiny_model_path)[0]


def test_a_row_that_is_too_long_is_told_as_it_is_told_in_one_process(ray_of_two, tiny_model_path, tmp_path):
    def broken():
        yield from questions(20)
        yield {"id": "long", "prompt": "1 " * 300}

    def message(run):
        with pytest.raises(ConfigurationError) as error:
            run(broken(), tiny_model_path)
        return str(error.value)

    told = message(functools.partial(on_ray, tmp_path / "spread"))
    assert told == message(functools.partial(here, tmp_path / "whole")) and "row 'long'" in told


def test_a_run_begun_in_one_process_is_ended_by_two_one_of_which_is_killed(tiny_model_path, rows, tmp_path):  # noqa: F811
    pytest.importorskip("ray")
    whole, broken = tmp_path / "whole.parquet", tmp_path / "broken.parquet"
    main(arguments(tiny_model_path, rows, whole, part_prompts=1))

    def started(until, **settings):
        """A run with so many parts done."""
        command = [sys.executable, "-m", "edco_rl", *arguments(tiny_model_path, rows, broken, **settings)]
        process = subprocess.Popen([*command, "--part_prompts", "1"], stderr=subprocess.PIPE, text=True)
        while process.poll() is None and not (tmp_path / f"broken.parquet.parts/part-{until:07d}.parquet").exists():
            time.sleep(0.005)
        return process

    local = started(until=2)
    local.kill()
    local.communicate()
    spread = started(until=20, runner="ray", ray_workers=2)
    workers = [it for it in psutil.Process(spread.pid).children(recursive=True) if "ray::_Worker" in it.name()]
    workers[0].kill()
    _, log = spread.communicate()
    assert spread.returncode == 0, log
    assert len(workers) == 2 and whole.read_bytes() == broken.read_bytes() and "160/160" in log
