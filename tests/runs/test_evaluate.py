"""Evaluation with answers written here, so that every figure is known."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainingArguments

from edco_rl.cli import main
from edco_rl.config import AuditConfig, DataConfig, EvaluateConfig, ScoreConfig
from edco_rl.data.load import load_prompts, to_dataset
from edco_rl.data.tokens import RowTokenizer
from edco_rl.engine.protocol import Completion, Sampling
from edco_rl.engine.transformers_backend import TransformersBackend
from edco_rl.errors import ConfigurationError
from edco_rl.rewards import get_reward, multiple_choice_reward
from edco_rl.runs.evaluate import evaluate_model, find_model
from edco_rl.runs.grading import grade_answers
from edco_rl.runs.overlap import count_trained_on

ROWS = [
    {"prompt": f"{i}", "answer": "A" if i % 2 else "B", "options": ["x", "y"], "subject": ["odd", "even"][i % 2 == 0]}
    for i in range(10)
]


class Scripted:
    """Answers A greedily; of n samples to prompt i, the first i % 4 are A."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def max_model_len(self):
        return None

    def generate(self, prompts, sampling):
        groups = []
        for prompt in prompts:
            right = 1 if sampling.temperature == 0 else int(self.tokenizer.decode(prompt)) % 4
            texts = [" A" if sample < right else " C or so" for sample in range(sampling.n)]
            ids = [self.tokenizer(text)["input_ids"] for text in texts]
            groups.append([Completion(i, np.zeros(len(i)), np.zeros((len(i), 0)), len(i) == 1) for i in ids])
        return groups


def settings(**changes):
    return EvaluateConfig(**{"model_name_or_path": "m", "dataset_name": "d"} | changes)


@pytest.fixture(scope="module")
def tokenizer(model_path):
    return RowTokenizer(AutoTokenizer.from_pretrained(model_path))


def test_accuracy_and_pass_at_k_of_all_rows_and_each_subject(tokenizer):
    result = evaluate_model(
        Scripted(tokenizer.tokenizer), tokenizer, to_dataset("d", ROWS), multiple_choice_reward, settings(samples=4)
    )
    assert result["prompts"] == 10 and result["chance"] == 0.5 and result["prompts_without_reward"] == 0
    assert result["greedy"]["accuracy"] == 0.5 and result["greedy"]["truncated"] == 0
    assert result["subjects"]["odd"]["greedy"]["accuracy"] == 1
    assert result["subjects"]["even"]["greedy"]["accuracy"] == 0
    assert list(result["pass_at"]) == ["1", "2", "4"]
    # Only odd prompts can be right: 1, 5, 9 with one A of four, 3, 7 with three.
    assert result["pass_at"]["1"]["value"] == pytest.approx((3 * 1 / 4 + 2 * 3 / 4) / 10)
    assert result["pass_at"]["2"]["value"] == pytest.approx((3 * 1 / 2 + 2 * 1) / 10)
    assert result["pass_at"]["4"]["value"] == pytest.approx(0.5)
    low, high = result["pass_at"]["1"]["interval"]
    assert low < result["pass_at"]["1"]["value"] < high


def test_rows_without_a_judgeable_answer_are_left_out_and_counted(tokenizer, caplog):
    rows = [*ROWS, {**ROWS[0], "answer": "unknown"}]
    result = evaluate_model(
        Scripted(tokenizer.tokenizer), tokenizer, to_dataset("d", rows), multiple_choice_reward, settings(samples=2)
    )
    assert (result["prompts"], result["prompts_without_reward"]) == (10, 1)
    assert result["greedy"]["accuracy"] == 0.5 and "nothing about 1 of 11 rows" in caplog.text
    with pytest.raises(ConfigurationError, match="says nothing about any row"):
        evaluate_model(
            Scripted(tokenizer.tokenizer), tokenizer, to_dataset("d", rows[-1:]), multiple_choice_reward, settings()
        )


