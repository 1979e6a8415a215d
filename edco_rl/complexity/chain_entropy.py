"""Entropies over the student's own chain of thought, as one number a row, as the method's released code takes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from numpy.typing import NDArray

from ..data.lengths import check_prompts_fit
from ..data.prompts import with_instruction
from ..engine.protocol import Completion, Sampling
from ..entropy import SequenceEntropy, TokenLogprobs
from ..runs.grading import grade
from .stage import StageInParts

NAMES = (
    "answer",
    "max",
    "mean",
    "mean_of_sentence_max",
    "mean_of_sentence_mean",
    "max_of_sentence_mean",
    "margin",
    "max_from_answer",
    "top_two_difference",
    "mix",
)
_SENTENCE_ENDS = ("\n", ";", "...")
_MIX = 0.05


def aggregate(
    entropies: NDArray[np.float64], margins: NDArray[np.float64], ends: NDArray[np.bool_], answer: int
) -> dict[str, float]:
    """Scores of a chain of thought, larger where it is less certain.

    Args:
        entropies (`NDArray[np.float64]`):
            Entropy at each token, shape (T,), in nats.
        margins (`NDArray[np.float64]`):
            Largest probability at each token minus the second largest, shape (T,).
        ends (`NDArray[np.bool_]`):
            Whether a sentence ends with the token, shape (T,). What follows the last end is left out of scores of
            sentences; without any, the chain is one.
        answer (`int`):
            Position of the answer's token.

    Returns:
        `dict[str, float]`: by `NAMES`. `margin` is the mean of one minus the margin, `mix` 95 % the
        answer's entropy and 5 % the largest.
    """
    sentences = np.split(entropies, np.flatnonzero(ends) + 1)[:-1] or [entropies]
    largest, means = [sentence.max() for sentence in sentences], [sentence.mean() for sentence in sentences]
    most, last = entropies.max(), entropies[answer]
    top_two = np.sort(entropies)[-2:]
    values = (
        last,
        most,
        entropies.mean(),
        np.mean(largest),
        np.mean(means),
        np.max(means),
        np.mean(1 - margins),
        abs(most - last),
        top_two[-1] - top_two[0],
        _MIX * most + (1 - _MIX) * last,
    )
    return dict(zip(NAMES, map(float, values), strict=True))


def find_answer(pieces: Sequence[str], marker: str) -> int | None:
    """Position of the first token after a marker that is more than space; `None` where there is none.

    Args:
        pieces (`Sequence[str]`):
            Texts of the tokens.
        marker (`str`):
            What stands before the answer.
    """
    text = ""
    for place, piece in enumerate(pieces):
        text += piece
        if text.partition(marker)[2].strip():
            return place
    return None


@dataclass
class ChainEntropy(StageInParts):
    """Scores of [`aggregate`] of a greedy chain of thought for each row, null where it comes to no answer.

    Args:
        vocabulary_size (`int`):
            Width of the student's output distribution.
    """

    vocabulary_size: int

    name = "rivals/chain"
    columns = ("id", "right", "tokens", *NAMES)

    def made_from(self) -> dict[str, Any]:
        return {
            **self.given.answers_to(self.given.train_digest),
            **self.given.some("reasoning_instruction", "reasoning_answer_marker", "reasoning_max_tokens"),
            **self.given.some("scoring_top_logprobs", "scoring_tail"),
        }

    def make_part(self, rows: Dataset) -> pa.Table:
        config, tokenizer = self.given.config, self.given.student.tokenizer
        prompts = [with_instruction(prompt, config.reasoning_instruction) for prompt in rows["prompt"]]
        asking = rows.remove_columns("prompt").add_column("prompt", prompts)
        sampling = Sampling(config.reasoning_max_tokens, temperature=0.0, top_logprobs=config.scoring_top_logprobs)
        chains, backend = tokenizer.prompts(asking.to_list()), self.given.student.serving()
        most = backend.max_model_len()
        check_prompts_fit(rows.to_list(), chains, sampling.max_tokens, most, "reasoning_max_tokens")
        groups = backend.generate(chains, sampling)
        graded = grade(groups, tokenizer.tokenizer, asking, self.given.judge.reward)
        scores = [self._scores(chain) for [chain] in groups]
        return pa.table(
            {
                "id": rows["id"],
                "right": pa.array([None if np.isnan(one) else bool(one) for one in graded.right[:, 0]], pa.bool_()),
                "tokens": graded.tokens[:, 0],
                **{name: pa.array([one.get(name) for one in scores], pa.float64()) for name in NAMES},
            }
        )

    def _scores(self, chain: Completion) -> dict[str, float]:
        tokenizer = self.given.student.tokenizer.tokenizer
        pieces = tokenizer.batch_decode([[token] for token in chain.token_ids])
        answer = find_answer(pieces, self.given.config.reasoning_answer_marker)
        if answer is None:
            return {}
        sample = TokenLogprobs(chain.logprobs, chain.top_logprobs)
        entropies = SequenceEntropy(self.given.config).token_entropy(sample, self.vocabulary_size).estimate
        top = np.exp(chain.top_logprobs[:, :2])
        ends = [
            piece.endswith(_SENTENCE_ENDS) or token == tokenizer.eos_token_id
            for piece, token in zip(pieces, chain.token_ids, strict=True)
        ]
        return aggregate(entropies, top[:, 0] - top[:, 1], np.array(ends), answer)
