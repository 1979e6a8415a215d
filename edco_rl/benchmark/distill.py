"""Plain distillation against POCL on one data set: `python -m edco_rl.benchmark.distill --help`.

Fine-tunes a teacher, makes a student of some of its base model's layers and warms it up, then distils the one into the
other with and without POCL (arXiv 2506.05695), for several seeds and divergences with the same number of optimizer
steps, and prints ROUGE-L on held-out rows. What is done is kept in `output_dir`: a run that was killed goes on.
"""

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer, TrlParser

from ..config import CurriculumConfig
from ..config.checks import check_at_least, check_given
from ..data.load import load_prompts
from ..data.prompts import tokenize_prompt
from ..engine.hardware import has_cuda
from ..engine.protocol import GenerationBackend, Sampling
from ..engine.transformers_backend import TransformersBackend
from ..errors import ConfigurationError
from ..rewards import get_reward
from ..runs.grading import grade_answers
from ..runs.settings import check_model
from ..scoring import tokenize_reference
from ..store import model_fingerprint, once_value, write_whole
from ..trainers import CurriculumDistillationConfig, CurriculumDistillationTrainer
from ..trainers.divergence import make_divergence
from .distill_report import print_table

_CURRICULA = ("plain", "pocl")
_RESULT = "result.json"


