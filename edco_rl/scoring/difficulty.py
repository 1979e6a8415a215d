"""How difficult each prompt is for a student, from several rankings, kept in a file for as long as nothing changes."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import rankdata

from ..config import EstimatorConfig
from ..curriculum.fusion import reciprocal_rank_fusion
from ..engine.protocol import GenerationBackend, Sampling
from ..errors import ConfigurationError
from ..rewards import rouge_l
from ..store import write_whole
from .row_scorer import Row, RowScorer, reference_text

ROUGE_L = "rouge_l"
CROSS_ENTROPY = "cross_entropy"
_METADATA_KEY = b"edco_rl.difficulty"
_ROWS_AT_A_TIME = 512


class DifficultyMeasurer:
    """Measures what prompts are ranked by (POCL, arXiv 2506.05695).

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            The student's tokenizer.
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
        chat_template_kwargs (`dict`, *optional*):
            Arguments of the chat template.
        vocabulary_size (`int`, *optional*):
            Width of the student's output distribution.

    Raises:
        ConfigurationError: There is no ranking, or none of that name, or the data set lacks what one needs.
    """

    def __init__(
        self,
        tokenizer: Any,
        config: EstimatorConfig,
        *,
        rankings: Sequence[str],
        columns: Sequence[str],
        max_tokens: int,
        chat_template_kwargs: dict[str, Any] | None = None,
        vocabulary_size: int | None = None,
    ) -> None:
        if not rankings:
            raise ConfigurationError("difficulty_rankings is empty: name at least one, as rouge_l.")
        self.tokenizer = tokenizer
        self.rankings = list(dict.fromkeys(rankings))
        self.max_tokens = max_tokens
        self.config = config
        self.chat_template_kwargs = chat_template_kwargs or {}
        self._scorers: dict[str, RowScorer] = {}
        for name in self.rankings:
            if name == ROUGE_L or name in columns:
                continue
            estimator = "perplexity" if name == CROSS_ENTROPY else name
            scorer = RowScorer(
                tokenizer,
                config,
                estimator=estimator,
                chat_template_kwargs=chat_template_kwargs,
                vocabulary_size=vocabulary_size,
            )
            scorer.check_columns(columns)
            self._scorers[name] = scorer
        self._prompts = RowScorer(tokenizer, config, estimator="perplexity", chat_template_kwargs=chat_template_kwargs)
        if ROUGE_L in self.rankings:
            self._prompts.check_columns(columns)

    def settings(self, rows: Sequence[Row], model: Any, *, constant: float) -> dict[str, Any]:
        """All that the difficulties depend on, as JSON values.

        Args:
            rows (`Sequence[Mapping]`):
                The rows.
            model (JSON value):
                What tells the student's weights from others.
            constant (`float`):
                Of the fusion.
        """
        values = {
            "rankings": self.rankings,
            "constant": constant,
            "max_tokens": self.max_tokens,
            "estimator": asdict(self.config) if self._scorers.keys() - {CROSS_ENTROPY} else None,
            "model": model,
            "chat_template": _digest([getattr(self.tokenizer, "chat_template", None), self.chat_template_kwargs]),
            "rows": _digest([dict(row) for row in rows]),
        }
        return json.loads(json.dumps(values, sort_keys=True, default=str))

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
                values = [score.value for score in scorer.score(scorer.encode(rows), backend)]
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
        groups = backend.generate(
            self._prompts.tokenize([row["prompt"] for row in rows]), Sampling(self.max_tokens, temperature=0.0)
        )
        return self.tokenizer.batch_decode([group[0].token_ids for group in groups], skip_special_tokens=True)


def fuse(measured: Sequence[Mapping[str, Any]], rankings: Sequence[str], constant: float) -> list[float]:
    """Difficulty of each row: its rank, from 1 for the easiest, in the fusion of the rankings.

    The rankings run from easy to hard, equal values sharing the mean of their ranks, and are fused as
    [`~edco_rl.curriculum.fusion.reciprocal_rank_fusion`] does.

    Args:
        measured (`Sequence[Mapping]`):
            What [`~DifficultyMeasurer.measure`] gave.
        rankings (`Sequence[str]`):
            What is fused. `rouge_l` is higher where a row is easier, everything else where it is harder.
        constant (`float`):
            Of the fusion.
    """
    ranks = []
    for name in rankings:
        sign = -1.0 if name == ROUGE_L else 1.0
        ranks.append(rankdata([sign * entry[name] for entry in measured]))
    # Rounded, so that ranks that swap places between two rankings give equal sums whatever their order.
    return rankdata((-reciprocal_rank_fusion(ranks, constant=constant)).round(15)).tolist()


class DifficultyFile:
    """Difficulties on disk, in a Parquet file whose name and metadata hold a hash of all they depend on.

    Args:
        folder (`Path`):
            Where it is kept. Files of other settings lie beside it.
        settings (`dict`):
            What [`~DifficultyMeasurer.settings`] gave.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.digest = _digest(settings)
        self.path = folder / f"difficulty_{self.digest[:16]}.parquet"

    def read(self) -> tuple[list[float], float] | None:
        """Difficulties in the order of the rows and the seconds measuring took; `None` where there is no such file.

        Raises:
            ConfigurationError: The file holds something else.
        """
        if not self.path.exists():
            return None
        try:
            table = pq.read_table(self.path)
            manifest = json.loads(table.schema.metadata[_METADATA_KEY])
        except (KeyError, TypeError, OSError, pa.ArrowException):
            raise ConfigurationError(f"{self.path} holds no difficulties. Remove it.") from None
        if manifest["digest"] != self.digest:
            raise ConfigurationError(f"{self.path} holds difficulties of other settings. Remove it.")
        return table["difficulty"].to_pylist(), manifest["seconds"]

    def write(
        self, ids: Sequence[str], measured: Sequence[Mapping[str, Any]], difficulty: Sequence[float], seconds: float
    ) -> None:
        """Write the file, whole or not at all."""
        names = list(measured[0])
        columns = {name: [entry[name] for entry in measured] for name in names}
        table = pa.table({"id": list(ids), "difficulty": list(difficulty), **columns})
        manifest = {"digest": self.digest, "settings": self.settings, "seconds": seconds}
        table = table.replace_schema_metadata({_METADATA_KEY: json.dumps(manifest, sort_keys=True)})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, lambda path: pq.write_table(table, path))


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
