"""What a run's settings come to: batches, groups, rounds, and what scoring costs beside training."""

import math
from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from ..config import ComplexityConfig, CurriculumConfig
from ..curriculum import Curriculum, Pool
from ..data.ids import prompt_ids
from ..data.tokens import RowTokenizer
from ..scoring import RowScorer, estimator_for
from ..trainers.batches import BatchLayout
from ..trainers.difficulty_mixin import DIFFICULTY
from ..trainers.scoring_mixin import SCORED_COLUMNS


def steps_of(training: Any, layout: BatchLayout, pool: int) -> tuple[int, float]:
    """Optimizer steps of a run, and those of one pass over the pool.

    Args:
        training (`TrainingArguments`):
            Settings.
        layout ([`BatchLayout`]):
            How batches are made with them.
        pool (`int`):
            Prompts in the pool.
    """
    a_pass = pool // layout.batch_size * layout.steps_per_batch
    steps = training.max_steps if training.max_steps > 0 else math.ceil(a_pass * training.num_train_epochs)
    return steps, a_pass


def describe_batches(training: Any, curriculum: CurriculumConfig, layout: BatchLayout, pool: int) -> list[str]:
    """Global batch, groups, accumulation, steps and curricula, a sentence each; arguments as of [`steps_of`]."""
    processes, accumulated = training.world_size, training.gradient_accumulation_steps
    size = training.per_device_train_batch_size
    grouped = hasattr(training, "steps_per_generation")
    unit = "completions" if grouped else "rows"
    lines = [
        f"{size} {unit} a process x {processes} process(es) x {accumulated} accumulated = "
        f"{size * processes * accumulated} {unit} an optimizer step"
    ]
    if grouped:
        lines.append(
            f"a generation batch: {layout.batch_size} prompts x {layout.group_size} completions = "
            f"{layout.batch_size * layout.group_size}, for {layout.steps_per_batch:g} optimizer step(s)"
        )
    steps, a_pass = steps_of(training, layout, pool)
    passes = f"{steps / a_pass:.2f} passes" if a_pass else "no whole pass"
    lines.append(f"{steps} optimizer steps: {passes} over {pool} prompts")
    if not isinstance(curriculum, ComplexityConfig):
        drawn = curriculum.curriculum_interval / layout.steps_per_batch * layout.batch_size
        lines.append(
            f"a curriculum: {layout.curriculum_size(curriculum, pool)} prompts, a new one every "
            f"{curriculum.curriculum_interval} steps, which draw {drawn:g}"
        )
    return lines


def make_curriculum(
    rows: Dataset, training: Any, config: CurriculumConfig, layout: BatchLayout, lengths: Sequence[int]
) -> Curriculum:
    """The curriculum of a run as it begins, over rows whose prompts have so many tokens.

    Raises:
        ConfigurationError: The strategy does not take the settings or the rows.
    """

    def column(name: str) -> Sequence[Any]:
        if name in rows.column_names:
            return rows[name]
        known = {"prompt_length": lengths, DIFFICULTY: [0.0] * len(rows)}  # the latter is measured in the run
        return known[name]

    assert not isinstance(config.strategy_kwargs, str)  # the configuration has parsed it
    return Curriculum(
        Pool(prompt_ids(rows), column=column, max_visits=config.curriculum_max_visits),
        config.strategy,
        batch_size=layout.batch_size,
        size=layout.curriculum_size(config, len(rows)),
        seed=training.seed,
        strategy_kwargs=config.strategy_kwargs,
        exploration=config.curriculum_exploration,
        half_life=config.curriculum_half_life,
        fallback=config.curriculum_fallback,
    )


def describe_scoring(
    rows: Dataset,
    training: Any,
    config: CurriculumConfig,
    layout: BatchLayout,
    tokenizer: RowTokenizer,
    most: int | None,
) -> list[str]:
    """What scoring costs, a sentence each.

    Args:
        rows (`datasets.Dataset`):
            The pool.
        training (`TrainingArguments`), config (`CurriculumConfig`), layout ([`BatchLayout`]):
            Settings, and the batches they make.
        tokenizer ([`RowTokenizer`]):
            Makes token ids of rows.
        most (`int`, *optional*):
            Tokens the engine takes, where a setting says so.

    Raises:
        ConfigurationError: The rows lack what the estimator needs, or are too long.
    """
    scored = rows.select_columns([name for name in SCORED_COLUMNS if name in rows.column_names])
    lengths = list(map(len, tokenizer.prompts(scored.to_list())))
    wanted, estimator, renewals, looked_into = len(rows), None, 1, False  # complexity-aware scores all rows once
    if not isinstance(config, ComplexityConfig):
        curriculum = make_curriculum(rows, training, config, layout, lengths)
        strategy = curriculum.strategy
        wanted = len(curriculum.wants(config.curriculum_candidates))
        estimator = estimator_for(strategy, scored, tokenizer)
        looked_into = strategy.needs_hidden_states
        renewals = math.ceil(steps_of(training, layout, len(rows))[0] / config.curriculum_interval)
    if not wanted:
        return [f"strategy {config.strategy} asks for no scores"]
    scorer = RowScorer(tokenizer, config, estimator=estimator)
    scorer.check_columns(scored.column_names)
    encoded = scorer.encode(scored.to_list())
    scorer.check_fit(encoded, most, lambda number: f"Row {number}")
    read = round(encoded.tokens() / len(rows) * wanted)
    request = scorer.request
    generated = 0 if request.evidence == "reference" else wanted * request.max_tokens * request.samples
    lines = [
        f"{wanted} of {len(rows)} prompts with {scorer.name}: {read} tokens read, at most {generated} generated",
        "once" if isinstance(config, ComplexityConfig) else f"at most {renewals} times, before a curriculum each",
    ]
    if looked_into:
        lines.append("each time the trainer computes hidden states of these prompts, and of those it learns from")
    if hasattr(training, "steps_per_generation"):
        batches = config.curriculum_interval / layout.steps_per_batch
        completions = batches * layout.batch_size * layout.group_size
        lines.append(
            f"rollouts between two scorings: {completions:g} completions, at most "
            f"{completions * training.max_completion_length:g} tokens generated"
        )
    return lines