@dataclass
class DistillationBenchmarkConfig:
    """What is distilled, how long, and how often."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "Model that the teacher is fine-tuned from, and the student cut from."}
    )
    dataset_name: str | None = field(default=None, metadata={"help": "Rows with reference responses to train on."})
    eval_dataset_name: str | None = field(default=None, metadata={"help": "Held-out rows."})
    output_dir: str = field(default="runs/distillation", metadata={"help": "Folder for models and results."})
    max_prompt_tokens: int = field(default=64, metadata={"help": "Longer prompts are left out, and counted."})
    max_response_tokens: int = field(
        default=64,
        metadata={
            "help": "Training rows with a longer response are left out, and counted. No output is longer either, "
            "whatever the length of the reference."
        },
    )
    student_layers: int = field(
        default=6, metadata={"help": "Layers of the student, evenly spaced among those of its base model."}
    )
    teacher_steps: int = field(default=24, metadata={"help": "Optimizer steps of the teacher's fine-tuning."})
    teacher_learning_rate: float = field(default=5e-5, metadata={"help": "Its learning rate."})
    warm_up_steps: int = field(default=72, metadata={"help": "Steps of fine-tuning that the student starts with."})
    warm_up_learning_rate: float = field(default=5e-4, metadata={"help": "Its learning rate."})
    steps: int = field(default=32, metadata={"help": "Optimizer steps of each distillation."})
    distillation_learning_rate: float = field(default=2e-4, metadata={"help": "Its learning rate."})
    batch_size: int = field(default=8, metadata={"help": "Rows an optimizer step, of all trainings."})
    stages: int = field(default=4, metadata={"help": "POCL's stages, equally long."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Seeds of each distillation."})
    divergences: list[str] = field(
        default_factory=lambda: ["forward_kl", "skewed_forward_kl"], metadata={"help": "Divergences compared."}
    )

    def __post_init__(self) -> None:
        check_given(self, "model_name_or_path", "dataset_name", "eval_dataset_name", "seeds", "divergences")
        for name in ("student_layers", "teacher_steps", "warm_up_steps", "batch_size", "stages"):
            check_at_least(name, getattr(self, name), 1)
        check_at_least("steps", self.steps, self.stages)
        for name in self.divergences:
            make_divergence(name)


@dataclass(frozen=True)
class Rows:
    """The rows that are used, and how many there were."""

    train: Dataset
    held_out: Dataset
    left_out: str


class DistillationBenchmark:
    """The steps of the comparison, each done once.

    Args:
        config (`DistillationBenchmarkConfig`):
            Settings.
        log (`Callable[[str], None]`):
            Told what is going on.

    Raises:
        ConfigurationError: The model or the rows are not found, or `output_dir` holds another comparison.
    """

    def __init__(self, config: DistillationBenchmarkConfig, log: Callable[[str], None]) -> None:
        assert config.model_name_or_path
        self.config = config
        self.log = log
        self.base = os.path.expanduser(config.model_name_or_path)
        check_model(self.base)
        self.folder = Path(config.output_dir)
        self.folder.mkdir(parents=True, exist_ok=True)
        # More seeds, divergences and steps of theirs can be added to what is there.
        cells = ("seeds", "divergences", "output_dir")
        settings = {name: value for name, value in asdict(config).items() if name not in cells}
        once_value(self.folder / "settings", settings | {"model": model_fingerprint(self.base)}, lambda: None)
        self.tokenizer = AutoTokenizer.from_pretrained(self.base)
        self.rows = self._load_rows()
        self.log(self.rows.left_out)

    def _load_rows(self) -> Rows:
        config = self.config
        assert config.dataset_name
        train, held_out = load_prompts(
            config.dataset_name, eval_dataset_name=config.eval_dataset_name, held_out_prompts=1_000_000
        )
        assert held_out is not None

        def is_short(row: dict[str, Any]) -> bool:
            return len(tokenize_prompt(row["prompt"], self.tokenizer)) <= config.max_prompt_tokens

        def has_short_response(row: dict[str, Any]) -> bool:
            return len(tokenize_reference(row, self.tokenizer)) <= config.max_response_tokens

        kept = train.select([i for i, row in enumerate(train) if is_short(row) and has_short_response(row)])
        held = held_out.select([i for i, row in enumerate(held_out) if is_short(row)])
        left_out = (
            f"Trained on {len(kept)} of {len(train)} rows: prompts of at most {config.max_prompt_tokens} tokens with "
            f"responses of at most {config.max_response_tokens}. Measured on {len(held)} of {len(held_out)} held-out "
            f"rows: prompts of at most {config.max_prompt_tokens} tokens."
        )
        if len(kept) < config.batch_size or not len(held):
            raise ConfigurationError(f"Too few rows are short enough. {left_out}")
        return Rows(kept, held, left_out)

    def run(self) -> list[dict[str, Any]]:
        """All cells, those done before read from their files.

        Returns:
            `list[dict]`: one entry for the teacher, one for the student before distillation, then one a cell:
            `curriculum`, `divergence`, `seed`, `rouge_l`, `seconds` and `difficulty_seconds`.
        """
        teacher = self._once("teacher", self._make_teacher)
        student = self._once("student", self._make_student)
        results = [{"curriculum": "teacher", **teacher}, {"curriculum": "student before", **student}]
        for seed in self.config.seeds:
            for divergence in self.config.divergences:
                for curriculum in _CURRICULA:
                    cell = {"curriculum": curriculum, "divergence": divergence, "seed": seed}
                    name = "-".join(map(str, cell.values()))
                    found = self._once(name, lambda folder, cell=cell: self._distil(folder, **cell))  # type: ignore[misc]
                    results.append(cell | found)
        return results

    def _once(self, name: str, make: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        """What `make` returns for its folder, or returned before."""
        path = self.folder / name / _RESULT
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            self.log(f"{name} ...")
            result = make(path.parent)
            self.log(f"{name}: " + ", ".join(f"{key} {value:.3f}" for key, value in result.items()))
            write_whole(path, lambda unfinished: unfinished.write_text(json.dumps(result)))
        return json.loads(path.read_text())

    def _make_teacher(self, folder: Path) -> dict[str, float]:
        model = AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float32)
        return self._fine_tune(model, folder, self.config.teacher_steps, self.config.teacher_learning_rate)

    def _make_student(self, folder: Path) -> dict[str, float]:
        torch.manual_seed(0)
        model = keep_layers(
            AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float32), self.config.student_layers
        )
        return self._fine_tune(model, folder, self.config.warm_up_steps, self.config.warm_up_learning_rate)

    def _fine_tune(self, model: Any, folder: Path, steps: int, learning_rate: float) -> dict[str, float]:
        started = time.perf_counter()
        args = SFTConfig(**self._arguments(folder, steps, learning_rate, seed=0))
        rows = self.rows.train.select_columns(["prompt", "completion"])
        trainer = SFTTrainer(model, args, train_dataset=rows, processing_class=self.tokenizer)
        trainer.train()
        seconds = time.perf_counter() - started
        model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        ends = model.generation_config.eos_token_id
        generator = TransformersBackend(
            model, self.tokenizer.pad_token_id, ends if isinstance(ends, list) else [self.tokenizer.eos_token_id]
        )
        return {"rouge_l": self._rouge_l(generator), "seconds": seconds}

    def _distil(self, folder: Path, curriculum: str, divergence: str, seed: int) -> dict[str, float]:
        config = self.config
        args = CurriculumDistillationConfig(
            **self._arguments(folder, config.steps, config.distillation_learning_rate, seed),
            divergence=divergence,
            lmbda=0.0,
            max_completion_length=config.max_response_tokens,
            difficulty_dir=str(self.folder / "difficulty"),
        )
        stages = {"stages": config.stages, "stage_batches": config.steps // config.stages}
        trainer = CurriculumDistillationTrainer(
            str(self.folder / "student"),
            str(self.folder / "teacher"),
            args,
            self.rows.train,
            curriculum=CurriculumConfig(strategy="pocl", strategy_kwargs=stages)
            if curriculum == "pocl"
            else CurriculumConfig(strategy="random"),
        )
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
        with trainer.scoring_backend() as generator:
            assert generator is not None
            overlap = self._rouge_l(generator)
        return {"rouge_l": overlap, "seconds": seconds, "difficulty_seconds": trainer.difficulty_seconds}

    def _arguments(self, folder: Path, steps: int, learning_rate: float, seed: int) -> dict[str, Any]:
        return {
            "output_dir": str(folder),
            "max_steps": steps,
            "learning_rate": learning_rate,
            "per_device_train_batch_size": self.config.batch_size,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 2,
            "seed": seed,
            "bf16": False,
            "use_cpu": not has_cuda(),
            "gradient_checkpointing": False,
            "dataloader_pin_memory": False,
            "logging_steps": steps,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
        }

    def _rouge_l(self, generator: GenerationBackend) -> float:
        graded = grade_answers(
            generator,
            self.tokenizer,
            self.rows.held_out,
            get_reward("rouge_l"),
            sampling=Sampling(self.config.max_response_tokens, temperature=0.0),
        )
        return float(np.nanmean(graded.rewards))


def keep_layers(model: Any, layers: int) -> Any:
    """A transformers model with that many of its layers, evenly spaced, the first and the last among them.

    Raises:
        ConfigurationError: It has not as many.
    """
    config, decoder = model.config, model.base_model
    if layers > config.num_hidden_layers:
        raise ConfigurationError(f"student_layers is {layers}; the model has {config.num_hidden_layers} layers.")
    kept = np.linspace(0, config.num_hidden_layers - 1, layers).round().astype(int)
    decoder.layers = torch.nn.ModuleList([decoder.layers[i] for i in kept])
    for position, layer in enumerate(decoder.layers):
        layer.self_attn.layer_idx = position  # where its keys and values are cached
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[i] for i in kept]
    return model


def main() -> None:
    """Parse, run, print."""
    try:
        (config,) = TrlParser((DistillationBenchmarkConfig,)).parse_args_and_config(fail_with_unknown_args=True)
        logging.getLogger("edco_rl").setLevel(logging.INFO)
        console = Console(stderr=True)
        benchmark = DistillationBenchmark(config, lambda text: console.print(text, soft_wrap=True, highlight=False))
        results = benchmark.run()
        rows = benchmark.rows
        text = json.dumps({"settings": asdict(config), "rows": rows.left_out, "runs": results}, indent=2)
        (benchmark.folder / "distillation.json").write_text(text + "\n")
        print_table(
            f"ROUGE-L (%) of greedy answers to {len(rows.held_out)} held-out prompts, mean ± standard deviation of "
            f"{len(config.seeds)} seeds; {config.steps} optimizer steps of {config.batch_size} rows each",
            results,
        )
        Console().print(rows.left_out)
    except ConfigurationError as error:
        raise SystemExit(f"distill: error: {error}") from error


if __name__ == "__main__":
    main()
