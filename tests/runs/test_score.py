"""`edco-rl score` from end to end, with the model in transformers instead of an engine."""

import json
import os
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from edco_rl.cli import main


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    with path.open("w") as file:
        for number in range(160):
            options = [str(2 * number), str(2 * number + 1), "none"]
            row = {"question": f"What is {number} + {number}?", "options": options, "answer_index": number % 3}
            file.write(json.dumps(row) + "\n")
    return path


def arguments(model, rows, output, **settings):
    values = {
        "model_name_or_path": model,
        "dataset_name": rows,
        "output": output,
        "engine_mode": "none",
        "part_prompts": 4,
        "scoring_prefix_tokens": 2,
        **settings,
    }
    return ["score", *[word for name, value in values.items() for word in (f"--{name}", str(value))]]


@pytest.mark.slow
def test_a_run_killed_at_once_and_started_again_ends_with_the_same_file(tiny_model_path, rows, tmp_path):
    whole, broken = tmp_path / "whole.parquet", tmp_path / "broken.parquet"
    main(arguments(tiny_model_path, rows, whole, part_prompts=1))
    command = [sys.executable, "-m", "edco_rl", *arguments(tiny_model_path, rows, broken, part_prompts=1)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    parts = tmp_path / "broken.parquet.parts"
    try:
        while process.poll() is None and not (parts / "part-0000002.parquet").exists():
            time.sleep(0.005)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = len(list(parts.glob("part-*.parquet")))
    assert 3 <= done < 160 and not broken.exists()
    main(arguments(tiny_model_path, rows, broken, part_prompts=1))
    assert whole.read_bytes() == broken.read_bytes()
    assert pq.read_table(whole).num_rows == 160 and not parts.exists()
    before = whole.stat().st_mtime_ns
    main(arguments(tiny_model_path, rows, whole, part_prompts=1))  # complete: nothing is done
    assert whole.stat().st_mtime_ns == before


def test_the_number_of_prompts_can_be_limited(tiny_model_path, rows, tmp_path, capsys):
    output = tmp_path / "scores.parquet"
    main(arguments(tiny_model_path, rows, output, max_prompts=6, estimator="option_entropy"))
    table = pq.read_table(output)
    assert table.num_rows == 6
    assert set(table["policy_version"].to_pylist()) == {"unknown"}
    assert table.column_names == ["id", "score", "standard_error", "lower", "upper", "tokens", "policy_version"]
    assert "6 prompts, 0 of them from an earlier run" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SystemExit):
        main(arguments(tiny_model_path, rows, output, max_prompts=6, estimator="perplexity"))
    error = capsys.readouterr().err
    assert "was made with estimator 'option_entropy'; now it is 'perplexity'" in " ".join(error.split())


def test_scores_of_another_model_or_of_changed_rows_do_not_end_in_the_same_file(tiny_model_path, tmp_path, capsys):
    model, rows, output = tmp_path / "model", tmp_path / "rows.jsonl", tmp_path / "scores.parquet"
    policy = AutoModelForCausalLM.from_pretrained(tiny_model_path)
    policy.save_pretrained(model)
    AutoTokenizer.from_pretrained(tiny_model_path).save_pretrained(model)
    rows.write_text('{"id": "a", "prompt": "1 + 1 ="}\n{"id": "b", "prompt": "2 + 2 ="}\n')
    command = arguments(model, rows, output, scoring_quick_answer=False)
    main(command)
    before = output.read_bytes()
    rows.write_text('{"id": "a", "prompt": "1 + 1 ="}\n{"id": "b", "prompt": "3 + 3 ="}\n')
    with pytest.raises(SystemExit):
        main(command)
    assert "was made with dataset_checksum" in capsys.readouterr().err
    rows.write_text('{"id": "a", "prompt": "1 + 1 ="}\n{"id": "b", "prompt": "2 + 2 ="}\n')
    with torch.no_grad():
        policy.get_input_embeddings().weight.mul_(2)
    policy.save_pretrained(model)
    with pytest.raises(SystemExit):
        main(command)
    assert "was made with model." in capsys.readouterr().err and output.read_bytes() == before
    output.unlink()
    main(command)
    assert output.read_bytes() != before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"estimator": "entropi"}, "Unknown estimator 'entropi'"),
        ({"output": ""}, "output is missing"),
        ({"dataset_name": ""}, "dataset_name is missing"),
        ({"model_name_or_path": "/nowhere/model"}, "there is no such folder"),
        ({"train_prompts": 3}, "max_prompts limits what is scored"),
        ({"dataset_name": "/nowhere/rows.jsonl"}, "there is no such file"),
    ],
)
def test_a_wrong_setting_ends_with_one_message(tiny_model_path, rows, tmp_path, capsys, settings, message):
    with pytest.raises(SystemExit) as error:
        main(arguments(tiny_model_path, rows, **{"output": tmp_path / "scores.parquet", **settings}))
    assert error.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.glob("*.parquet*"))
