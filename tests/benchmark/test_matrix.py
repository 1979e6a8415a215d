"""`edco-rl benchmark`: what the cells of a matrix are, and that they run, stop, go on and fail as they should."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from edco_rl.benchmark.cells import left_out, make_cells
from edco_rl.cli import main
from edco_rl.config import BenchmarkConfig
from edco_rl.curriculum import Strategy
from edco_rl.errors import ConfigurationError
from edco_rl.methods import METHODS
from edco_rl.runs.recorder import read_records
from edco_rl.store import load


def matrix(**changes):
    values = {"methods": ["grpo", "sft"], "curricula": ["random", "edco"], "budget": 5}
    values |= {"settings": {"dataset_name": "reasoning_gym:chain_sum", "learning_rate": 1e-5}}
    return BenchmarkConfig(**values | changes)


def test_a_matrix_has_a_cell_for_each_combination_seed_after_seed():
    cells = make_cells(matrix(seeds=[3, 1], tasks={"a": {}, "b": {"dataset_name": "rows.jsonl"}}))
    assert len(cells) == len({cell.name for cell in cells}) == 2 * 2 * 2 * 2
    assert [cell.seed for cell in cells] == [3] * 8 + [1] * 8
    assert {cell.values["dataset_name"] for cell in cells if cell.task == "b"} == {"rows.jsonl"}
    shards = [make_cells(matrix(seeds=[1, 2, 3]))[number::4] for number in range(4)]
    assert sorted(cell.name for shard in shards for cell in shard) == sorted(
        cell.name for cell in make_cells(matrix(seeds=[1, 2, 3]))
    )


def test_the_closer_setting_wins_and_a_methods_own_counts_for_it_alone():
    [grpo, long, sft] = make_cells(
        matrix(
            methods={"grpo": {"num_generations": 4}, "long": {"method": "grpo", "num_generations": 8}, "sft": {}},
            curricula={"slow": {"strategy": "edco", "curriculum_interval": 20, "long": {"curriculum_interval": 40}}},
            tasks={"sums": {"learning_rate": 2e-5, "grpo": {"max_completion_length": 4}}},
            settings={"dataset_name": "reasoning_gym:chain_sum", "learning_rate": 1e-5, "curriculum_interval": 5},
        )
    )
    assert [cell.trainer for cell in (grpo, long, sft)] == ["grpo", "grpo", "sft"]
    assert [cell.values["curriculum_interval"] for cell in (grpo, long, sft)] == [20, 40, 20]
    assert [cell.values.get("num_generations") for cell in (grpo, long, sft)] == [4, 8, None]
    assert "max_completion_length" in grpo.values and "max_completion_length" not in long.values
    assert grpo.values["learning_rate"] == 2e-5 and grpo.values["strategy"] == "edco"


def test_settings_of_a_method_that_is_not_run_are_none_of_the_others():
    tasks = {"sums": {"sft": {"max_length": 9}, "grpo": {"beta": 0.1}}}
    assert [cell.values.get("beta", cell.values.get("max_length")) for cell in make_cells(matrix(tasks=tasks))] == [
        *(0.1, 0.1),
        *(9, 9),
    ]
    [cell] = make_cells(matrix(methods=["sft"], curricula=["random"], tasks=tasks))
    assert cell.values["max_length"] == 9 and not {"beta", "grpo", "sft"} & set(cell.values)


def test_a_curriculum_can_be_left_out_for_a_method():
    cells = make_cells(matrix(curricula={"random": {}, "random+equal_rewards": {"sft": False}}))
    assert [(cell.method, cell.curriculum) for cell in cells] == [
        ("grpo", "random"),
        ("grpo", "random+equal_rewards"),
        ("sft", "random"),
    ]


def test_a_strategy_with_gates_and_a_recipe_are_short_to_write(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    values = {"dataset_name": "reasoning_gym:gcd", "strategy": "mopps", "max_steps": 7, "output_dir": "runs/gcd"}
    recipe.write_text(yaml.safe_dump(values))
    cells = make_cells(
        BenchmarkConfig(recipe=str(recipe), methods=["grpo"], curricula=["random", "random+equal_rewards+truncated"])
    )
    assert [cell.values.get("gates") for cell in cells] == [None, ["equal_rewards", "truncated"]]
    assert cells[0].task == "gcd" and cells[0].values["max_steps"] == 7
    assert cells[0].settings(tmp_path / "cell").training.output_dir == str(tmp_path / "cell")
    cells = make_cells(BenchmarkConfig(recipe=str(recipe), methods=["sft"]))
    assert [cell.curriculum for cell in cells] == ["random", "mopps"]


def test_a_recipe_of_one_method_run_with_another_loses_what_that_does_not_know_and_it_is_said(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    values = {"dataset_name": "reasoning_gym:gcd", "max_steps": 7, "num_generations": 4, "gates": ["equal_rewards"]}
    recipe.write_text(yaml.safe_dump({**values, "learning_rate": 1e-5}))
    chosen = {"methods": ["grpo", "sft"], "curricula": ["random"], "recipe": str(recipe)}
    cells = make_cells(BenchmarkConfig(**chosen))
    grpo, sft = (cell.values for cell in cells)
    assert grpo["num_generations"] == 4 and grpo["gates"] == ["equal_rewards"] and grpo["learning_rate"] == 1e-5
    assert not {"num_generations", "gates"} & set(sft) and sft["learning_rate"] == 1e-5
    assert left_out(cells, "r.yaml") == ["sft does not know gates, num_generations of r.yaml: left out for it."]
    # What was set for the benchmark itself stays, and is refused; so is what no method knows.
    for settings, wrong in (({"num_generations": 4}, "num_generations"), ({"learning_rat": 1e-5}, "learning_rat")):
        *_, cell = make_cells(BenchmarkConfig(**chosen, settings=settings))
        with pytest.raises(ConfigurationError, match=f"has no setting '{wrong}'"):
            cell.check()
    recipe.write_text(yaml.safe_dump({**values, "learning_rat": 1e-5}))
    with pytest.raises(ConfigurationError, match=r"has no setting 'learning_rat'.*learning_rate"):
        make_cells(BenchmarkConfig(**chosen))[1].check()


def test_a_budget_ends_a_cell_by_its_unit():
    assert {cell.values["max_steps"] for cell in make_cells(matrix())} == {5}
    constant = {"dataset_name": "d", "lr_scheduler_type": "constant"}
    tokens = make_cells(matrix(budget_unit="tokens", budget=1000, settings=constant))
    assert all(cell.values["stop_after_tokens"] == 1000 and cell.values["max_steps"] > 1000 for cell in tokens)
    with pytest.raises(ConfigurationError, match="lr_scheduler_type linear needs: use constant"):
        make_cells(matrix(budget_unit="seconds", budget=60))
    with pytest.raises(ConfigurationError, match="budget must be a whole number"):
        make_cells(matrix(budget=2.5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["grop"]}, f"'grop' is no method; choose from {', '.join(METHODS)}"),
        ({"methods": None}, "methods is missing"),
        ({"curricula": ["edco", "mopps"]}, "baseline 'random' is not among"),
        ({"curricula": ["edco", "edco"]}, "names one twice"),
        ({"seeds": [1, 1]}, "seeds must be different"),
        ({"shard": "5/4"}, "shard must be a part of a whole, as 1/4; got '5/4'"),
        ({"tasks": {"a/b": {}}}, "'a/b' is no name for a folder"),
        ({"tasks": {"a": 3}}, "expected settings as a mapping for 'a'"),
        ({"settings": {}}, "tasks is missing"),
        ({"recipe": "/nowhere.yaml"}, "recipe /nowhere.yaml: there is no such file"),
        ({"target_accuracy": 1.5}, "target_accuracy must be a number above 0"),
    ],
)
def test_a_wrong_matrix_is_refused_with_its_name(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        make_cells(matrix(**changes))


@pytest.fixture
def recipe(tmp_path, tiny_model_path):
    """Writes a matrix that runs on a tiny model without an engine, and returns its file."""

    def write(**changes):
        values = {
            "output_dir": str(tmp_path / "matrix"),
            "methods": {"grpo": {"num_generations": 2, "max_completion_length": 2, "reward_funcs": ["math"]}},
            "curricula": ["random"],
            "seeds": [1],
            "budget": 4,
            "evaluate_every": 2,
        }
        settings = {
            "model_name_or_path": tiny_model_path,
            "dataset_name": "reasoning_gym:chain_sum",
            "train_prompts": 20,
            "held_out_prompts": 3,
            "per_device_train_batch_size": 4,
            "gradient_checkpointing": False,
            "lr_scheduler_type": "constant",
            "use_cpu": True,
            "report_to": "none",
            "engine_mode": "none",
            "disable_tqdm": True,
            "save_strategy": "no",
        }
        values |= {"settings": settings | changes.pop("settings", {})} | changes
        path = tmp_path / "matrix.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write


def test_a_matrix_runs_tells_of_a_failed_cell_and_does_only_what_is_missing(recipe, tmp_path, capsys):
    path = recipe(methods={"sft": {}}, curricula=["random", "random+equal_rewards"])
    cells = tmp_path / "matrix" / "cells"
    with pytest.raises(SystemExit) as error:
        main(["benchmark", "--config", str(path)])
    output = capsys.readouterr()
    assert error.value.code == 1 and "1 of 2 cells failed" in output.err
    assert "this trainer has none" in " ".join(output.out.split())
    failed = cells / "chain_sum_sft_random+equal_rewards_1"
    assert "Traceback" in (failed / "error.txt").read_text()
    assert load(failed / "cell").value["status"] == "failed"
    done = cells / "chain_sum_sft_random_1"
    before = (done / "records.jsonl").stat().st_mtime_ns
    records = read_records(done / "records.jsonl")
    evaluations = [line for line in records if line["kind"] == "evaluation"]
    assert [line["step"] for line in evaluations] == [0, 2, 4] and len(evaluations[0]["right"]) == 3
    tokens = [line["tokens"]["trained"] for line in records if line["kind"] == "step"]
    assert len(tokens) == 4 and tokens == sorted(tokens)
    assert not (done / "model.safetensors").exists()
    with pytest.raises(SystemExit):
        main(["benchmark", "--config", str(path)])
    assert (done / "records.jsonl").stat().st_mtime_ns == before
    assert "1 of 2: " not in capsys.readouterr().out  # the done cell is not run again
    with pytest.raises(SystemExit) as error:
        main(["benchmark", "--config", str(path), "--budget", "3"])
    message = " ".join(capsys.readouterr().err.split())
    assert error.value.code == 2
    assert f"Cell {done.name} was made with max_steps 4; now it is 3" in message and f"remove {done}" in message


def test_a_recipe_that_changed_is_noticed_and_what_failed_can_be_mended(recipe, tmp_path, capsys):
    settings = yaml.safe_load(recipe().read_text())["settings"]
    shared = tmp_path / "shared.yaml"
    path = tmp_path / "matrix.yaml"
    values = {"recipe": str(shared), "methods": ["sft"], "curricula": ["random"], "seeds": [1], "budget": 1}
    path.write_text(yaml.safe_dump(values | {"output_dir": str(tmp_path / "matrix")}))

    def run(**changes):
        shared.write_text(yaml.safe_dump(settings | changes))
        code = 0
        try:
            main(["benchmark", "--config", str(path)])
        except SystemExit as error:
            code = error.code
        return code, capsys.readouterr().err

    cell = tmp_path / "matrix" / "cells" / "chain_sum_sft_random_1"
    (tmp_path / "failing_judge.py").write_text("def judge(completions, **columns):\n    raise ValueError\n")
    assert run(held_out_reward="failing_judge:judge")[0] == 1 and load(cell / "cell").value["status"] == "failed"
    assert run()[0] == 0 and load(cell / "cell").value["status"] == "done" and not (cell / "error.txt").exists()
    code, error = run(learning_rate=0.5)
    assert code == 2 and "was made with learning_rate None; now it is 0.5" in error


def test_a_matrix_takes_more_curricula_and_seeds_and_refuses_other_settings_of_those_it_has(recipe, tmp_path, capsys):
    cells, note = tmp_path / "matrix" / "cells", tmp_path / "matrix" / "benchmark"
    main(["benchmark", "--config", str(recipe(methods=["sft"], curricula=["random"], budget=1))])
    before = (cells / "chain_sum_sft_random_1" / "records.jsonl").stat().st_mtime_ns
    more = {"random": {}, "baby": {"strategy": "baby_step"}}
    main(["benchmark", "--config", str(recipe(methods=["sft"], curricula=more, seeds=[2], budget=1))])
    assert sorted(path.name for path in cells.iterdir()) == [
        "chain_sum_sft_baby_2",
        "chain_sum_sft_random_1",
        "chain_sum_sft_random_2",
    ]
    assert (cells / "chain_sum_sft_random_1" / "records.jsonl").stat().st_mtime_ns == before
    known = load(note)
    assert known.value["cells"] == 4
    assert known.made_from["seeds"] == [1, 2] and list(known.made_from["curricula"]) == [*more]
    main(["benchmark", "--config", str(recipe(methods=["sft"], curricula=["random"], budget=1))])
    assert load(note).value["cells"] == 4  # a smaller one takes nothing away
    more["baby"]["strategy"] = "easy_to_hard"
    with pytest.raises(SystemExit) as error:
        main(["benchmark", "--config", str(recipe(methods=["sft"], curricula=more, budget=1))])
    told = capsys.readouterr().err
    assert error.value.code == 2 and "chain_sum_sft_baby_2 was made with strategy 'baby_step'" in told


judged = []


def even(completions, **columns):
    judged.append([float(len(message["content"]) % 2 == 0) for [message] in completions])
    return judged[-1]


def at_least(completions, score=0.0, **kwargs):
    """What it is told to give."""
    return [score] * len(completions)


def test_settings_of_a_reward_count_where_it_judges_held_out_answers(recipe, tmp_path, capsys):
    name = f"{__name__}:at_least"
    settings = {"held_out_reward": name, "reward_kwargs": {name: {"score": 1.0}}, "learning_rate": 2e-5}
    methods = {"grpo": {"num_generations": 2, "max_completion_length": 2, "reward_funcs": ["math"]}, "sft": {}}
    main(["benchmark", "--config", str(recipe(methods=methods, budget=1, settings=settings))])
    for method in methods:
        cell = tmp_path / "matrix" / "cells" / f"chain_sum_{method}_random_1"
        assert [line["right"] for line in read_records(cell / "records.jsonl") if line["kind"] == "evaluation"] == [
            "111",
            "111",
        ]
        config = json.loads((cell / "summary.json").read_text())["config"]
        assert config["training"]["learning_rate"] == 2e-5 and config["run"]["reward_kwargs"][name] == {"score": 1.0}


def test_cells_that_differ_in_their_curriculum_alone_share_what_was_measured_at_their_start(recipe, tmp_path, capsys):
    settings = {"held_out_reward": f"{__name__}:even", "held_out_samples": 7, "held_out_temperature": 1.0}
    curricula = {"random": {}, "edco": {"scoring_prefix_tokens": 1}}
    judged.clear()
    matrix = recipe(curricula=curricula, seeds=[1, 2], evaluate_every=4, settings=settings)
    main(["benchmark", "--config", str(matrix)])
    assert [len(answers) for answers in judged] == [3 * 7] * 6  # two starts and four ends
    starts = [
        next(line for line in read_records(path) if line["kind"] == "evaluation")
        for path in sorted((tmp_path / "matrix" / "cells").glob("*/records.jsonl"))
    ]
    assert len(starts) == 4 and starts[0] == starts[2] and starts[1] == starts[3]
    assert [sum(judged[number]) / 21 for number in (0, 3)] == [
        pytest.approx(sum(start["values"]) / 3, abs=1e-3) for start in starts[:2]
    ]


def test_a_budget_of_tokens_counts_what_is_generated_and_trained_on(recipe, tmp_path, capsys):
    main(["benchmark", "--config", str(recipe(budget=500, budget_unit="tokens"))])
    records = read_records(tmp_path / "matrix" / "cells" / "chain_sum_grpo_random_1" / "records.jsonl")
    spent = [sum(line["tokens"].values()) for line in records if line["kind"] == "step"]
    assert spent[-2] < 500 <= spent[-1]
    first = next(line for line in records if line["kind"] == "step")
    assert first["tokens"]["generated"] <= 4 * 2 < first["tokens"]["trained"]
    assert records[-1]["kind"] == "evaluation" and records[-1]["step"] == len(spent)


def test_a_cell_that_trains_nothing_is_refused_before_any_runs(recipe, tmp_path, capsys):
    methods = {"early": {"method": "complexity-aware", "complexity_last_stage": "split"}}
    with pytest.raises(SystemExit) as error:
        main(["benchmark", "--config", str(recipe(methods=methods))])
    message = " ".join(capsys.readouterr().err.split())
    assert error.value.code == 2 and not (tmp_path / "matrix" / "cells").exists()
    assert "Cell chain_sum_early_random_1 trains nothing: complexity_last_stage is split." in message


def test_complexity_aware_fine_tuning_takes_any_curriculum_and_counts_what_its_rows_cost(recipe, tmp_path, capsys):
    questions = tmp_path / "questions.jsonl"
    rows = [
        {"question": f"Is {i} even?", "options": ["yes", "no"], "answer_index": i % 2, "explanation": f"{i} halved."}
        for i in range(20)
    ]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = recipe(
        methods={"complexity-aware": {"split_points": [0.5]}},
        curricula={"random": {}, "staged": {"strategy": "easy_to_hard", "strategy_kwargs": {"column": "stage"}}},
        settings={"dataset_name": str(questions), "train_prompts": 16},
    )
    main(["benchmark", "--config", str(path)])
    assert "2 of 2 cells are done." in capsys.readouterr().out
    for name in ("random", "staged"):
        cell = tmp_path / "matrix" / "cells" / f"questions_complexity-aware_{name}_1"
        made = pq.read_table(cell / "training_data" / "complexity-aware.parquet")
        assert sum(made["reasoning"].to_pylist()) == 8 == sum(made["stage"].to_pylist())
        records = read_records(cell / "records.jsonl")
        start = next(line for line in records if line["kind"] == "evaluation")
        assert start["step"] == 0 and start["seconds"] > 0
        assert start["tokens"]["scored"] == 16 and start["tokens"]["teacher"] > 8
        steps = [line for line in records if line["kind"] == "step"]
        assert steps[0]["seconds"] > start["seconds"] and steps[-1]["tokens"]["trained"] > 0
        assert steps[0]["parts"]["scoring"] > 0 and steps[0]["parts"]["teacher"] > 0
        summary = json.loads((cell / "summary.json").read_text())
        assert summary["method"] == "complexity-aware" and summary["seconds"]["teacher"] > 0
        stages = [made["stage"][index].as_py() for line in steps for index in line["prompts"]]
        assert len(stages) == 16 and (stages == sorted(stages)) == (name == "staged")


class StopsOnce(Strategy):
    """Random prompts; stops the run at the eighth batch, as Ctrl-C does, unless it was stopped before."""

    def __init__(self, context, *, flag=None):
        super().__init__(context)
        self.flag, self.batches = flag and Path(flag), 0

    def stop(self):
        raise KeyboardInterrupt

    def select(self, n):
        self.batches += 1
        if self.batches == 8 and self.flag and not self.flag.exists():
            self.flag.touch()
            self.stop()
        return self.rng.permutation(len(self.pool))[:n]

    def state_dict(self):
        return super().state_dict() | {"batches": self.batches}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.batches = state["batches"]


def test_a_stopped_cell_goes_on_from_its_checkpoint_with_its_records(recipe, tmp_path, capsys):
    settings = {"save_strategy": "steps", "save_steps": 3, "strategy_kwargs": {"flag": str(tmp_path / "stopped")}}
    curricula = {"random": {"strategy": f"{__name__}:StopsOnce"}}
    path = recipe(methods={"sft": {}}, curricula=curricula, budget=12, evaluate_every=4, settings=settings)
    cell = tmp_path / "matrix" / "cells" / "chain_sum_sft_random_1"
    with pytest.raises(SystemExit) as error:
        main(["benchmark", "--config", str(path)])
    assert error.value.code == 130 and load(cell / "cell").value["status"] == "unfinished"
    before = read_records(cell / "records.jsonl")
    assert before[-1]["step"] == 7
    main(["benchmark", "--config", str(path)])
    after = read_records(cell / "records.jsonl")
    kept = [line for line in before if line["step"] <= 6]
    assert after[: len(kept)] == kept  # taken up at the last checkpoint, not made anew
    steps = [line for line in after if line["kind"] == "step"]
    assert [line["step"] for line in steps] == list(range(1, 13))
    assert steps[6]["prompts"] == before[-1]["prompts"]
    for values in ([line["seconds"] for line in steps], [sum(line["tokens"].values()) for line in steps]):
        assert values == sorted(values)
    assert [line["step"] for line in after if line["kind"] == "evaluation"] == [0, 4, 8, 12]
    assert not list(cell.glob("checkpoint-*"))


def test_single_runs_are_reported_too(tiny_model_path, tmp_path, capsys):
    for strategy in ("random", "mopps"):
        settings = {
            "model_name_or_path": tiny_model_path,
            "dataset_name": "reasoning_gym:chain_sum",
            "train_prompts": 12,
            "held_out_prompts": 3,
            "output_dir": tmp_path / strategy,
            "report_to": "none",
            "max_steps": 2,
            "per_device_train_batch_size": 2,
            "gradient_checkpointing": "false",
            "engine_mode": "none",
            "strategy": strategy,
            "disable_tqdm": "true",
            "keep_model": "false",
        }
        main(["train", "sft", *[word for name, value in settings.items() for word in (f"--{name}", str(value))]])
    capsys.readouterr()
    main(["report", str(tmp_path / "random"), str(tmp_path / "mopps"), "--output", str(tmp_path / "report")])
    out = capsys.readouterr().out
    assert re.search(r"chain_sum.*\W+mopps\W", out, re.DOTALL) and "2 of 2 cells are done." in out
    assert (tmp_path / "report" / "report.html").is_file()
