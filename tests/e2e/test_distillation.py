"""Distillation with a real engine."""

import pytest
import torch
from datasets import Dataset

from edco_rl import CurriculumDistillationConfig, CurriculumDistillationTrainer

from ..tiny_model import make_tiny_model

pytestmark = pytest.mark.engine


def test_the_engine_writes_the_completions_of_the_current_student(model, model_path, server_url, tmp_path):
    prompts = ["Question: What is 2 + 3?\nAnswer:", "The capital of France is", "One, two, three,", "Roses are red,"]
    args = CurriculumDistillationConfig(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=4,
        max_completion_length=6,
        learning_rate=1e-3,
        temperature=0.01,  # as good as greedy, of what is sampled
        distillation_temperature=1.0,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        dataloader_pin_memory=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = CurriculumDistillationTrainer(
        model_path,
        make_tiny_model(tmp_path / "teacher", model_path),
        args,
        Dataset.from_dict({"prompt": prompts}),
        curriculum="random",
        engine=server_url,
    )
    batches = []
    single_turn = trainer._generate_single_turn

    def recording(prompt_ids, *rest, **kwargs):
        completions = single_turn(prompt_ids, *rest, **kwargs)
        student = trainer.accelerator.unwrap_model(trainer.model)
        with torch.no_grad():
            first = [student(torch.tensor([ids])).logits[0, -1].argmax().item() for ids in prompt_ids]
        batches.append((completions, first))
        return completions

    trainer._generate_single_turn = recording
    try:
        trainer.train()
    finally:
        trainer.close()
    assert len(batches) == 2 and all(len(completions) == 4 for completions, _ in batches)
    for completions, first in batches:
        assert sum(ids[0] == token for ids, token in zip(completions, first, strict=True)) >= 3  # near ties aside
    moved = [(a - b).abs().max().item() for a, b in zip(trainer.model.parameters(), model.parameters(), strict=True)]
    assert max(moved) > 1e-4
    assert trainer.stopwatch.seconds["rollout"] > 0 and trainer.stopwatch.seconds["sync"] > 0
