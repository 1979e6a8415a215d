"""RLOO with a curriculum."""

from collections.abc import Sequence
from typing import Any, ClassVar

from trl import RLOOTrainer

from .groups import Rollout
from .rollout_mixin import RolloutMixin


class CurriculumRLOOTrainer(RolloutMixin, RLOOTrainer):
    """TRL's `RLOOTrainer` (REINFORCE leave-one-out, arXiv 2402.14740) with a curriculum.

    Args:
        model, reward_funcs, args, train_dataset, *args, **kwargs:
            As in `trl.RLOOTrainer`.
        curriculum, engine, share_prompts:
            See [`RolloutMixin`].

    Raises:
        ConfigurationError: A bad row, setting or combination; raised before a model is loaded where possible.
    """

    _tag_names: ClassVar[list[str]] = ["trl", "rloo", "edco-rl"]

    def unpack(self, generated: tuple[Any, ...]) -> tuple[list[Any], list[Any], list[Any], list[Any] | None]:
        # TRL's trainer drops the log-probabilities that come with an engine's rollouts.
        return *generated, None if self._connection is None else self.vllm_generation.logprobs

    def pack(self, rollouts: Sequence[Rollout]) -> tuple[Any, ...]:
        return (
            [rollout.prompt_ids for rollout in rollouts],
            [rollout.completion_ids for rollout in rollouts],
            [rollout.completion for rollout in rollouts],
        )
