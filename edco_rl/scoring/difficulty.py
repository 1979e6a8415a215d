"""How difficult each prompt is for a student, from several rankings, kept in a file for as long as nothing changes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import rankdata

from ..config import EstimatorConfig
from ..curriculum.fusion import reciprocal_rank_fusion
from ..curriculum.pool import FloatArray
from ..data.lengths import check_prompts_fit
from ..data.tokens import Row, RowTokenizer, name_row, reference_text
from ..engine.protocol import GenerationBackend, Sampling
from ..errors import ConfigurationError
from ..rewards import rouge_l
from ..store import Artefact, fingerprint, load_same, rows_fingerprint, save_file
from .row_scorer import RowScorer

ROUGE_L = "rouge_l"
CROSS_ENTROPY = "cross_entropy"
_ROWS_AT_A_TIME = 512


class DifficultyMeasurer:
    """Measures what prompts are ranked by (POCL, arXiv 2506.05695).

    Args:
        tokenizer ([`~edco_rl.data.tokens.RowTokenizer`]):
            Makes token ids of rows for the student.
        config (`EstimatorConfig`):
            Settings of estimators among the rankings.
        rankings (`Sequence[str]`):
            `rouge_l`, the overlap of the student's greedy output with the reference; `cross_entropy`, that of the
            reference under the student, a token; and names of numeric columns or of estimators, larger where a prompt
            is harder.
        columns (`Sequence[str]`):
            Columns of the data set.
        max_tokens (`int`):
            Most tokens of an output.
        vocabulary_size (`int`, *optional*):
            Width of the student's output distribution.

    Raises:
        ConfigurationError: There is no ranking, or none of that name, or the data set lacks what one needs.
    """

    def __init__(
        self,
        tokenizer: RowTokenizer,
        config: EstimatorConfig,
        *,
        rankings: Sequence[str],
        columns: Sequence[str],
        max_tokens: int,
        vocabulary_size: int | None = None,
    ) -> None:
        if not rankings:
            raise ConfigurationError("difficulty_rankings is empty: name at least one, as rouge_l.")
        self.tokenizer = tokenizer
        self.rankings = list(dict.fromkeys(rankings))
        self.max_tokens = max_tokens
        self.config = config
        self._scorers: dict[str, RowScorer] = {}
        for name in self.rankings:
            if name == ROUGE_L or name in columns:
                continue
            estimator = "perplexity" if name == CROSS_ENTROPY else name
            scorer = RowScorer(tokenizer, config, estimator=estimator, vocabulary_size=vocabulary_size)
            scorer.check_columns(columns)
            self._scorers[name] = scorer
        if ROUGE_L in self.rankings:
            RowScorer(tokenizer, config, estimator="perplexity").check_columns(columns)

    def made_from(self, rows: Sequence[Row], model: Any, *, constant: float, ties: str) -> dict[str, Any]:
        """All that the difficulties depend on, as JSON values.

        Args:
            rows (`Sequence[Mapping]`):
                The rows.
            model (JSON value):
                What tells the student's weights from others.
            constant (`float`), ties (`str`):
                Of the fusion.
        """
        return {
            "rankings": self.rankings,
            "constant": constant,
            "ties": ties,
            "max_tokens": self.max_tokens,
            "estimator": asdict(self.config) if self._scorers.keys() - {CROSS_ENTROPY} else None,
            "model": model,
            "chat_template": fingerprint(self.tokenizer.made_from),
            "rows": rows_fingerprint(rows),
        }

    def measure(self, rows: Sequence[Row], backend: GenerationBackend) -> list[dict[str, Any]]:
        """For each row, what it is ranked by, and the student's `output` where that was needed.

        Raises:
            ConfigurationError: A row lacks what a ranking needs.
        """
        measured: list[dict[str, Any]] = []
        for start in range(0, len(rows), _ROWS_AT_A_TIME):
            measured += self._measure(rows[start : start + _ROWS_AT_A_TIME], backend)
        return measured

    def _measure(self, rows: Sequence[Row], backend: GenerationBackend) -> list[dict[str, Any]]:
        measured: list[dict[str, Any]] = [{} for _ in rows]
        for name in self.rankings:
            if name == ROUGE_L:
                references = list(map(reference_text, rows))
                for entry, output, reference in zip(measured, self._outputs(rows, backend), references, strict=True):
                    entry |= {"output": output, ROUGE_L: rouge_l(reference, output)}
                continue
            if name in self._scorers:
                scorer = self._scorers[name]
                encoded = scorer.encode(rows)
                scorer.check_fit(encoded, backend.max_model_len(), lambda number: name_row(rows[number]))
                values = [score.value for score in scorer.score(encoded, backend)]
            else:
                values = [row[name] for row in rows]
            for entry, value, row in zip(measured, values, rows, strict=True):
                if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                    raise ConfigurationError(
                        f"difficulty ranking {name!r}, row {row.get('id')!r}: expected a finite number, got {value!r}."
                    )
                entry[name] = float(value)
        return measured

    def _outputs(self, rows: Sequence[Row], backend: GenerationBackend) -> list[str]:
        """The student's greedy outputs."""
        prompts = self.tokenizer.prompts(rows)
        check_prompts_fit(
            rows, prompts, self.max_tokens, backend.max_model_len(), "an output of difficulty_max_tokens"
        )
        groups = backend.generate(prompts, Sampling(self.max_tokens, temperature=0.0))
        outputs = [group[0].token_ids for group in groups]
        return self.tokenizer.tokenizer.batch_decode(outputs, skip_special_tokens=True)


