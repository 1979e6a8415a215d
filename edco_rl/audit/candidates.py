"""The estimators an audit compares."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

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


def full_sequence(config: EstimatorConfig) -> Candidate:
    """One full sequence a prompt: the unit of cost."""
    return _describe(replace(config, estimator="sequence_entropy", scoring_samples=1, scoring_temperature=1.0))


def default_candidates(config: EstimatorConfig, columns: Sequence[str]) -> list[Candidate]:
    """The estimators of the package that rows with these columns allow, but for those full sequences give."""
    candidates = [
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
    single = replace(config, scoring_samples=1, scoring_temperature=0.0)
    if "options" in columns:
        candidates.append(replace(single, estimator="option_entropy"))
    if {"completion", "answer"} & set(columns):
        candidates += [replace(single, estimator=name) for name in ("perplexity", "surprisal", "learnability")]
    return list(map(_describe, candidates))


def free(config: EstimatorConfig) -> Candidate:
    """What a full sequence that was made anyway says by the log-probabilities of its own tokens."""
    return _describe(replace(config, estimator="rollout_entropy", scoring_samples=1, scoring_temperature=1.0))


def named_candidates(config: EstimatorConfig, names: Sequence[str]) -> list[Candidate]:
    """Estimators by name, with the settings given."""
    return [_describe(replace(config, estimator=name)) for name in names]


def _describe(config: EstimatorConfig) -> Candidate:
    request = make_estimator(config).request()
    words = [config.estimator]
    if request.evidence == "continuation":
        words.append(f"{request.max_tokens} token{'s' * (request.max_tokens > 1)}")
        words.append("greedy" if request.temperature == 0 else f"{request.samples} at T={request.temperature:g}")
    if request.quick_answer:
        words.append("quick answer")
    return Candidate(f"{words[0]} ({', '.join(words[1:])})" if words[1:] else words[0], config)
