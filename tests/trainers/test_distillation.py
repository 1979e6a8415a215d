"""The distillation trainer on tiny models, against stock TRL and float64 computations."""

import logging

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from rouge_score.rouge_scorer import RougeScorer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, TrainerCallback
from trl import DistillationConfig, DistillationTrainer

from edco_rl import (
    ConfigurationError,
    CurriculumConfig,
    CurriculumDistillationConfig,
    CurriculumDistillationTrainer,
)
from edco_rl.store import load, plain
from edco_rl.trainers.distillation_schedule import LossSchedule

from .support import TRAINING


@pytest.fixture(scope="module")
def teacher_path(tiny_model_path, tmp_path_factory):
    """A wider model of the student's vocabulary, far from it."""
    path = tmp_path_factory.mktemp("teacher")
    config = LlamaConfig.from_pretrained(tiny_model_path, hidden_size=48, initializer_range=0.2)
    torch.manual_seed(1)
    LlamaForCausalLM(config).save_pretrained(path)
    AutoTokenizer.from_pretrained(tiny_model_path).save_pretrained(path)
    return str(path)


def dataset(rows=8, **columns):
    prompts = [f"{i} + {i * i} =" for i in range(rows)]
    completions = [f" {i + i * i}" + " and that is all" * (i % 3) for i in range(rows)]
    ids = [f"r{i}" for i in range(rows)]
    return Dataset.from_dict({"id": ids, "prompt": prompts, "completion": completions} | columns)


def arguments(folder, cls=CurriculumDistillationConfig, **changes):
    settings = TRAINING | {"max_steps": 4, "per_device_train_batch_size": 2, "max_completion_length": 8}
    if cls is CurriculumDistillationConfig:
        settings["lmbda"] = 0.0
    return cls(**(settings | {"output_dir": str(folder)} | changes))


def history(trainer, *names):
    trainer.train()
    return [[entry[name] for name in names] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize(
    ("settings", "ours"),
    [
        ({"beta": 1.0}, None),
        ({"beta": 0.5}, None),
        ({"beta": 0.3, "temperature": 2.0}, {"divergence": "gkd", "lmbda": 1.0, "temperature_squared": ["none"]}),
    ],
)
def test_random_is_stock_trl_on_policy(tiny_model_path, teacher_path, tmp_path, settings, ours):
    """With TRL's own settings, and with gkd."""
    names = ("loss", "grad_norm", "entropy", "num_tokens", "completions/mean_length")
    settings = settings | {"gradient_accumulation_steps": 2}

    def run(trainer, args, **kwargs):
        return history(trainer(tiny_model_path, teacher_path, args, dataset(), **kwargs), *names)

    stock_args = arguments(tmp_path, DistillationConfig, **settings)
    stock = run(DistillationTrainer, stock_args)
    assert len(stock) == 4
    own_args = stock_args if ours is None else arguments(tmp_path, **settings, **ours)
    ours = run(CurriculumDistillationTrainer, own_args, curriculum="random")
    assert np.array(ours) == pytest.approx(np.array(stock), rel=1e-3)


def exact_loss(student, teacher, tokenizer, rows, temperature, weight, divergence="reverse_kl", limit=8):
    """Mean over reference tokens, from full logits in float64, row by row and without padding."""
    total, tokens = torch.zeros((), dtype=torch.float64), 0
    for row in rows:
        prompt = tokenizer(row["prompt"])["input_ids"]
        completion = [*tokenizer(row["completion"])["input_ids"], tokenizer.eos_token_id][:limit]
        ids = torch.tensor([prompt + completion])
        s, t = (model(ids).logits[0, len(prompt) - 1 : -1].double() for model in (student, teacher))
        log_s, log_t = (s / temperature).log_softmax(-1), (t / temperature).log_softmax(-1)
        first, second = (log_s, log_t) if divergence == "reverse_kl" else (log_t, log_s)
        kl = (first.exp() * (first - second)).sum()
        nll = -s.log_softmax(-1)[torch.arange(len(completion)), torch.tensor(completion)].sum()
        total = total + weight * temperature**2 * kl + (1 - weight) * nll
        tokens += len(completion)
    return total / tokens


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_loss_on_references_is_that_of_full_logits_padding_ignored(
    tiny_model_path, teacher_path, tmp_path, accumulation
):
    settings = {"divergence": "reverse_kl", "distillation_temperature": 2.0, "distillation_weight": 0.7}
    settings |= {"max_steps": 1, "gradient_accumulation_steps": accumulation, "per_device_train_batch_size": 4}
    args = arguments(tmp_path, **settings)
    trainer = CurriculumDistillationTrainer(tiny_model_path, teacher_path, args, dataset(), curriculum="random")
    seen = []
    trainer.curriculum.strategy.observe = seen.extend
    [[loss, norm, divergence, nll, weight]] = history(
        trainer, "loss", "grad_norm", "distillation/divergence", "distillation/nll", "distillation/weight"
    )
    rows = [trainer.train_dataset[int(i)] for i in trainer.curriculum.batch]
    assert len({len(row["completion"]) for row in rows}) > 1
    paths = tiny_model_path, teacher_path
    student, teacher = (AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32) for path in paths)
    expected = exact_loss(student, teacher, trainer.processing_class, rows, 2.0, 0.7)
    expected.backward()
    gradient = torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None])
    assert loss == pytest.approx(expected.item(), rel=1e-4)
    assert norm == pytest.approx(gradient.norm().item(), rel=1e-3)
    assert weight == 0.7
    if accumulation == 1:
        assert 0.7 * 4.0 * divergence + 0.3 * nll == pytest.approx(loss, rel=1e-4)
    assert sorted(outcome.index for outcome in seen) == sorted(trainer.curriculum.batch.tolist())
    assert all(outcome.rewards is not None and outcome.entropy is None for outcome in seen)


