"""What TRL's settings can be beyond their types: it declares no ranges, and meets wrong numbers while it trains."""

import types
import typing
from typing import Annotated, Any, Literal

from annotated_types import Ge, Lt, MaxLen, MinLen

from .ranges import Count, NotNegative, Port, Positive, PositiveShare, Seed, Share, Text, Whole

_FROM_MINUS_ONE = Annotated[int, Ge(-1)]  # which stands for none
_BELOW_ONE = Annotated[float, Ge(0), Lt(1)]
_RANGES: dict[Any, str] = {
    Count: """per_device_train_batch_size per_device_eval_batch_size gradient_accumulation_steps ddp_timeout lora_r
        lora_alpha vllm_tensor_parallel_size num_iterations ref_model_sync_steps torch_empty_cache_steps max_length
        eval_accumulation_steps dataloader_prefetch_factor ddp_bucket_cap_mb num_generations num_generations_eval
        max_completion_length generation_batch_size steps_per_generation vllm_max_model_length dataset_num_proc
        num_ppo_epochs num_completions_to_print""",
    _FROM_MINUS_ONE: "max_steps local_rank top_k",
    Seed: "seed data_seed",
    Port: "vllm_server_port vllm_group_port",
    Positive: """num_train_epochs temperature repetition_penalty vllm_server_timeout sapo_temperature_neg
        sapo_temperature_pos vespo_k_pos vespo_lambda_pos vespo_k_neg vespo_lambda_neg""",
    PositiveShare: "top_p vllm_gpu_memory_utilization",
    Share: "label_smoothing_factor ref_model_mixup_alpha top_entropy_quantile lora_dropout min_p",
    _BELOW_ONE: "adam_beta1 adam_beta2",
}
_NUMBERS = {name: kind for kind, names in _RANGES.items() for name in names.split()}
_LOG_LEVELS = Literal["debug", "info", "warning", "error", "critical", "passive"]
# Types that TRL gives in words, or that its own parser cannot read.
_OTHERS: dict[str, Any] = {
    "output_dir": Text | None,
    "log_level": _LOG_LEVELS,
    "log_level_replica": _LOG_LEVELS,
    "resume_from_checkpoint": str | bool | None,
    "include_num_input_tokens_seen": Literal["all", "non_padding", "no"] | bool,
    "importance_sampling_level": Literal["token", "sequence"],
    "multi_objective_aggregation": Literal["sum_then_normalize", "normalize_then_sum"],
    "vllm_mode": Literal["server", "colocate"],
    "vllm_importance_sampling_mode": Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"],
    "debug": list[Literal["underflow_overflow", "tpu_metrics_debug"]] | str,
    "scale_rewards": Literal["group", "batch", "none"] | bool,
    "pad_to_multiple_of": Count | str | None,
    "reward_clip_range": Annotated[list[float], MinLen(2), MaxLen(2)] | None,
    "parallelism_config": None,  # an object, which no file can hold
}


def narrowed(name: str, hint: Any) -> Any:
    """The type of a field of TRL's with its range: numbers are 0 or more unless the tables above say otherwise."""
    if name in _OTHERS:
        return _OTHERS[name]
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        parts = tuple(narrowed(name, part) for part in typing.get_args(hint))
        return typing.Union[parts]  # noqa: UP007 (parts are only known here)
    if hint in (int, float):
        return _NUMBERS.get(name, Whole if hint is int else NotNegative)
    return hint
