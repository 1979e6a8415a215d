"""How hard a pool's prompts are for the weights all cells start from."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from ..config import EstimatorConfig
from ..data.ids import prompt_ids
from ..data.tokens import RowTokenizer
from ..engine.launch import scoring_engine
from ..runs.settings import RunSettings
from ..scoring import RowScorer
from ..store import fingerprint, once_value
from .cells import Cell

POOLS_FOLDER = "pools"


def pool_path(folder: Path, task: str, pool: str, model: str) -> Path:
    """Where the difficulty of a pool is kept.

    Args:
        folder (`Path`):
            The matrix's folder.
        task (`str`), pool (`str`), model (`str`):
            Name of the task, fingerprint of the pool's ids, and the model that is trained.
    """
    return folder / POOLS_FOLDER / f"{task}_{fingerprint([pool, model])[:16]}"


def keep_difficulty(folder: Path, cell: Cell, settings: RunSettings) -> None:
    """Measure a pool once for all cells that train a model on it: the surprisal of the reference answer.

    Kept in `pools/` of the matrix's folder as `difficulty`, in nats, in the order of the pool. Without a server, or
    references, the report does without.

    Args:
        folder (`Path`):
            The matrix's folder.
        cell (`Cell`), settings (`RunSettings`):
            A cell and its settings; its server has the start weights.
    """
    if settings.engine.engine_url is None:
        return
    train, _ = settings.rows
    if not {"completion", "answer"} & set(train.column_names):
        return
    model = settings.model.model_name_or_path
    pool = fingerprint(prompt_ids(train))

    def measure() -> dict[str, Any]:
        tokenizer = RowTokenizer(AutoTokenizer.from_pretrained(model), settings.training.chat_template_kwargs)
        scorer = RowScorer(tokenizer, EstimatorConfig(estimator="surprisal"))
        with scoring_engine(settings.engine, model) as engine:
            scores = scorer.score(scorer.encode(train.to_list()), engine)
        return {"task": cell.task, "seed": cell.seed, "difficulty": [round(score.value, 4) for score in scores]}

    once_value(pool_path(folder, cell.task, pool, model), {"pool": pool, "model": model}, measure)
