"""How a trainer scores the rows of its training set."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
from datasets import Dataset

from ..config import CurriculumConfig
from ..curriculum import Curriculum, Outcome
from ..data.tokens import TEMPLATE_COLUMNS
from ..engine.protocol import GenerationBackend
from ..entropy import Score
from ..finite_weights import NotFiniteError
from ..scoring import RowScorer, estimator_for
from ..scoring.row_scorer import SCORING, EncodedRows
from .finite_mixin import FiniteMixin
from .row_tokens_mixin import RowTokensMixin

# What estimators read of a row.
SCORED_COLUMNS = ("id", "prompt", "options", "completion", "answer", *TEMPLATE_COLUMNS)


class ScoringMixin(RowTokensMixin, FiniteMixin):
    """Gives a trainer with a curriculum the scorer of its rows."""

    curriculum: Curriculum
    tokens: Counter[str]
    _scored_rows: Dataset
    _scorer: RowScorer
    _check_lengths: Any

    def _make_scorer(self, config: CurriculumConfig) -> RowScorer:
        """With the estimator that the strategy needs, or the configured one.

        Raises:
            ConfigurationError: The rows lack what it needs.
        """
        estimator = estimator_for(self.curriculum.strategy, self._scored_rows, self.row_tokenizer)
        if config.scoring_reference_temperature is None:
            config = replace(config, scoring_reference_temperature=self._rollout_temperature())
        width = self.model.config.get_text_config().vocab_size
        scorer = RowScorer(self.row_tokenizer, config, estimator=estimator, vocabulary_size=width)
        scorer.check_columns(self._scored_rows.column_names)
        return scorer

    def _rollout_temperature(self) -> float:
        """What rollouts are sampled at; 1 where there are none."""
        return 1.0

    def _score(self, indices: list[int], backend: GenerationBackend) -> list[Outcome]:
        scores = self._scorer.score(self._encoded(indices), backend)
        return self._outcomes_from(indices, scores, self.state.global_step)

    def _encoded(self, indices: list[int]) -> EncodedRows:
        rows = self._scorer.encode(self._scored_rows.select(indices).to_list())
        self._check_lengths(indices, self._scorer.lengths(rows), SCORING)
        return rows

    def _outcomes_from(self, indices: list[int], scores: list[Score], version: int) -> list[Outcome]:
        self.tokens["scored"] += sum(score.tokens for score in scores)
        return [Outcome(index, version, score=score.value) for index, score in zip(indices, scores, strict=True)]

    def _finite_scores(self, outcomes: list[Outcome]) -> list[Outcome]:
        """The outcomes whose score is finite; the other prompts go into quarantine.

        Raises:
            NotFiniteError: No score is, or too many are not.
        """
        wrong = {outcome.index: outcome.score for outcome in outcomes if not np.isfinite(outcome.score or 0.0)}
        if len(wrong) == len(outcomes):
            raise NotFiniteError(
                f"After optimizer step {self.state.global_step} none of the scores of {len(outcomes)} prompts is "
                f"finite. {self._advice()}"
            )
        ids = self.curriculum.pool.ids
        self.quarantine([(index, f"The score of prompt {ids[index]!r} is {wrong[index]}.") for index in wrong])
        return [outcome for outcome in outcomes if outcome.index not in wrong]
