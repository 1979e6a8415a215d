"""How hard a pool's prompts are for the weights all cells start from."""

import json
from pathlib import Path

from transformers import AutoTokenizer

from ..config import EstimatorConfig
from ..engine.client import EngineClient
from ..runs.settings import RunSettings, load_data
from ..runs.train import fingerprint
from ..scoring import RowScorer
from ..store import write_whole
from .cells import Cell

POOLS_FOLDER = "pools"


def keep_difficulty(folder: Path, cell: Cell, settings: RunSettings) -> None:
    """Measure a pool once for all cells that train on it: the surprisal of the reference answer.

    Written to `pools/<fingerprint>.json` of the matrix's folder as `difficulty`, in nats, in the order of the pool.
    Without a server, or references, the report does without.

    Args:
        folder (`Path`):
            The matrix's folder.
        cell (`Cell`), settings (`RunSettings`):
            A cell and its settings; its server has the start weights.
    """
    url = settings.engine.engine_url
    if url is None:
        return
    train, _ = load_data(settings.script, settings.training, settings.data)
    path = folder / POOLS_FOLDER / f"{fingerprint(train)}.json"
    if path.is_file() or not {"completion", "answer"} & set(train.column_names):
        return
    tokenizer = AutoTokenizer.from_pretrained(settings.model.model_name_or_path)
    scorer = RowScorer(
        tokenizer,
        EstimatorConfig(estimator="surprisal"),
        chat_template_kwargs=getattr(settings.training, "chat_template_kwargs", None),
    )
    client = EngineClient(url, timeout=settings.engine.engine_request_timeout)
    scores = scorer.score(scorer.encode(train.to_list()), client)
    client.close()
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {"task": cell.task, "seed": cell.seed, "difficulty": [round(score.value, 4) for score in scores]}
    write_whole(path, lambda unfinished: unfinished.write_text(json.dumps(values)))
