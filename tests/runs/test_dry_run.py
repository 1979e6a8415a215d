"""A dry run finds what the run would refuse, and its numbers are right; every recipe passes it.

No hub is reached here: a hub's model is a folder with its public configuration, its family's chat template and another
model's tokenizer; a hub's data set is a local file. Everything else of a recipe stays as it stands.
"""

import functools
import json
import shutil
from pathlib import Path

import pytest
import yaml
from transformers import AutoTokenizer, GPT2Config, LlamaConfig, Phi3Config, Qwen2Config, Qwen3Config

from edco_rl.benchmark.cells import make_cells
from edco_rl.cli import main
from edco_rl.config import BenchmarkConfig
from edco_rl.errors import ConfigurationError
from edco_rl.methods import METHODS
from edco_rl.runs.dry_run import DryRunIncompleteError, dry_run
from edco_rl.runs.memory_estimate import size_of
from edco_rl.runs.options import method_parser
from edco_rl.runs.settings import RunSettings
from edco_rl.shipped_recipes import FOLDER, recipe_names

from ..conftest import TINY_VOCABULARY

TEMPLATES = Path(__file__).parents[1] / "fixtures" / "chat_templates"
_QWEN3 = {"vocab_size": 151936, "head_dim": 128, "num_key_value_heads": 8, "tie_word_embeddings": True}
# Public configurations, the parameters their model cards count, and the chat template.
MODELS = {
    "Qwen/Qwen3-4B": (
        Qwen3Config(hidden_size=2560, intermediate_size=9728, num_hidden_layers=36, num_attention_heads=32, **_QWEN3),
        4_022_468_096,
        "qwen3",
    ),
    "Qwen/Qwen3-0.6B": (
        Qwen3Config(hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16, **_QWEN3),
        596_049_920,
        "qwen3",
    ),
    "Qwen/Qwen2.5-3B-Instruct": (
        Qwen2Config(
            vocab_size=151936,
            hidden_size=2048,
            intermediate_size=11008,
            num_hidden_layers=36,
            num_attention_heads=16,
            num_key_value_heads=2,
            tie_word_embeddings=True,
        ),
        3_085_938_688,
        "smollm2",
    ),
    "meta-llama/Llama-3.2-3B-Instruct": (
        LlamaConfig(
            vocab_size=128256,
            hidden_size=3072,
            intermediate_size=8192,
            num_hidden_layers=28,
            num_attention_heads=24,
            num_key_value_heads=8,
            tie_word_embeddings=True,
        ),
        3_212_749_824,
        "llama3",
    ),
    "microsoft/Phi-4-mini-instruct": (
        Phi3Config(
            vocab_size=200064,
            hidden_size=3072,
            intermediate_size=8192,
            num_hidden_layers=32,
            num_attention_heads=24,
            num_key_value_heads=8,
            tie_word_embeddings=True,
        ),
        3_836_021_760,
        "smollm2",
    ),
    "openai-community/gpt2": (GPT2Config(), 124_439_808, None),
    "openai-community/gpt2-xl": (GPT2Config(n_embd=1600, n_layer=48, n_head=25), 1_557_611_200, None),
}
# What a recipe's earlier runs would have made.
MADE = {"runs/instructions_sft_teacher": "openai-community/gpt2-xl"}
RECIPES = [name for name in recipe_names() if "seeds" not in yaml.safe_load((FOLDER / f"{name}.yaml").read_text())]
BENCHMARKS = sorted(set(recipe_names()) - set(RECIPES))
ROWS = 140


