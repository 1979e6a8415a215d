"""`edco-rl audit`: measures estimators and the pool on a sample of a data set, and says what to use."""

import json
import os
import sys
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from rich.console import Console
from transformers import AutoConfig, AutoTokenizer

from ..config import AuditConfig, DataConfig, EngineConfig, EstimatorConfig
from ..data.load import iter_rows, load_prompts
from ..data.overlap import count_overlaps
from ..data.tokens import RowTokenizer
from ..engine.launch import check_installed
from ..errors import ConfigurationError
from ..rewards import default_reward, get_rewards
from ..runs.provenance import versions
from ..runs.score import open_backend
from ..runs.settings import check_model
from ..scoring import RowScorer
from ..statistics import FloatArray, rank_correlation, ratio_of_means, roc_auc, with_interval
from ..store import model_fingerprint, plain, rows_fingerprint, write_json, write_whole
from .auditor import Auditor, Measurement
from .candidates import default_candidates, free, full_sequence, named_candidates
from .pool import look_at_pool
from .reliability import reliability_interval, single_sample_reliability
from .report import print_report, recommend, save_plot
from .supervised import look_at_references, look_at_rows

# Settings that do not change what a step measures.
_WITHOUT_EFFECT = (
    "output_dir",
    "json",
    "cost_limit",
    "estimators",
    "skipped_rows_file",
    "eval_dataset_name",
    "num_generations",
    "curriculum_share",
)


def run_audit(
    audit: AuditConfig, estimator: EstimatorConfig, engine: EngineConfig, data: DataConfig
) -> dict[str, Any]:
    """Compare estimators and curricula, print the result, and write it to `audit.output_dir`.

    Returns:
        `dict[str, Any]`: what `audit.json` holds.

    Raises:
        ConfigurationError: A setting or row to be changed.
    """
    assert audit.model_name_or_path and audit.dataset_name
    if estimator.scoring_reference_temperature is None:  # as a trainer does
        estimator = replace(estimator, scoring_reference_temperature=audit.temperature)
    defaults = EstimatorConfig(scoring_reference_temperature=estimator.scoring_reference_temperature)
    estimator, defaults = (each.for_prompts_with(data.system_prompt) for each in (estimator, defaults))
    console = Console(stderr=True)
    model = os.path.expanduser(audit.model_name_or_path)
    check_installed(engine)
    check_model(model)
    rows, overlap = _sample(audit, data)
    tokenizer = AutoTokenizer.from_pretrained(model)
    width = AutoConfig.from_pretrained(model).get_text_config().vocab_size
    reward_name = audit.reward_func or default_reward(rows.column_names)
    [reward] = get_rewards([reward_name], audit.reward_kwargs) if reward_name else [None]  # type: ignore[arg-type]
    candidates = (
        default_candidates(estimator, rows.column_names)
        if audit.estimators is None
        else named_candidates(estimator, audit.estimators)
    )
    assert not isinstance(audit.chat_template_kwargs, str)  # the configuration has parsed it
    row_tokenizer = RowTokenizer(tokenizer, audit.chat_template_kwargs)
    for candidate in candidates:
        RowScorer(row_tokenizer, candidate.config).check_columns(rows.column_names)
    folder = Path(audit.output_dir).expanduser()
    made_from = {
        **asdict(audit),
        **asdict(estimator),
        **asdict(data),
        "engine_mode": engine.engine_mode,
        "reward": reward_name,
        "model": model_fingerprint(model),
        "rows": rows_fingerprint(rows),
    }
    for name in _WITHOUT_EFFECT:
        made_from.pop(name)
    # Standard output is for the result alone, whatever a library has to say.
    with redirect_stdout(sys.stderr), open_backend(engine, model, tokenizer, folder / "engine.log") as source:
        measurements, log = folder / "measurements", lambda text: console.print(text, style="dim")
        auditor = Auditor(rows, row_tokenizer, source, width, measurements, made_from, reward, log)
        as_in_training = (audit.temperature, audit.top_p)
        unit, rollout = full_sequence(estimator, *as_in_training), free(estimator, *as_in_training)
        auditor.check_lengths([*candidates, unit])
        measured = [auditor.measure(candidate) for candidate in candidates]
        full, rollouts = auditor.full_sequences(unit, rollout)
        greedy = auditor.greedy_rewards(estimator.scoring_sequence_tokens)
        references = auditor.reference(estimator, audit.reference_samples, *as_in_training)
    reference = references["values"]
    wrong = np.where(np.isnan(greedy), np.nan, greedy < 1.0)
    variance = references["rewards"].var(axis=1)
    entries = [_entry(m, full, reference, wrong, variance, audit.seed) for m in [*measured, rollouts, full]]
    reliability = reliability_interval(reference, seed=audit.seed)
    result: dict[str, Any] = {
        "model": audit.model_name_or_path,
        "dataset": audit.dataset_name,
        "prompts": len(rows),
        "overlap": overlap,
        "reference": {
            "samples": audit.reference_samples,
            "temperature": audit.temperature,
            "top_p": audit.top_p,
            "max_tokens": estimator.scoring_sequence_tokens,
            "mean_tokens": float(references["lengths"].mean()),
            "reliability": asdict(reliability),
            "single_sample_reliability": single_sample_reliability(reliability.value, audit.reference_samples),
            "ceiling": float(np.sqrt(max(reliability.value, 0.0))),
        },
        "reward": reward_name,
        "wrong_answers": _mean(wrong),
        "full_sequence_seconds": float(np.mean(full.seconds)),
        "estimators": entries,
        **look_at_pool(references["rewards"], measured, audit, estimator, defaults),
        "supervised": look_at_rows(measured, wrong, defaults, audit.seed),
        "references": look_at_references(measured, audit.curriculum_share, audit.seed),
        "versions": versions(),
        "config": {"audit": asdict(audit), "estimator": asdict(estimator), "engine": asdict(engine)},
    }
    result["recommendation"] = recommend(result, audit.cost_limit)
    write_json(folder / "audit.json", result)
    write_whole(folder / "audit.svg", lambda draft: save_plot(result, audit.cost_limit, draft))
    if audit.json:
        print(json.dumps(plain(result)))
    else:
        print_report(result, folder)
    return plain(result)


