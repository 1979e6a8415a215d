"""The estimators of the package."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .estimator import Estimator, Request, Score, TokenLogprobs, standard_error
from .topk import FloatArray, TokenEntropy, at_temperature, entropy_from_top_logprobs, renormalised_entropy

# Rollouts are sampled: a configuration that scores greedily says nothing about their temperature.
_ROLLOUT_TEMPERATURE = 1.0


class SequenceEntropy(Estimator):
    """Mean entropy of the next-token distribution over a whole answer: the reference other estimators approximate.

    Each sample counts with its mean over tokens, or over the largest of them (`scoring_largest_share`), whatever its
    length (EDCO, arXiv 2601.03725, inference entropy). The prompt is left as it is. At most `scoring_sequence_tokens`
    tokens are generated.
    """

    def request(self) -> Request:
        return Request(
            max_tokens=self.config.scoring_sequence_tokens,
            samples=self.config.scoring_samples,
            temperature=self.config.scoring_temperature,
            top_logprobs=self.config.scoring_top_logprobs,
            top_p=self.config.scoring_top_p,
            model_logprobs=self.config.scoring_logprobs == "model" and self.config.scoring_temperature > 0,
        )

    def token_entropy(self, sample: TokenLogprobs, vocabulary_size: int) -> TokenEntropy:
        """Entropy at each position of a sample."""
        if self.config.scoring_tail == "bounds":
            return entropy_from_top_logprobs(sample.top_logprobs, vocabulary_size)
        # The generated token counts, also where it is not among the largest.
        own = sample.logprobs[:, None]
        known = np.hstack([sample.top_logprobs, np.where(own < sample.top_logprobs[:, -1:], own, -np.inf)])
        entropy = renormalised_entropy(known)
        return TokenEntropy(entropy, entropy, entropy)

    def _mean_of_largest(self, values: FloatArray) -> float:
        count = max(1, int(self.config.scoring_largest_share * len(values)))
        return float(np.sort(values)[-count:].mean())

    def score(self, samples: Sequence[TokenLogprobs], vocabulary_size: int) -> Score:
        per_sample = []
        for sample in samples:
            entropy = self.token_entropy(sample, vocabulary_size)
            per_sample.append(tuple(map(self._mean_of_largest, (entropy.estimate, entropy.lower, entropy.upper))))
        value, lower, upper = np.mean(per_sample, axis=0)
        return Score(
            value=float(value),
            standard_error=standard_error([estimate for estimate, _, _ in per_sample]),
            lower=float(lower),
            upper=float(upper),
            tokens=sum(len(sample.top_logprobs) for sample in samples),
        )


class PrefixEntropy(SequenceEntropy):
    """Prefix entropy with quick-answer prompting (EDCO, arXiv 2601.03725).

    The mean entropy of the next-token distribution over the first `scoring_prefix_tokens` generated tokens, fewer
    where the model ends earlier (its end-of-sequence token counts), averaged over samples. With one greedy
    continuation it is a deterministic function of prompt and policy.
    """

    def request(self) -> Request:
        return replace(
            super().request(),
            max_tokens=self.config.scoring_prefix_tokens,
            quick_answer=self.config.scoring_quick_answer,
        )


class AnswerEntropy(SequenceEntropy):
    """Entropy of the first answer token over the whole vocabulary (complexity-aware fine-tuning, arXiv 2506.21220).

    For prompts whose answer is a single token. The distribution of the first token does not depend on what is
    sampled, so one greedy token is generated.
    """

    def request(self) -> Request:
        return Request(top_logprobs=self.config.scoring_top_logprobs, quick_answer=self.config.scoring_quick_answer)


class OptionEntropy(Estimator):
    """Entropy of the answer token over the option labels only, their probabilities normalised to one.

    For multiple-choice rows: it is zero where the policy is sure of one option, and log(number of options) where it
    cannot tell them apart. Nothing of the distribution is left out, so both bounds are the value.
    """

    def request(self) -> Request:
        return Request(evidence="labels", quick_answer=self.config.scoring_quick_answer)

    def score(self, samples: Sequence[TokenLogprobs], vocabulary_size: int) -> Score:
        [value] = renormalised_entropy(samples[0].top_logprobs).tolist()
        return Score(value, float("nan"), lower=value, upper=value, tokens=1)


class Perplexity(Estimator):
    """Logarithm of the perplexity of the reference answer: minus its mean log-probability a token, in nats."""

    def request(self) -> Request:
        return Request(evidence="reference")

    def score(self, samples: Sequence[TokenLogprobs], vocabulary_size: int) -> Score:
        logprobs = samples[0].logprobs
        value = -float(np.mean(logprobs))
        return Score(value, float("nan"), lower=value, upper=value, tokens=len(logprobs))


class Surprisal(Estimator):
    """Surprisal of the reference answer: minus its whole log-probability, in nats.

    At the temperature rollouts are sampled at (`scoring_reference_temperature`): exp(-surprisal) is then the chance
    that one begins with the reference. The end of the turn is left out: a policy that is sure of an answer, but goes
    on after it, is not surprised.
    """

    def request(self) -> Request:
        top = 0 if self._temperature == 1 else self.config.scoring_top_logprobs
        return Request(evidence="reference", end_of_turn=False, top_logprobs=top)

    @property
    def _temperature(self) -> float:
        given = self.config.scoring_reference_temperature
        return 1.0 if given is None else given

    def score(self, samples: Sequence[TokenLogprobs], vocabulary_size: int) -> Score:
        logprobs = samples[0].logprobs
        found = (logprobs,) * 3
        if self._temperature != 1:
            found = at_temperature(logprobs, samples[0].top_logprobs, self._temperature, vocabulary_size)
        # Rounding can make a certain answer more than certain.
        value, upper, lower = (max(-float(np.sum(values)), 0.0) for values in found)
        return Score(value, float("nan"), lower=lower, upper=upper, tokens=len(logprobs))


class Learnability(Surprisal):
    """Variance p (1 - p) of a reward that only the reference answer earns; p is the policy's probability of it.

    Highest where the policy is right half of the time, so that groups of rollouts differ in reward (learnability,
    arXiv 2502.12272, there from rollouts; here from one reading of the reference, p = exp(-surprisal)). For short
    answers with one right wording.
    """

    def score(self, samples: Sequence[TokenLogprobs], vocabulary_size: int) -> Score:
        surprisal = super().score(samples, vocabulary_size)
        p = float(np.exp(-surprisal.value))
        value = p * (1 - p)
        return replace(surprisal, value=value, lower=value, upper=value)


class RolloutEntropy(Estimator):
    """Entropy from the sampled tokens' own log-probabilities: see [`rollout_entropy`].

    Free for prompts whose rollouts were made anyway; for others, rollouts are made. It has to sample: a
    `scoring_temperature` of 0 stands for 1.
    """

    def request(self) -> Request:
        return Request(
            max_tokens=self.config.scoring_sequence_tokens,
            samples=self.config.scoring_samples,
            temperature=self.config.scoring_temperature or _ROLLOUT_TEMPERATURE,
            top_p=self.config.scoring_top_p,
        )

    def score(self, samples: Sequence[TokenLogprobs], vocabulary_size: int) -> Score:
        return rollout_entropy([sample.logprobs for sample in samples])


def rollout_entropy(logprobs: Sequence[FloatArray], prefix_tokens: int | None = None) -> Score:
    """Entropy from rollouts that were made anyway: minus the mean log-probability of the sampled tokens.

    At temperature 1 the expectation of -log p over sampled tokens is the entropy, so this costs nothing beyond the
    log-probabilities a rollout carries. They leave the rest of the distribution open, so both bounds are NaN.

    Args:
        logprobs (`Sequence[NDArray[np.float64]]`):
            For each completion of a prompt, the log-probabilities of its sampled tokens, shape (T,), in nats.
        prefix_tokens (`int`, *optional*):
            Tokens looked at; all by default.
    """
    per_sample = [-float(np.mean(sample[:prefix_tokens])) for sample in logprobs]
    value = float(np.mean(per_sample))
    tokens = sum(len(sample) for sample in logprobs)
    return Score(value, standard_error(per_sample), lower=float("nan"), upper=float("nan"), tokens=tokens)
