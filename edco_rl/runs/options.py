"""The settings of each method, known before torch and TRL are imported."""

from typing import Any

from ..config import DataConfig, EngineConfig, RunConfig
from ..methods import Method
from ..parsing import Group, Parser

# Of TRL's settings those that most recipes have.
_USUAL = frozenset(
    """model_name_or_path dtype use_peft dataset_name dataset_train_split dataset_test_split reward_funcs
    reward_weights output_dir max_steps num_train_epochs learning_rate lr_scheduler_type warmup_steps
    per_device_train_batch_size gradient_accumulation_steps gradient_checkpointing num_generations
    max_completion_length max_length temperature teacher_model_name_or_path save_strategy save_steps logging_steps
    report_to resume_from_checkpoint seed""".split()  # noqa: SIM905
)


def method_parser(method: Method, prog: str) -> Parser:
    """The parser of all settings of a method, with defaults that fit the machine.

    Its groups are in the order of [`~edco_rl.runs.settings.RunSettings`].

    Args:
        method (`Method`):
            The method.
        prog (`str`):
            What messages call it.
    """
    groups = (
        Group("data and rewards, as TRL has them", method.script, _USUAL),
        Group("training, as TRL has it", method.training, _USUAL),
        Group("model, as TRL has it", "trl:ModelConfig", _USUAL),
        Group("curriculum", method.load("curriculum")),
        Group("engine", EngineConfig),
        Group("data", DataConfig),
        Group("run", RunConfig),
    )
    return Parser(prog, groups, _defaults)


def _defaults(values: dict[str, Any]) -> dict[str, Any]:
    from ..engine.hardware import has_cuda

    defaults: dict[str, Any] = {"enable_jit_checkpoint": True}  # a stop request saves first
    if not has_cuda():
        defaults["bf16"] = False  # TRL's default would be refused
    return defaults | values