def _entry(
    found: Measurement,
    full: Measurement,
    reference: FloatArray,
    wrong: FloatArray,
    variance: FloatArray,
    seed: int,
) -> dict[str, Any]:
    first, second = found.values
    # The full sequence was drawn apart from the reference: agreement with it is no autocorrelation.
    return {
        "label": found.candidate.label,
        "estimator": found.candidate.config.estimator,
        "settings": asdict(found.candidate.config),
        "reliability_over": "repetition" if found.candidate.is_sampled else "rewording",
        "reliability": asdict(with_interval(rank_correlation, first, second, seed=seed)),
        "reference_correlation": asdict(with_interval(rank_correlation, first, reference.mean(axis=1), seed=seed)),
        "wrong_answer_auc": asdict(with_interval(roc_auc, first, wrong, seed=seed)),
        "reward_variance_correlation": asdict(with_interval(rank_correlation, first, variance, seed=seed)),
        "relative_seconds": asdict(
            with_interval(ratio_of_means, found.seconds, full.seconds, paired=False, seed=seed)
        ),
        "relative_tokens": asdict(with_interval(ratio_of_means, found.tokens, full.tokens, seed=seed)),
        "seconds": float(np.mean(found.seconds)),
        "tokens": int(found.tokens.sum()),
    }


def _sample(audit: AuditConfig, data: DataConfig) -> tuple[Dataset, dict[str, Any] | None]:
    """The rows that are audited, and how much of `eval_dataset_name` is in the data set they are drawn from."""
    assert audit.dataset_name
    settings = asdict(data) | {"held_out_prompts": 0}
    rows, _ = load_prompts(
        audit.dataset_name,
        config_name=audit.dataset_config,
        train_split=audit.dataset_train_split,
        seed=audit.seed,
        **settings,
    )
    if len(rows) < audit.samples:
        raise ConfigurationError(
            f"dataset_name {audit.dataset_name!r} has {len(rows)} rows; samples is {audit.samples}."
        )
    overlap = None
    if data.eval_dataset_name is not None:
        settings |= {"train_prompts": None, "skipped_rows_file": os.devnull}  # the list is that of the audited rows
        held_out = iter_rows(data.eval_dataset_name, split="test", seed=audit.seed, **settings)
        found = count_overlaps((row["prompt"] for row in held_out), rows["prompt"])
        overlap = found.report("held-out prompts", audit.dataset_name)
    return rows.shuffle(seed=audit.seed).select(range(audit.samples)), overlap


def _mean(values: FloatArray) -> float:
    """Mean of what is known; NaN of nothing."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
