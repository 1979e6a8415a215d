"""The comparison of plain distillation with POCL, on tiny models, and the two ways of the memory benchmark."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from edco_rl.benchmark.distill import (
    DistillationBenchmark,
    DistillationBenchmarkConfig,
    keep_layers,
)
from edco_rl.benchmark.distill_report import print_table, summarize
from tests.benchmarks.divergence_memory import MemoryConfig, measure
from edco_rl.errors import ConfigurationError


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Instructions of which one in five is long, to train on and to measure on."""
    folder = tmp_path_factory.mktemp("rows")
    paths = []
    for name, count in (("train", 15), ("test", 10)):
        rows = [
            {
                "instruction": f"Count to {i}." * (40 if i % 5 == 4 else 1),
                "response": ", ".join(map(str, range(i + 1))),
            }
            for i in range(count)
        ]
        paths.append(folder / f"{name}.jsonl")
        paths[-1].write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [str(path) for path in paths]


def settings(model, files, folder):
    lengths = {"max_prompt_tokens": 60, "max_response_tokens": 24, "batch_size": 2, "student_layers": 1}
    steps = {
        "teacher_steps": 1,
        "warm_up_steps": 1,
        "steps": 4,
        "stages": 2,
        "seeds": [0],
        "divergences": ["reverse_kl"],
    }
    names = {"model_name_or_path": model, "dataset_name": files[0], "eval_dataset_name": files[1]}
    return DistillationBenchmarkConfig(**names, **lengths, **steps, output_dir=str(folder))


def test_each_cell_is_trained_once_and_a_killed_comparison_goes_on(tiny_model_path, files, tmp_path, capsys):
    config = settings(tiny_model_path, files, tmp_path)
    logged = []
    benchmark = DistillationBenchmark(config, logged.append)
    # Of 15 and 10 rows, those with 4, 9 and 14 have long prompts; those counting to 8 and more long responses.
    assert len(benchmark.rows.train) == 7 and len(benchmark.rows.held_out) == 8
    assert "Trained on 7 of 15 rows" in logged[0] and "Measured on 8 of 10 held-out rows" in logged[0]
    results = benchmark.run()
    assert [entry["curriculum"] for entry in results] == ["teacher", "student before", "plain", "pocl"]
    assert all(0 <= entry["rouge_l"] <= 1 and entry["seconds"] > 0 for entry in results)
    assert results[2]["difficulty_seconds"] == 0 < results[3]["difficulty_seconds"]
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "student").config.num_hidden_layers == 1
    (tmp_path / "pocl-reverse_kl-0" / "result.json").unlink()
    logged.clear()
    again = DistillationBenchmark(config, logged.append).run()
    assert [line for line in logged if line.endswith("...")] == ["pocl-reverse_kl-0 ..."]
    # The same seed gives the same student, and difficulties are not measured a second time.
    assert [entry["rouge_l"] for entry in again] == [entry["rouge_l"] for entry in results]
    assert again[3]["difficulty_seconds"] == results[3]["difficulty_seconds"]
    print_table("Comparison", results)
    assert f"{100 * results[3]['rouge_l']:.2f}" in capsys.readouterr().out
    with pytest.raises(ConfigurationError, match=r"steps 4; now it is 6"):
        DistillationBenchmark(replace(config, steps=6), logged.append)


def test_a_summary_has_the_scores_of_all_seeds_and_the_measurers_share_of_the_time():
    cells = [
        {
            "curriculum": "pocl",
            "divergence": "forward_kl",
            "rouge_l": 0.2,
            "seconds": 30.0,
            "difficulty_seconds": 10.0,
        },
        {
            "curriculum": "plain",
            "divergence": "forward_kl",
            "rouge_l": 0.1,
            "seconds": 30.0,
            "difficulty_seconds": 0.0,
        },
        {
            "curriculum": "pocl",
            "divergence": "forward_kl",
            "rouge_l": 0.4,
            "seconds": 90.0,
            "difficulty_seconds": 10.0,
        },
    ]
    pocl, plain = summarize(cells)
    assert pocl["rouge_l"] == [0.2, 0.4] and plain["rouge_l"] == [0.1]
    assert pocl["seconds"] == 60.0 and pocl["difficulty_share"] == pytest.approx((10 / 40 + 10 / 100) / 2)
    assert plain["difficulty_share"] == 0.0


def test_a_model_of_fewer_layers_is_made_of_the_first_the_last_and_some_between():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=7, num_attention_heads=2
    )
    model = LlamaForCausalLM(config).eval()
    weights = [layer.mlp.up_proj.weight.clone() for layer in model.model.layers]
    keep_layers(model, 3)
    kept = [layer.mlp.up_proj.weight for layer in model.model.layers]
    assert all(torch.equal(weight, weights[i]) for weight, i in zip(kept, (0, 3, 6), strict=True))
    ids = torch.tensor([[1, 5, 9]])
    cached = model.generate(ids, max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0)
    for _ in range(8):
        ids = torch.cat([ids, model(ids, use_cache=False).logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(cached, ids)
    with pytest.raises(ConfigurationError, match="student_layers is 4; the model has 3 layers"):
        keep_layers(model, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"divergences": ["kl"]}, "Unknown divergence 'kl'"),
        ({"seeds": []}, "seeds is missing"),
        ({"steps": 3}, "steps must be at least 4"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    names = {"model_name_or_path": "m", "dataset_name": "d", "eval_dataset_name": "e"}
    with pytest.raises(ConfigurationError, match=message):
        DistillationBenchmarkConfig(**names, **changes)


def test_chunks_and_full_logits_give_one_loss_and_one_gradient():
    config = MemoryConfig(vocabulary=500, tokens=40, hidden_size=16)
    chunks, plain = (measure(config, "skewed_reverse_kl", way) for way in ("chunks", "plain"))
    assert chunks["loss"] == pytest.approx(plain["loss"], rel=1e-5)
    assert chunks["gradient"] == pytest.approx(plain["gradient"], rel=1e-5)
    assert np.isfinite(chunks["mib"])
