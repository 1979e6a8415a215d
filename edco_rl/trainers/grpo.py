"""GRPO with a curriculum."""

from collections.abc import Sequence
from typing import Any, ClassVar

from trl import GRPOTrainer

from .groups import Rollout
from .rollout_mixin import RolloutMixin


class CurriculumGRPOTrainer(RolloutMixin, GRPOTrainer):
    """TRL's `GRPOTrainer` with a curriculum.

    Args:
        model, reward_funcs, args, train_dataset, *args, **kwargs:
            As in `trl.GRPOTrainer`.
        curriculum, engine, share_prompts:
            See [`RolloutMixin`].

    Raises:
        ConfigurationError: A bad row, setting or combination; raised before a model is loaded where possible.

    Example:

    ```python
    >>> from edco_rl import CurriculumGRPOTrainer, EngineConfig
    >>> trainer = CurriculumGRPOTrainer(
    ...     model="Qwen/Qwen3-0.6B",
    ...     reward_funcs=accuracy_reward,
    ...     train_dataset=dataset,
    ...     curriculum="edco",
    ...     engine=EngineConfig(),
    ... )
    >>> trainer.train()
    ```
    """

    _tag_names: ClassVar[list[str]] = ["trl", "grpo", "edco-rl"]
    corrects_older_rollouts = True  # TRL's vllm_importance_sampling_correction

    def unpack(self, generated: tuple[Any, ...]) -> tuple[list[Any], list[Any], list[Any], list[Any] | None]:
        prompt_ids, completion_ids, _, completions, logprobs, *_ = generated
        return prompt_ids, completion_ids, completions, logprobs

    def pack(self, rollouts: Sequence[Rollout]) -> tuple[Any, ...]:
        logprobs = [rollout.logprobs for rollout in rollouts]
        return (
            [rollout.prompt_ids for rollout in rollouts],
            [rollout.completion_ids for rollout in rollouts],
            None,
            [rollout.completion for rollout in rollouts],
            None if None in logprobs else logprobs,
            {},
            None,
            [],
        )
