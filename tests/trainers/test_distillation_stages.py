"""Between the stages of a distillation, as POCL's code has it: schedules, optimizer, weights of the next stage."""

import numpy as np
import pytest
import torch
from rouge_score.rouge_scorer import RougeScorer
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, TrainerCallback

from edco_rl import (
    ConfigurationError,
    CurriculumConfig,
    CurriculumDistillationConfig,
    CurriculumDistillationTrainer,
)
from edco_rl.curriculum import Curriculum, Pool
from edco_rl.trainers.distillation_schedule import LossSchedule, steps_of_stages
from edco_rl.trainers.distillation_stages import BEST_FILE
from edco_rl.trainers.rounds import schedule_in_parts

from ..conftest import TINY_VOCABULARY
from .test_distillation import arguments, dataset, exact_loss, history, teacher_path  # noqa: F401 (a fixture)

ROWS = 11_435


def strategy_of(rows=ROWS, batch_size=64, **settings):
    """POCL over rows that lie from easy to hard."""
    pool = Pool([str(i) for i in range(rows)], lambda epoch: np.arange(rows), column=lambda name: list(range(rows)))
    kwargs = {"stages": 4, "stage_passes": 8} | settings
    return Curriculum(pool, "pocl", batch_size=batch_size, size=batch_size, strategy_kwargs=kwargs).strategy


def test_the_stages_of_pocl_are_as_long_as_in_its_logs():
    """Quarters of about 11,400 rows, 8 passes each without the rest of a batch: the iterations of t0 to t3."""
    strategy = strategy_of()
    assert strategy.stage_lengths(64) == [352, 712, 1064, 1424]
    schedule = LossSchedule.of(CurriculumDistillationConfig(output_dir="unused", bf16=False), strategy)
    seen, settings, passes = [set() for _ in range(4)], [], [0] * 4
    for stage, batches in enumerate(strategy.stage_lengths(64)):
        for _ in range(batches):
            seen[stage].update(strategy.select(64).tolist())
            settings.append((stage, *schedule.at(strategy.progress())))
            passes[stage] += strategy.ends_pass(64)
    assert passes == [8] * 4
    # The remainder of 11,435 / 4 is in the last stage alone.
    assert [max(rows) + 1 for rows in seen] == [2858, 5716, 8574, 11435]
    assert [(round(t, 2), round(w, 2)) for _, t, w in dict.fromkeys(settings)] == [
        (1.0, 0.7),
        (1.33, 0.8),
        (1.67, 0.9),
        (2.0, 1.0),
    ]


def test_each_stage_has_a_cosine_of_its_own_down_to_the_lowest_rate():
    """torch's own schedule, made anew in each stage."""
    lengths = [352, 712, 1064, 1424]
    args = CurriculumDistillationConfig(
        output_dir="unused",
        bf16=False,
        learning_rate=1e-4,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr": 1e-7},
    )
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=args.learning_rate)
    steps = steps_of_stages(strategy_of(), 64, sum(lengths))
    schedule = schedule_in_parts(optimizer, args, steps, "lr_schedule_per_stage")
    for length in lengths:
        own = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=1e-4)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(own, T_max=length, eta_min=1e-7)
        for step in range(length):
            assert schedule.get_last_lr()[0] == pytest.approx(cosine.get_last_lr()[0], rel=1e-6)
            assert step > 0 or schedule.get_last_lr()[0] == pytest.approx(1e-4)
            for one in (optimizer, own):
                one.step()
            schedule.step()
            cosine.step()


class Weights(TrainerCallback):
    """Copies of the weights before and after each step, the rows of it, and what was measured after it."""

    def __init__(self, trainer):
        self.trainer = trainer
        self.before, self.after, self.rows, self.overlap = {}, {}, {}, {}
        trainer.add_callback(self)

    def _copy(self):
        return {name: p.detach().clone() for name, p in self.trainer.model.named_parameters()}

    def on_step_begin(self, args, state, control, **kwargs):
        self.before[state.global_step + 1] = self._copy()

    def on_step_end(self, args, state, control, **kwargs):
        self.after[state.global_step] = self._copy()
        self.rows[state.global_step] = self.trainer.curriculum.batch.tolist()
        measured = self.trainer._metrics["train"].get("distillation/rouge_l")
        if measured:
            self.overlap[state.global_step] = measured[-1]


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def pocl(student, teacher, folder, evaluated=None, stages=2, stage_passes=3, anew=False, **changes):
    """Two stages of 2 and 4 batches a pass: 6 and 12 steps."""
    kwargs = {"stages": stages, "stage_passes": stage_passes}
    config = CurriculumConfig(strategy="pocl", strategy_kwargs=kwargs, curriculum_reset_optimizer=anew)
    args = arguments(folder, **({"max_steps": -1, "learning_rate": 1e-2, "lr_scheduler_type": "constant"} | changes))
    answers = [f" {number} and that is all" for number in range(8)]
    rows = dataset(difficulty=list(range(8)), completion=answers)
    return CurriculumDistillationTrainer(student, teacher, args, rows, evaluated, curriculum=config)


