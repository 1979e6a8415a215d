"""`edco-rl benchmark --runner ray` on a cluster of two workers."""

import os
import signal

import pytest

from edco_rl.cli import main
from edco_rl.runs.recorder import read_records
from edco_rl.store import load

from .test_matrix import StopsOnce, recipe  # noqa: F401 (a fixture)

pytestmark = pytest.mark.slow
RAY = ["--runner", "ray", "--ray_workers", "2"]


class Dying(StopsOnce):
    """Random prompts; kills its process at the eighth batch, unless that was done before."""

    def stop(self):
        os.kill(os.getpid(), signal.SIGKILL)


def learned(folder, name):
    """What a cell drew, and measured, at each step."""
    lines = read_records(folder / "cells" / name / "records.jsonl")
    names = ("kind", "step", "prompts", "values", "right", "tokens")
    return [{name: line.get(name) for name in names} for line in lines if line["kind"] in ("step", "evaluation")]


def test_cells_are_those_of_one_process_and_one_that_is_killed_goes_on(recipe, ray_of_two, tmp_path, capsys):  # noqa: F811
    flag = tmp_path / "died"
    settings = {"save_strategy": "steps", "save_steps": 3}
    changes = {"methods": {"sft": {}}, "budget": 10, "seeds": [1, 2], "evaluate_every": 4, "settings": settings}
    for name, kwargs, more in (("alone", {}, []), ("spread", {"flag": str(flag)}, RAY)):
        curricula = {"random": {"strategy": f"{__name__}:Dying", "strategy_kwargs": kwargs}}
        matrix = recipe(curricula=curricula, output_dir=str(tmp_path / name), **changes)
        main(["benchmark", "--config", str(matrix), *more])
    output = capsys.readouterr().out
    assert flag.exists() and "2 of 2 cells have ended" in output and output.count("2 of 2 cells are done.") == 2
    for cell in ("chain_sum_sft_random_1", "chain_sum_sft_random_2"):
        assert load(tmp_path / "spread" / "cells" / cell / "cell").value["status"] == "done"
        assert not list((tmp_path / "spread" / "cells" / cell).glob("checkpoint-*"))
        assert learned(tmp_path / "spread", cell) == learned(tmp_path / "alone", cell)
        assert len(learned(tmp_path / "spread", cell)) == 10 + 4


def test_cells_alike_share_their_start_and_one_that_dies_too_often_has_failed(recipe, ray_of_two, tmp_path, capsys):  # noqa: F811
    settings = {"held_out_samples": 7, "held_out_temperature": 1.0}
    curricula = {
        "random": {},
        "length": {},
        "dying": {"strategy": f"{__name__}:Dying", "strategy_kwargs": {"flag": str(tmp_path / "died")}},
    }
    matrix = recipe(methods={"sft": {}}, curricula=curricula, budget=10, evaluate_every=10, settings=settings)
    with pytest.raises(SystemExit) as error:
        main(["benchmark", "--config", str(matrix), *RAY, "--ray_max_restarts", "0"])
    assert error.value.code == 1 and "1 of 3 cells failed" in capsys.readouterr().err
    cells = tmp_path / "matrix" / "cells"
    random, length, dying = (cells / f"chain_sum_sft_{name}_1" for name in curricula)
    assert "WorkerLostError" in (dying / "error.txt").read_text()
    assert load(dying / "cell").value["status"] == "failed"
    first, second = (
        next(line for line in read_records(cell / "records.jsonl") if line["kind"] == "evaluation")
        for cell in (random, length)
    )
    assert first["step"] == 0 and first == second
    one, other = sorted((load(cell / "cell").value for cell in (random, length)), key=lambda value: value["began"])
    assert one["ended"] <= other["began"]