class Watch(TrainerCallback):
    """Notes, for every optimizer step, its prompts, temperature, weight and learning rate."""

    def __init__(self, trainer):
        self.trainer = trainer
        self.steps = []
        trainer.add_callback(self)

    def on_step_end(self, args, state, control, **kwargs):
        temperature, weight = self.trainer.loss_settings()
        rows = tuple(sorted(self.trainer.curriculum.batch.tolist()))
        rate = self.trainer.lr_scheduler.get_last_lr()[0]
        self.steps.append((state.global_step, rows, temperature, weight, rate))


def pocl(tiny_model_path, teacher_path, folder, strategy_kwargs, **changes):
    difficulty = [5.0, 1.0, 7.0, 3.0, 0.0, 6.0, 2.0, 4.0]
    config = CurriculumConfig(strategy="pocl", strategy_kwargs=strategy_kwargs)
    args = arguments(folder, **changes)
    rows = dataset(difficulty=difficulty)
    return CurriculumDistillationTrainer(tiny_model_path, teacher_path, args, rows, curriculum=config)


def test_each_step_has_the_rows_the_temperature_and_the_weight_of_its_stage_also_after_a_restart(
    tiny_model_path, teacher_path, tmp_path
):
    """Four stages of 3, 3, 3 and the rest of 11 steps, killed in the middle of the second and in the last."""
    settings = {"max_steps": 11, "save_strategy": "steps", "save_steps": 2, "lr_scheduler_type": "constant"}
    kwargs = {"stages": 4, "stage_batches": 3}
    whole = pocl(tiny_model_path, teacher_path, tmp_path, kwargs, **settings)
    watch = Watch(whole)
    losses = history(whole, "loss")
    logged = [
        (entry["distillation/temperature"], entry["distillation/weight"])
        for entry in whole.state.log_history
        if "loss" in entry
    ]
    easy_to_hard = [4, 1, 6, 3, 7, 0, 5, 2]
    stages = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3]
    for (step, rows, temperature, weight, _), stage, (seen_temperature, seen_weight) in zip(
        watch.steps, stages, logged, strict=True
    ):
        assert set(rows) <= set(easy_to_hard[: 2 * (stage + 1)]) and len(rows) == 2
        assert temperature == pytest.approx([1.0, 4 / 3, 5 / 3, 2.0][stage]) == seen_temperature
        assert weight == pytest.approx([0.7, 0.8, 0.9, 1.0][stage]) == seen_weight
        if stages[:step].count(stage) * 2 == 2 * (stage + 1):  # a pass of the stage is complete
            seen = {row for entry in watch.steps[stages.index(stage) : step] for row in entry[1]}
            assert seen == set(easy_to_hard[: 2 * (stage + 1)])
    for killed_at in (4, 10):
        resumed = pocl(tiny_model_path, teacher_path, tmp_path / str(killed_at), kwargs, **settings)
        again = Watch(resumed)
        resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{killed_at}"))
        assert again.steps == watch.steps[killed_at:]
        assert [[entry["loss"]] for entry in resumed.state.log_history if "loss" in entry] == losses
        assert plain(resumed.curriculum.state_dict()) == plain(whole.curriculum.state_dict())


