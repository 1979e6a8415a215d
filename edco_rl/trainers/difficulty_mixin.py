"""Difficulty of a training set's prompts, measured with the student before it is distilled."""

import logging
import time
from pathlib import Path

import numpy as np
from accelerate.utils import broadcast_object_list
from datasets import Dataset

from ..config import CurriculumConfig
from ..curriculum import STRATEGIES
from ..data.ids import prompt_ids
from ..scoring.difficulty import DifficultyMeasurer, difficulty_path, fuse, load_difficulty, save_difficulty
from ..store import model_fingerprint, parameters_fingerprint
from .curriculum_mixin import CurriculumMixin
from .scoring_mixin import SCORED_COLUMNS

logger = logging.getLogger(__name__)

DIFFICULTY = "difficulty"


class DifficultyMixin(CurriculumMixin):
    """Gives a training set the column `difficulty` where the strategy asks for it.

    Attributes:
        difficulty_seconds (`float`): Time it took to measure difficulties, also where they were read from a file.
        difficulty_path (`Path` or `None`): The file they are in.
    """

    difficulty_seconds: float = 0.0
    difficulty_path: Path | None = None
    max_completion_length: int
    _student_name: str | None

    def _with_difficulty(self, dataset: Dataset, config: CurriculumConfig) -> Dataset:
        """The training set with a column `difficulty` where the strategy asks for one it has not."""
        assert not isinstance(config.strategy_kwargs, str)  # the configuration has parsed it
        default = getattr(STRATEGIES.find(config.strategy), "default_column", None)
        asked = (config.strategy_kwargs or {}).get("column") or default
        if asked != DIFFICULTY or DIFFICULTY in dataset.column_names:
            return dataset
        rankings = self.args.difficulty_rankings
        fusion = {"constant": self.args.difficulty_constant, "ties": self.args.difficulty_ties}
        measurer = DifficultyMeasurer(
            self.row_tokenizer,
            config,
            rankings=rankings,
            columns=dataset.column_names,
            max_tokens=self.args.difficulty_max_tokens or self.max_completion_length,
            vocabulary_size=self.model.config.get_text_config().vocab_size,
        )
        wanted = {*SCORED_COLUMNS, *rankings}
        rows = dataset.select_columns([name for name in dataset.column_names if name in wanted]).to_list()
        folder = Path(self.args.difficulty_dir or self.args.output_dir).expanduser()
        weights = model_fingerprint(self._student_name) if self._student_name else None
        made_from = measurer.made_from(
            rows, [self._student_name, weights or parameters_fingerprint(self.model)], **fusion
        )
        made_from["source"] = "model" if self._connection is None else "engine"
        self.difficulty_path = difficulty_path(folder, made_from)
        # One process looks, so that all agree.
        main = self.accelerator.is_main_process
        found = broadcast_object_list([load_difficulty(folder, made_from) if main else None])[0]
        if found is None:
            started = time.perf_counter()
            indexed = self._spread(
                "difficulty",
                np.arange(len(rows)),
                lambda share, backend: list(
                    zip(share, measurer.measure([rows[i] for i in share], backend), strict=True)
                ),
            )
            measured = [entry for _, entry in sorted(indexed, key=lambda pair: pair[0])]
            found = fuse(measured, measurer.rankings, **fusion), time.perf_counter() - started
            if main:
                save_difficulty(folder, made_from, prompt_ids(dataset), measured, *found)
                where = self.difficulty_path
                logger.info("Difficulty of %d prompts measured in %.0f s: %s", len(rows), found[1], where)
        values, self.difficulty_seconds = found
        return dataset.add_column(DIFFICULTY, values)
