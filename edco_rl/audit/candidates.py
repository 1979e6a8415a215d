"""The estimators an audit compares."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..config import EstimatorConfig
from ..entropy import make_estimator


@dataclass(frozen=True)
class Candidate:
    """An estimator with its settings.

    Args:
        label (`str`):
            What tables and plots call it.
        config (`EstimatorConfig`):
            Estimator and settings.
    """

    label: str
    config: EstimatorConfig

    @property
    def is_sampled(self) -> bool:
        """Whether two measurements differ by chance."""
        request = make_estimator(self.config).request()
        return request.temperature > 0 and request.evidence == "continuation"


# Tokens, samples, temperature, quick answer: from one greedy token to several sampled prefixes.
_PREFIXES = [
    (1, 1, 0.0, True),
    (4, 1, 0.0, True),
    (16, 1, 0.0, True),
    (1, 1, 0.0, False),
    (4, 1, 0.0, False),
    (16, 1, 0.0, False),
    (16, 4, 1.0, False),
    (4, 8, 1.0, False),
]


# They need whole answers of the policy: who has these has their rewards too.
FULL_SEQUENCE_ESTIMATORS = ("sequence_entropy", "rollout_entropy")

# The score of EDCO's released code: recipes/communication/grpo_edco_released.yaml says where each part comes from.
EDCO_RELEASED: dict[str, Any] = {
    "estimator": "prefix_entropy",
    "scoring_prefix_tokens": 128,
    "scoring_samples": 1,
    "scoring_temperature": 0.7,
    "scoring_top_p": 0.7,
    "scoring_top_logprobs": 20,
    "scoring_logprobs": "model",
    "scoring_tail": "renormalised",
    "scoring_largest_share": 0.2,
    "scoring_chat_template": False,
    "scoring_quick_answer": True,
    "scoring_quick_answer_place": "before",
    "scoring_quick_answer_instruction": "Answer in at most three sentences. Where reasoning is needed, keep it as "
    "short as it can be. The question:",
}


def full_sequence(config: EstimatorConfig, temperature: float, top_p: float) -> Candidate:
    """One full sequence a prompt, sampled as in training: the unit of cost."""
    return _sampled(config, "sequence_entropy", temperature, top_p)


def default_candidates(config: EstimatorConfig, columns: Sequence[str]) -> list[Candidate]:
    """The estimator configured, and those of the package that rows with these columns allow, each form once.

    Those that full sequences give are left out.
    """
    candidates = [config] if config.estimator not in FULL_SEQUENCE_ESTIMATORS else []
    candidates += [
        replace(
            config,
            estimator="prefix_entropy",
            scoring_prefix_tokens=tokens,
            scoring_samples=samples,
            scoring_temperature=temperature,
            scoring_quick_answer=quick,
        )
        for tokens, samples, temperature, quick in _PREFIXES
    ]
    candidates.append(replace(config, **EDCO_RELEASED))
    single = replace(config, scoring_samples=1, scoring_temperature=0.0)
    if "options" in columns:
        candidates.append(replace(single, estimator="option_entropy"))
    if {"completion", "answer"} & set(columns):
        candidates += [replace(single, estimator=name) for name in ("perplexity", "surprisal", "learnability")]
    unique: dict[str, Candidate] = {}
    for candidate in map(_describe, candidates):
        unique.setdefault(candidate.label, candidate)
    return list(unique.values())


def free(config: EstimatorConfig, temperature: float, top_p: float) -> Candidate:
    """What a full sequence that was made anyway says by the log-probabilities of its own tokens."""
    return _sampled(config, "rollout_entropy", temperature, top_p)


def named_candidates(config: EstimatorConfig, names: Sequence[str]) -> list[Candidate]:
    """Estimators by name, with the settings given."""
    return [_describe(replace(config, estimator=name)) for name in names]


def _sampled(config: EstimatorConfig, estimator: str, temperature: float, top_p: float) -> Candidate:
    sampling: dict[str, Any] = {"scoring_samples": 1, "scoring_temperature": temperature, "scoring_top_p": top_p}
    return _describe(replace(config, estimator=estimator, **sampling))


def _describe(config: EstimatorConfig) -> Candidate:
    request = make_estimator(config).request()
    words = [config.estimator]
    if request.evidence == "continuation":
        words.append(f"{request.max_tokens} token{'s' * (request.max_tokens > 1)}")
        nucleus = f", top-p {request.top_p:g}" * (request.top_p < 1)
        sampled = f"{request.samples} at T={request.temperature:g}{nucleus}"
        words.append("greedy" if request.temperature == 0 else sampled)
        if config.scoring_largest_share < 1:
            words.append(f"largest {config.scoring_largest_share:.0%}")
    if request.quick_answer:
        words.append("quick answer")
    if not config.scoring_chat_template:
        words.append("no chat template")
    return Candidate(f"{words[0]} ({', '.join(words[1:])})" if words[1:] else words[0], config)