@pytest.mark.parametrize("per_stage", [False, True])
def test_the_learning_rate_runs_over_all_or_anew_in_each_stage(tiny_model_path, teacher_path, tmp_path, per_stage):
    settings = {"max_steps": 7, "lr_scheduler_type": "linear", "lr_schedule_per_stage": per_stage}
    trainer = pocl(tiny_model_path, teacher_path, tmp_path, {"stages": 2, "stage_batches": 4}, **settings)
    watch = Watch(trainer)
    trainer.train()
    expected = [0.75, 0.5, 0.25, 1.0, 2 / 3, 1 / 3, 0.0] if per_stage else [i / 7 for i in range(6, -1, -1)]
    assert [rate / 1e-3 for *_, rate in watch.steps] == pytest.approx(expected, abs=1e-9)


def test_a_stage_ends_when_validation_stops_improving_also_after_a_restart(tiny_model_path, teacher_path, tmp_path):
    """Learning at rate 0 improves nothing: a stage lasts its first evaluation and `patience` more."""
    settings = {"max_steps": 8, "learning_rate": 0.0, "save_strategy": "steps", "save_steps": 5}
    settings |= {"eval_strategy": "steps", "eval_steps": 1, "distillation_weight": 1.0}
    settings |= {"final_distillation_temperature": 1.0}

    def make(folder):
        config = CurriculumConfig(strategy="pocl", strategy_kwargs={"stages": 3, "patience": 2, "column": "length"})
        rows = dataset(length=list(range(8)))
        return CurriculumDistillationTrainer(
            tiny_model_path, teacher_path, arguments(folder, **settings), rows, dataset(2), curriculum=config
        )

    whole = make(tmp_path)
    stages = history(whole, "curriculum/stage")
    assert stages == [[1], [1], [1], [2], [2], [2], [3], [3]]
    resumed = make(tmp_path / "again")
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    assert plain(resumed.curriculum.state_dict()) == plain(whole.curriculum.state_dict())


def test_without_stages_temperature_and_weight_rise_over_the_steps(tiny_model_path, teacher_path, tmp_path):
    args = arguments(tmp_path, max_steps=3, final_distillation_temperature=3.0, distillation_weight=0.5)
    trainer = CurriculumDistillationTrainer(tiny_model_path, teacher_path, args, dataset(), curriculum="random")
    assert history(trainer, "distillation/temperature", "distillation/weight") == [[1, 0.5], [2, 0.5], [3, 0.5]]