def fuse(
    measured: Sequence[Mapping[str, Any]], rankings: Sequence[str], constant: float, ties: str = "shared"
) -> list[float]:
    """Difficulty of each row: its rank, from 1 for the easiest, in the fusion of the rankings.

    The rankings run from easy to hard, and are fused as [`~edco_rl.curriculum.fusion.reciprocal_rank_fusion`] does.

    Args:
        measured (`Sequence[Mapping]`):
            What [`~DifficultyMeasurer.measure`] gave.
        rankings (`Sequence[str]`):
            What is fused. `rouge_l` is higher where a row is easier, everything else where it is harder.
        constant (`float`):
            Of the fusion.
        ties (`str`, *optional*, defaults to `"shared"`):
            Equal values share the mean of their ranks; with `"in_order"` each has a rank of its own, in the order of
            the ranking before, the rows' in the first (POCL's code, liuliuyuan6/POCL, tools/rank.py).
    """
    order = np.arange(len(measured))

    def rank(values: FloatArray) -> FloatArray:
        nonlocal order
        if ties == "shared":
            return np.asarray(rankdata(values), dtype=np.float64)
        order = order[np.argsort(values[order], kind="stable")]
        return np.argsort(order).astype(np.float64) + 1

    signs = [-1.0 if name == ROUGE_L else 1.0 for name in rankings]
    values = [np.array([entry[name] for entry in measured], dtype=np.float64) for name in rankings]
    ranks = [rank(sign * column) for sign, column in zip(signs, values, strict=True)]
    # Rounded, so that ranks that swap places between two rankings give equal sums whatever their order.
    return rank((-reciprocal_rank_fusion(ranks, constant=constant)).round(15)).tolist()


def difficulty_path(folder: Path, made_from: dict[str, Any]) -> Path:
    """The file of these difficulties; those made from something else lie beside it."""
    return folder / f"difficulty_{fingerprint(made_from)[:16]}.parquet"


def load_difficulty(folder: Path, made_from: dict[str, Any]) -> tuple[list[float], float] | None:
    """Difficulties in the order of the rows, and the seconds measuring took; `None` where they are not in the folder.

    Args:
        folder (`Path`):
            Where they are kept.
        made_from (`dict`):
            All they depend on: [`~DifficultyMeasurer.made_from`].

    Raises:
        ConfigurationError: The file was altered.
    """
    found = load_same(difficulty_path(folder, made_from), made_from)
    return None if found is None else (pq.read_table(found.path)["difficulty"].to_pylist(), found.seconds)


def save_difficulty(
    folder: Path,
    made_from: dict[str, Any],
    ids: Sequence[str],
    measured: Sequence[Mapping[str, Any]],
    difficulty: Sequence[float],
    seconds: float,
) -> Artefact:
    """Write difficulties, and what they were fused from, whole or not at all."""
    columns = {name: [entry[name] for entry in measured] for name in measured[0]}
    table = pa.table({"id": list(ids), "difficulty": list(difficulty), **columns})
    path = difficulty_path(folder, made_from)
    return save_file(path, made_from, lambda draft: pq.write_table(table, draft), seconds)