@pytest.fixture(scope="module", autouse=True)
def tokenizers():
    """Each is read once: it takes half a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AutoTokenizer, "from_pretrained", functools.cache(AutoTokenizer.from_pretrained))
        yield


@pytest.fixture(scope="module")
def models(model_path, tmp_path_factory):
    """Folders of models by their names, each without weights."""
    found = {}
    for name, (config, _, template) in MODELS.items():
        folder = tmp_path_factory.mktemp("model") / name.rpartition("/")[2]
        config.dtype = "float32" if template is None else "bfloat16"
        config.save_pretrained(folder)
        for file in Path(model_path).iterdir():
            if "tokenizer" in file.name or file.name in ("special_tokens_map.json", "vocab.json", "merges.txt"):
                shutil.copy(file, folder)
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        settings.pop("chat_template", None)
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        if template is not None:
            shutil.copy(TEMPLATES / f"{template}.jinja", folder / "chat_template.jinja")
        found[name] = str(folder)
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Local rows in place of a hub's: questions with options, some of them held out, and instructions."""
    folder = tmp_path_factory.mktemp("rows")
    questions = [
        {
            "question": f"What is {i} + 1?",
            "options": [str(i), str(i + 1), str(i + 2)],
            "answer_index": 1,
            "explanation": f"{i} and 1 more is {i + 1}.",
        }
        for i in range(ROWS)
    ]
    instructions = [
        {"instruction": f"Count to {i}.", "response": " ".join(map(str, range(i - i % 20, i + 1))), "level": i % 3}
        for i in range(1, ROWS)
    ]
    paths = {}
    parts = {"questions": questions[20:], "held_out": questions[:20], "instructions": instructions}
    for name, rows in parts.items():
        paths[name] = str(folder / f"{name}.jsonl")
        Path(paths[name]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return paths


def method_of(name):
    stem = name.rpartition("/")[2]
    first = "complexity-aware" if stem.startswith("complexity_aware") else stem.partition("_")[0]
    return METHODS.get(first, METHODS["sft"])  # a benchmark's models are made by fine-tuning


def parse(name, flags):
    method = method_of(name)
    words = [word for key, value in flags.items() for word in (f"--{key}", str(value))]
    parser = method_parser(method, f"edco-rl train {method.name}")
    return RunSettings(method, *parser.make(parser.read(["--config", str(FOLDER / f"{name}.yaml"), *words])))


def stand_in(name, models, model_path):
    name = MADE.get(name, name)
    made = "SmolLM2" in name or "map-model" in name or name.startswith("runs/")
    return models.get(name, model_path if made else name)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_passes(name, models, files, model_path, tmp_path, capsys):
    values = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    flags = {"output_dir": tmp_path, "held_out_prompts": 20}
    flags["per_device_train_batch_size"] = min(values.get("per_device_train_batch_size", 8), 64)  # of so few rows
    for key in ("model_name_or_path", "teacher_model_name_or_path"):
        if key in values:
            flags[key] = stand_in(values[key], models, model_path)
    if str(values["dataset_name"]).startswith("reasoning_gym:"):
        flags["train_prompts"] = 160  # more than the largest batch
    else:
        flags["dataset_name"] = files["instructions" if "dolly" in values["dataset_name"] else "questions"]
        if "eval_dataset_name" in values:
            flags["eval_dataset_name"] = files["held_out"]
    flags.setdefault("model_name_or_path", model_path)
    dry_run(parse(name, flags))
    out = capsys.readouterr().out
    assert "not looked at" not in out and "First prompt as the model will see it" in out
    if flags.get("model_name_or_path") in models.values():
        [parameters] = [MODELS[known][1] for known, path in models.items() if path == flags["model_name_or_path"]]
        adapter = values.get("use_peft", False)
        assert adapter or f"{parameters / 1e6:,.1f} million parameters" in out
    assert not list(tmp_path.iterdir())


def different(cells):
    """Of a benchmark's runs enough to have each task with each method, and each curriculum."""
    seen, chosen = set(), []
    for cell in cells:
        parts = {(cell.task, cell.method), (cell.trainer, cell.curriculum)}
        if not parts <= seen:
            seen |= parts
            chosen.append(cell)
    return chosen


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_runs_of_a_benchmark_pass(name, files, model_path, tmp_path, capsys):
    values = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    for cell in different(make_cells(BenchmarkConfig(**values))):
        cell.values.update(model_name_or_path=model_path, held_out_prompts=20)
        if "teacher_model_name_or_path" in cell.values:
            cell.values["teacher_model_name_or_path"] = model_path
        if cell.values["dataset_name"].startswith("reasoning_gym:"):
            cell.values["train_prompts"] = 64
        else:
            for key in cell.values.keys() & {"dataset_name", "eval_dataset_name"}:
                cell.values[key] = files["instructions"]
        dry_run(cell.settings(tmp_path / cell.name))
        assert "not looked at" not in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_as_large_as_its_card_says(name, models):
    size = size_of(models[name], dtype="auto")
    parameters, width = MODELS[name][1], 4 if MODELS[name][2] is None else 2
    assert (size.parameters, size.bytes, size.trained) == (parameters, width * parameters, parameters)


@pytest.fixture
def recipe(tiny_model_path, files, tmp_path):
    return {
        "model_name_or_path": tiny_model_path,
        "dataset_name": files["questions"],
        "held_out_prompts": 20,
        "output_dir": str(tmp_path / "run"),
        "reward_funcs": ["multiple_choice"],
        "max_steps": 12,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 3,
        "num_generations": 6,
        "max_completion_length": 5,
        "curriculum_interval": 4,
        "curriculum_candidates": 30,
        "scoring_prefix_tokens": 7,
        "engine_mode": "none",
        "report_to": "none",
    }


def run(tmp_path, recipe, *flags):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    main(["train", "grpo", "--config", str(path), "--dry-run", *flags])


def test_what_it_says_is_worked_out_by_hand(tmp_path, recipe, tiny_model_path, capsys):
    """A step takes 4 x 3 completions: 2 prompts of 6. The tiny model has 4096 x 32 weights in its embeddings, and in
    each layer 32 x 32 twice, 32 x 16 twice and 32 x 64 three times, and norms."""
    run(tmp_path, recipe)
    out = capsys.readouterr().out
    parameters = TINY_VOCABULARY * 32 + 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 2 * 32) + 32
    assert f"{parameters / 1e6:,.1f} million parameters" in out
    assert "4 completions a process x 1 process(es) x 3 accumulated = 12 completions an optimizer step" in out
    assert "2 prompts x 6 completions = 12, for 1 optimizer step(s)" in out
    assert "a curriculum: 8 prompts, a new one every 4 steps, which draw 8" in out
    assert "30 of 100 prompts with prefix_entropy" in out and f"at most {30 * 7} generated" in out
    assert "at most 3 times" in out and f"48 completions, at most {48 * 5} tokens" in out
    assert f"weights of the policy: {4 * parameters / 2**30:.2f} GiB" in out
    assert f"optimizer (adamw_torch_fused): {8 * parameters / 2**30:.2f} GiB" in out
    assert "<|im_start|>user" in out and "What is" in out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": "edko"}, "Unknown strategy 'edko'"),
        ({"strategy_kwargs": {"sharpness": 1}}, "sharpness"),
        ({"reward_funcs": ["maths"]}, "Unknown reward 'maths'"),
        ({"gates": ["equal"]}, "Unknown gate 'equal'"),
        ({"estimator": "option_entropy", "dataset_name": "instructions"}, "needs multiple-choice rows"),
        ({"model_name_or_path": "/nowhere/model"}, "there is no such folder"),
        ({"dataset_name": "/nowhere/rows.jsonl"}, "there is no such file"),
        (
            {"per_device_train_batch_size": 1800, "num_generations": 3},
            "100 prompts, but a generation batch takes 1800",
        ),
        ({"engine_max_model_len": 20}, "takes"),
        ({"dataloader_num_workers": 2}, "dataloader_num_workers is 2"),
    ],
)
def test_what_a_run_would_refuse_is_refused(tmp_path, recipe, files, changes, message):
    changes = {**changes, **({"dataset_name": files["instructions"]} if "estimator" in changes else {})}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe | changes))
    parser = method_parser(METHODS["grpo"], "")
    with pytest.raises(ConfigurationError, match=message):
        dry_run(RunSettings(METHODS["grpo"], *parser.make(parser.read(["--config", str(path)]))))


def test_what_cannot_be_read_is_said_to_be_not_looked_at(tmp_path, recipe, capsys):
    """Tests run with HF_HUB_OFFLINE."""
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe | {"model_name_or_path": "nobody/nothing"}))
    parser = method_parser(METHODS["grpo"], "")
    settings = RunSettings(METHODS["grpo"], *parser.make(parser.read(["--config", str(path)])))
    with pytest.raises(DryRunIncompleteError, match=r"Not looked at: Model, First prompt .* Scoring, Memory"):
        dry_run(settings)
    out = capsys.readouterr().out
    assert "100 prompts in the pool" in out and out.count("not looked at: ") == 4