def test_difficulty_is_fused_from_overlap_and_cross_entropy_and_kept_in_a_file(
    tiny_model_path, teacher_path, tmp_path, caplog
):
    model = AutoModelForCausalLM.from_pretrained(tiny_model_path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_path)
    prompts = ["1 + 1 =", "The capital of France is", "x y z q", "One two three"]
    outputs = []
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        output = model.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
        outputs.append(tokenizer.decode(output, skip_special_tokens=True))
    # References that share all, some and none of their words with what the student writes.
    completions = [" 2", f"{outputs[1]} and more words", " monkey", outputs[3]]
    rows = Dataset.from_dict({"prompt": prompts, "completion": completions, "hard": [4.0, 3.0, 2.0, 1.0]})

    def make(rows=rows, strategy="pocl", **changes):
        args = arguments(tmp_path, difficulty_constant=2.0, max_steps=1, **changes)
        return CurriculumDistillationTrainer(tiny_model_path, teacher_path, args, rows, curriculum=strategy)

    with caplog.at_level(logging.INFO, logger="edco_rl.trainers.difficulty_mixin"):
        trainer = make()
        assert "Difficulty of 4 prompts measured" in caplog.text
        caplog.clear()
        again = make()
        assert "measured" not in caplog.text and again.difficulty_path == trainer.difficulty_path
    assert again.difficulty_seconds == trainer.difficulty_seconds > 0
    table = pq.read_table(trainer.difficulty_path)
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    overlap = [scorer.score(*pair)["rougeL"].fmeasure for pair in zip(completions, outputs, strict=True)]
    assert len(set(overlap)) == 3
    entropy = []
    for row in rows:
        ids = tokenizer(row["prompt"], return_tensors="pt")["input_ids"]
        reference = torch.tensor([[*tokenizer(row["completion"])["input_ids"], tokenizer.eos_token_id]])
        logits = model(torch.cat([ids, reference], dim=1)).logits[0, ids.shape[1] - 1 : -1].double()
        entropy.append(-logits.log_softmax(-1).gather(1, reference.T).mean().item())
    assert table["rouge_l"].to_pylist() == pytest.approx(overlap)
    assert table["cross_entropy"].to_pylist() == pytest.approx(entropy, abs=1e-3)

    def ranks(values):
        """From 1, equal values sharing the mean of their ranks."""
        return [1 + sum(w < v for w in values) + (values.count(v) - 1) / 2 for v in values]

    fused = [1 / (2 + a) + 1 / (2 + b) for a, b in zip(ranks([-v for v in overlap]), ranks(entropy), strict=True)]
    expected = ranks([round(-value, 12) for value in fused])
    assert table["difficulty"].to_pylist() == expected
    strategy = trainer.curriculum.strategy
    assert np.argsort(strategy.buffer.scores, kind="stable").tolist() == np.argsort(expected, kind="stable").tolist()
    assert load(trainer.difficulty_path).made_from["constant"] == 2.0
    # Anything the difficulties depend on makes another file, and another column can be among the rankings.
    other = make(difficulty_rankings=["hard", "prefix_entropy"])
    assert pq.read_table(other.difficulty_path).column_names == ["id", "difficulty", "hard", "prefix_entropy"]
    baby_step = CurriculumConfig(strategy="baby_step", strategy_kwargs={"column": "difficulty"})
    alone = make(difficulty_rankings=["hard"], strategy=baby_step)
    assert np.argsort(alone.curriculum.strategy.buffer.scores).tolist() == [3, 2, 1, 0]
    paths = {
        make(changed, **settings).difficulty_path
        for changed, settings in [
            (rows.select([1, 0, 2, 3]), {}),
            (rows, {"difficulty_max_tokens": 4}),
            (rows, {"difficulty_rankings": ["rouge_l"]}),
        ]
    }
    assert len({*paths, trainer.difficulty_path, other.difficulty_path, alone.difficulty_path}) == 6
    trainer.difficulty_path.write_text("no table")
    with pytest.raises(ConfigurationError, match="was altered"):
        make()


def test_on_and_off_policy_batches_are_mixed_by_share_and_resume(tiny_model_path, teacher_path, tmp_path):
    def make(folder):
        args = arguments(folder, lmbda=0.5, max_steps=8, save_strategy="steps", save_steps=3)
        return CurriculumDistillationTrainer(tiny_model_path, teacher_path, args, dataset(), curriculum="random")

    whole = make(tmp_path)
    seen = []
    whole.curriculum.strategy.observe = seen.append
    found = history(whole, "distillation/on_policy", "loss", "completions/mean_length")
    mixed = [entry[0] for entry in found]
    assert set(mixed) == {0.0, 1.0}
    for on_policy, outcomes in zip(mixed, seen, strict=True):
        assert all((outcome.entropy is not None) == bool(on_policy) for outcome in outcomes)
        assert all((outcome.rewards is None) == bool(on_policy) for outcome in outcomes)
    resumed = make(tmp_path / "again")
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert [entry["loss"] for entry in resumed.state.log_history if "loss" in entry] == [entry[1] for entry in found]


@pytest.mark.parametrize("strategy", ["edco", "mopps", "perplexity"])
def test_any_strategy_trains(tiny_model_path, teacher_path, tmp_path, strategy):
    config = CurriculumConfig(
        strategy=strategy, curriculum_interval=2, scoring_prefix_tokens=1, scoring_quick_answer=False
    )
    args = arguments(tmp_path, gradient_accumulation_steps=2, divergence="skewed_forward_kl")
    trainer = CurriculumDistillationTrainer(tiny_model_path, teacher_path, args, dataset(), curriculum=config)
    trainer.train()
    assert trainer.state.global_step == 4 and trainer.curriculum.pool.visits.sum() == 16