def outputs(path, prompts, weights=None):
    """Greedy outputs of a model with these weights, one prompt at a time."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    if weights is not None:
        model.load_state_dict(weights, strict=False)
        model.tie_weights()
    texts = []
    for prompt in prompts:
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        output = model.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1] :]
        texts.append(tokenizer.decode(output, skip_special_tokens=True))
    return texts


@pytest.fixture(scope="module")
def plain(tiny_model_path, teacher_path, tmp_path_factory):  # noqa: F811
    """A run in which each stage starts from the last weights of the one before."""
    trainer = pocl(tiny_model_path, teacher_path, tmp_path_factory.mktemp("plain"))
    weights = Weights(trainer)
    trainer.train()
    return weights


@pytest.fixture(scope="module")
def evaluated(tiny_model_path, plain):
    """References that are what the student answers after the second pass of the first stage."""
    rows = dataset(6)
    answers = outputs(tiny_model_path, rows["prompt"], plain.after[4])
    return rows.remove_columns("completion").add_column("completion", answers)


def test_a_run_ends_with_its_last_stage_and_each_starts_from_the_last_weights(plain):
    assert sorted(plain.after) == list(range(1, 19)) and not plain.overlap
    assert all(same(plain.after[step], plain.before[step + 1]) for step in range(1, 18))


def test_a_stage_starts_from_the_best_weights_of_the_one_before_also_after_a_restart(
    tiny_model_path,
    teacher_path,  # noqa: F811
    tmp_path,
    plain,
    evaluated,
):
    settings = {"stage_checkpoint": "best_rouge_l", "save_strategy": "steps", "save_steps": 5}
    trainer = pocl(tiny_model_path, teacher_path, tmp_path, evaluated, **settings)
    whole = Weights(trainer)
    trainer.train()
    # Passes of 2 batches and then of 4; measuring changes nothing.
    assert list(whole.overlap) == [2, 4, 6, 10, 14, 18]
    assert all(same(whole.after[step], plain.after[step]) for step in range(1, 7))
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    for step in (2, 4, 6, 10):
        answers = outputs(tiny_model_path, evaluated["prompt"], whole.after[step])
        pairs = zip(evaluated["completion"], answers, strict=True)
        assert whole.overlap[step] == pytest.approx(
            np.mean([scorer.score(*pair)["rougeL"].fmeasure for pair in pairs])
        )
    logged = {
        entry["step"]: entry.get("distillation/rouge_l") for entry in trainer.state.log_history if "loss" in entry
    }
    assert logged[4] == whole.overlap[4] == 1.0 and logged[5] is None

    # The best of the first stage is its second pass, not the last.
    assert max(whole.overlap[2], whole.overlap[6]) < 1.0
    assert same(whole.before[7], whole.after[4]) and not same(whole.before[7], whole.after[6])
    # Training ends with the best of the last stage, the first of those of equal overlap.
    best = max((10, 14, 18), key=lambda step: (whole.overlap[step], -step))
    last = {name: p.detach() for name, p in trainer.model.named_parameters()}
    assert same(last, whole.after[best])
    assert not (tmp_path / BEST_FILE).exists()  # they are the model's now

    # A checkpoint in the middle of the first stage and one of the second, each with all a restart needs.
    for step in (5, 10, 15):
        again = pocl(tiny_model_path, teacher_path, tmp_path / f"again-{step}", evaluated, **settings)
        resumed = Weights(again)
        again.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        assert resumed.overlap == {s: value for s, value in whole.overlap.items() if s > step}
        assert all(same(resumed.before[s], whole.before[s]) for s in range(step + 1, 19))
        assert same({name: p.detach() for name, p in again.model.named_parameters()}, last)

    path = tmp_path / "checkpoint-5" / BEST_FILE
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    again = pocl(tiny_model_path, teacher_path, tmp_path / "altered", evaluated, **settings)
    with pytest.raises(ConfigurationError, match="was altered since it was made"):
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))


@pytest.mark.parametrize("anew", [True, False])
def test_a_stage_begins_with_a_new_optimizer(tiny_model_path, teacher_path, tmp_path, anew):  # noqa: F811
    """The first step of the second stage is that of a new AdamW on the gradient of its rows."""
    settings = {"max_steps": 3, "adam_epsilon": 1e-4, "weight_decay": 0.01, "divergence": "forward_kl"}
    trainer = pocl(tiny_model_path, teacher_path, tmp_path, stage_passes=1, anew=anew, **settings)
    weights = Weights(trainer)
    [*_, [temperature, weight]] = history(trainer, "distillation/temperature", "distillation/weight")
    assert (temperature, weight) == (2.0, 1.0)
    student, teacher = (AutoModelForCausalLM.from_pretrained(path) for path in (tiny_model_path, teacher_path))
    student.load_state_dict(weights.before[3], strict=False)
    student.tie_weights()
    rows = [trainer.train_dataset[i] for i in weights.rows[3]]
    exact_loss(student, teacher, trainer.processing_class, rows, temperature, weight, "forward_kl").backward()
    torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    norms = {name: p for name, p in student.named_parameters() if "norm" in name}
    others = [p for name, p in student.named_parameters() if name not in norms]
    groups = [{"params": others, "weight_decay": 0.01}, {"params": list(norms.values()), "weight_decay": 0.0}]
    torch.optim.AdamW(groups, lr=1e-2, eps=1e-4).step()
    expected = dict(student.named_parameters())
    steps = {name: weights.after[3][name] - weights.before[3][name] for name in expected}
    wanted = {name: p.detach() - weights.before[3][name] for name, p in expected.items()}
    close = [torch.allclose(steps[name], wanted[name], atol=2e-4) for name in expected]
    assert all(close) == anew


def test_biases_and_norms_of_gpt2_do_not_decay(tiny_model_path, tmp_path):
    config = GPT2Config(vocab_size=TINY_VOCABULARY, n_positions=64, n_embd=16, n_layer=1, n_head=2, eos_token_id=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    AutoTokenizer.from_pretrained(tiny_model_path).save_pretrained(tmp_path / "gpt2")
    model = str(tmp_path / "gpt2")
    trainer = pocl(model, model, tmp_path, stage_passes=1, weight_decay=0.01)
    trainer.create_optimizer()
    decay = {id(p): group["weight_decay"] for group in trainer.optimizer.param_groups for p in group["params"]}
    for name, parameter in trainer.model.named_parameters():
        assert decay[id(parameter)] == (0.0 if name.endswith("bias") or ".ln_" in name else 0.01), name
    trainer.train()
    assert trainer.state.global_step == 6


def test_outputs_can_be_sampled_and_where_validation_ends_a_stage_its_last_weights_are_measured(
    tiny_model_path,
    teacher_path,  # noqa: F811
    tmp_path,
    evaluated,
):
    """At rate 0 a stage lasts its first evaluation and one more: 2 batches of 4, which is less than a pass."""
    kwargs = {"stages": 2, "patience": 1, "column": "length"}
    config = CurriculumConfig(strategy="pocl", strategy_kwargs=kwargs)
    settings = {"max_steps": 4, "learning_rate": 0.0, "eval_strategy": "steps", "eval_steps": 1}
    settings |= {"distillation_weight": 1.0, "final_distillation_temperature": 1.0, "per_device_train_batch_size": 1}
    settings |= {"stage_checkpoint": "best_rouge_l", "stage_checkpoint_temperature": 1.0}
    rows = dataset(length=list(range(8)))

    def run(folder):
        trainer = CurriculumDistillationTrainer(
            tiny_model_path, teacher_path, arguments(folder, **settings), rows, evaluated, curriculum=config
        )
        trainer.train()
        steps = [entry for entry in trainer.state.log_history if "loss" in entry]
        return [(entry["curriculum/stage"], entry.get("distillation/rouge_l")) for entry in steps]

    found = run(tmp_path / "first")
    assert [stage for stage, _ in found] == [1, 1, 2, 2]
    # Measured as the second stage begins, and at the end of training.
    assert [overlap is None for _, overlap in found] == [True, True, False, False]
    assert run(tmp_path / "second") == found


@pytest.mark.parametrize(
    ("settings", "strategy", "rows", "message"),
    [
        ({"stage_checkpoint": "best"}, "pocl", None, "stage_checkpoint must be one of last, best_rouge_l; got 'best'"),
        ({"stage_checkpoint": "best_rouge_l"}, "pocl", None, "references of an evaluation set, and there is none"),
        ({"stage_checkpoint": "best_rouge_l"}, "random", dataset(2), "needs a strategy with stages, as baby_step"),
        (
            {"stage_checkpoint": "best_rouge_l"},
            "pocl",
            dataset(2).remove_columns("completion"),
            "row 'r0' has no reference answer",
        ),
    ],
)
def test_stages_that_cannot_be_had_are_refused(
    tiny_model_path,
    teacher_path,  # noqa: F811
    tmp_path,
    settings,
    strategy,
    rows,
    message,
):
    with pytest.raises(ConfigurationError, match=message):
        CurriculumDistillationTrainer(
            tiny_model_path,
            teacher_path,
            arguments(tmp_path, **settings),
            dataset(difficulty=list(range(8))),
            rows,
            curriculum=strategy,
        )