@pytest.fixture(scope="module")
def backend(tiny_model_path, tokenizer):
    """A real model, whose next token is not certain."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model_path)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(8)
    return TransformersBackend.of(model, tokenizer.tokenizer)


def even(completions, **kwargs):
    return [float(sum(map(ord, completion)) % 2 == 0) for completion in completions]


def test_samples_from_the_largest_token_alone_are_the_greedy_answer(backend, tokenizer):
    rows = to_dataset("d", ROWS)
    result = {
        top_p: evaluate_model(
            backend, tokenizer, rows, even, settings(samples=4, pass_at=[1, 4], top_p=top_p, max_completion_length=3)
        )
        for top_p in (1e-6, 1.0)
    }
    assert 0 < result[1.0]["greedy"]["accuracy"] < 1
    alone, any_token = ({k: entry["value"] for k, entry in found["pass_at"].items()} for found in result.values())
    assert alone["1"] == alone["4"] == result[1e-6]["greedy"]["accuracy"]
    assert any_token["4"] > any_token["1"]  # four samples of a prompt differ


def test_a_reward_is_given_the_tokens_of_each_answer(backend, tokenizer):
    reward = get_reward("length", minimum=2, maximum=2, inside=1.0, outside=0.0)
    for most in (2, 3):
        graded = grade_answers(backend, tokenizer, to_dataset("d", ROWS), reward, sampling=Sampling(most, 3))
        assert (graded.tokens == most).any() and graded.rewards.shape == (10, 3)
        assert (graded.right == (graded.tokens == 2)).all() and (graded.truncated == (graded.tokens == most)).any()


def test_every_command_sees_the_generated_rows_of_a_training_run():
    given = {"model_name_or_path": "m", "dataset_name": "reasoning_gym:chain_sum"}
    seeds = [
        config(**given).seed for config in (EvaluateConfig, AuditConfig, lambda **g: ScoreConfig(output="o", **g))
    ]
    assert seeds == 3 * [TrainingArguments("runs").seed]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_name_or_path": None}, "model_name_or_path is missing"),
        ({"dataset_name": None}, "dataset_name is missing"),
        ({"samples": 2, "temperature": 0.0}, "temperature must be above 0"),
        ({"samples": 2, "pass_at": [3]}, "pass_at 3: must be between 1 and samples, which is 2"),
        ({"top_p": 0.0}, "top_p must be a number above 0 and at most 1; got 0.0"),
        ({"max_prompts": 0}, "max_prompts must be a whole number of at least 1"),
        ({"reward_kwargs": "[]"}, "reward_kwargs must be a JSON object"),
        ({"chat_template_kwargs": "{"}, "chat_template_kwargs must be a JSON object"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        settings(**changes)


def test_prompts_that_were_trained_on_are_counted(tmp_path):
    """The test split of a folder, against its training split, another file, or nothing."""
    for split, texts in (("train", ["One?", "Two?", ""]), ("test", ["One?", "two", "Three?"])):
        lines = [json.dumps({"prompt": text, "answer": "1"}) for text in texts]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
    rows = to_dataset("d", [{"prompt": text} for text in ("One?", "two", "Three?")])
    listed = tmp_path / "skipped.txt"
    data = DataConfig(skip_invalid=True, skipped_rows_file=str(listed))
    for name in (str(tmp_path), str(tmp_path / "train.jsonl")):
        found = count_trained_on(settings(dataset_name=str(tmp_path), train_dataset_name=name), data, rows)
        text = f"2 of 3 prompts are in {name} too, 1 of them but for case, spaces or punctuation."
        assert found == {"prompts": 3, "equal": 1, "near_equal": 1, "text": text}
    assert not listed.exists() and count_trained_on(settings(), data, rows) is None


def test_the_command_says_how_many_prompts_were_trained_on(tiny_model_path, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    paths = [tmp_path / name for name in ("trained [on] before.jsonl", "test.jsonl")]
    for path, texts in zip(paths, (["1 + 1 =", "2 + 1 ="], ["1 + 1 =", "2+1=", "3 + 1 ="]), strict=True):
        path.write_text("".join(json.dumps({"prompt": text, "answer": "2"}) + "\n" for text in texts))
    train, test = map(str, paths)
    given = {"model_name_or_path": tiny_model_path, "dataset_name": test, "train_dataset_name": train}
    given |= {"engine_mode": "tests.engine.own:CopiedModel", "max_completion_length": 2}
    given["output"] = tmp_path / "evaluation.json"
    main(["evaluate", *(str(word) for name, value in given.items() for word in (f"--{name}", value))])
    text = f"2 of 3 prompts are in {train} too, 1 of them but for case, spaces or punctuation."
    assert text in capsys.readouterr().out.splitlines()
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert found["overlap"] == {"prompts": 3, "equal": 1, "near_equal": 1, "text": text} and found["prompts"] == 3


def test_a_generated_task_has_no_prompts_that_its_run_was_trained_on():
    name, data = "reasoning_gym:chain_sum", DataConfig(train_prompts=60, held_out_prompts=20)
    train, held_out = load_prompts(name, seed=42, **vars(data))
    given = settings(dataset_name=name, train_dataset_name=name)
    assert count_trained_on(given, data, held_out)["equal"] == 0
    assert count_trained_on(given, data, train)["equal"] == 60


def test_a_lora_adapter_names_its_base_model(tmp_path, tiny_model_path):
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps({"peft_type": "LORA", "r": 12, "base_model_name_or_path": tiny_model_path}))
    found = find_model(str(tmp_path))
    assert (found.path, found.adapter, found.rank) == (tiny_model_path, str(tmp_path), 12)
    assert find_model(tiny_model_path).adapter is None
    config.write_text(json.dumps({"peft_type": "PROMPT_TUNING", "base_model_name_or_path": tiny_model_path}))
    with pytest.raises(ConfigurationError, match=r"adapter_config\.json: expected peft_type LORA"):
        find_model(str(tmp_path))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"model_name_or_path": "/nowhere/model"}, "there is no such folder"),
        ({"dataset_name": "/nowhere/rows.jsonl"}, "there is no such file"),
        ({"engine_mode": "none"}, "engine_mode none: evaluate answers through an engine"),
        ({"reward_func": "maths"}, "Unknown reward 'maths'"),
        ({"reward_kwargs": '{"length": {}}'}, "reward_kwargs names length"),
        ({"train_prompts": 3}, "train_prompts is a setting of training"),
        ({"train_dataset_name": "/nowhere/rows.jsonl"}, "there is no such file"),
        ({"text": True}, "has no column 'answer' to compare with"),
        ({"engine_url": "http://127.0.0.1:9"}, "No answer from the vLLM server"),
    ],
)
def test_wrong_input_ends_with_one_message_and_no_engine(
    capsys, tmp_path, tiny_model_path, new_children, flags, message
):
    rows = tmp_path / "rows.jsonl"
    row = {"prompt": "1 + 1 ="} | ({} if flags.pop("text", False) else {"answer": "2"})
    rows.write_text(json.dumps(row) + "\n")
    given = {"model_name_or_path": tiny_model_path, "dataset_name": str(rows)} | flags
    with pytest.raises(SystemExit):
        main(["evaluate", *(str(word) for name, value in given.items() for word in (f"--{name}", value))])
    error = capsys.readouterr().err
    assert message in error.splitlines()[-1] and "Traceback" not in error and not new_children()