def test_a_student_learns_its_teacher(tiny_model_path, teacher_path, tmp_path):
    args = arguments(tmp_path, divergence="jensen_shannon", max_steps=30, learning_rate=1e-2)
    trainer = CurriculumDistillationTrainer(tiny_model_path, teacher_path, args, dataset(), curriculum="random")
    divergences = np.array(history(trainer, "distillation/divergence"))
    assert divergences[-4:].mean() < 0.7 * divergences[:4].mean()


def test_a_cosine_schedule_is_slow_at_both_ends():
    schedule = LossSchedule((1.0, 3.0), (0.5, 1.0), "cosine")
    found = [schedule.at(progress) for progress in (0.0, 0.25, 0.5, 1.0)]
    quarter = (1 - 0.5**0.5) / 2
    assert found == [
        (1.0, 0.5),
        pytest.approx((1 + 2 * quarter, 0.5 + quarter / 2)),
        pytest.approx((2.0, 0.75)),
        (3.0, 1.0),
    ]


def test_cut_references_are_counted(tiny_model_path, teacher_path, tmp_path, caplog):
    args = arguments(tmp_path, max_completion_length=6)
    CurriculumDistillationTrainer(tiny_model_path, teacher_path, args, dataset(), curriculum="random")
    assert "5 of 8 reference responses are cut" in caplog.text


@pytest.mark.parametrize(
    ("changes", "rows", "config", "message"),
    [
        ({}, dataset().remove_columns("completion"), {}, "row 'r0' has no reference answer"),
        ({}, dataset(), {"gates": ["truncated"]}, "judge groups of rollouts"),
        ({}, dataset(), {"strategy": "pocl", "strategy_kwargs": {"patience": 1}}, "eval_strategy is no"),
        ({"difficulty_rankings": ["rouge"]}, dataset(), {"strategy": "pocl"}, "Unknown estimator 'rouge'"),
        ({"difficulty_rankings": ["id"]}, dataset(), {"strategy": "pocl"}, "row 'r0': expected a finite number"),
    ],
)
def test_wrong_input_is_refused(tiny_model_path, teacher_path, tmp_path, changes, rows, config, message):
    with pytest.raises(ConfigurationError, match=message):
        CurriculumDistillationTrainer(
            tiny_model_path,
            teacher_path,
            arguments(tmp_path, **changes),
            rows,
            curriculum=CurriculumConfig(**({"strategy": "random"} | config)),
        )


def test_a_schedule_per_stage_needs_stages_of_known_length(tiny_model_path, teacher_path, tmp_path):
    args = arguments(tmp_path, lr_schedule_per_stage=True)
    trainer = CurriculumDistillationTrainer(tiny_model_path, teacher_path, args, dataset(), curriculum="random")
    with pytest.raises(ConfigurationError, match="needs a strategy with stages"):
        trainer.train()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"divergence": "kl"}, "Unknown divergence 'kl'"),
        ({"distillation_schedule": "steps"}, "distillation_schedule must be one of linear, cosine"),
        ({"lmbda": 1.5}, "lmbda must be a number of at least 0 and at most 1"),
        ({"distillation_weight": -1.0}, "distillation_weight must be a number of at least 0 and at most 1"),
        ({"final_distillation_temperature": 0.0}, "final_distillation_temperature must be a number above 0"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        arguments(tmp_path, **settings)


def test_a_teacher_of_another_vocabulary_is_refused_before_a_model_is_loaded(tiny_model_path, tmp_path):
    config = LlamaConfig.from_pretrained(tiny_model_path, vocab_size=151936)
    config.save_pretrained(tmp_path / "teacher")  # its weights are not there
    with pytest.raises(ConfigurationError, match=r"vocabulary of 4,096 tokens, the teacher one of 151,936"):
        CurriculumDistillationTrainer(tiny_model_path, str(tmp_path / "teacher"), arguments(tmp_path), dataset())
    with pytest.raises(ConfigurationError, match="needs a teacher"):
        CurriculumDistillationTrainer(tiny_model_path, None, arguments(tmp_path), dataset())
