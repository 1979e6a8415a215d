"""Settings that name something: what there is, and whether what is named exists, told before anything is loaded."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..config import ENGINE_CLASSES, available_transports
from ..curriculum import GATES, STRATEGIES
from ..data.kinds import is_missing_file
from ..entropy.registry import ESTIMATORS
from ..errors import ConfigurationError
from ..models import check_model_path
from ..rewards import available_rewards, check_reward
from ..yaml_file import Settings

NAMES: dict[str, Callable[[], list[str]]] = {
    "strategy": STRATEGIES.names,
    "compare_with": STRATEGIES.names,
    "gates": GATES.names,
    "estimator": ESTIMATORS.names,
    "estimators": ESTIMATORS.names,
    "reward_funcs": available_rewards,
    "held_out_reward": available_rewards,
    "reward_func": available_rewards,
    "engine_mode": lambda: [*ENGINE_CLASSES, "none"],
    "engine_transport": lambda: ["auto", *available_transports()],
}
"""Names of this package by the setting that takes them; import paths are as good."""
_FIND: dict[str, Callable[[str], Any]] = {
    "strategy": STRATEGIES.find,
    "compare_with": STRATEGIES.find,
    "gates": GATES.find,
    "estimator": ESTIMATORS.find,
    "estimators": ESTIMATORS.find,
    "reward_funcs": check_reward,
    "held_out_reward": check_reward,
    "reward_func": check_reward,
}
_DATA_SETS = ("dataset_name", "eval_dataset_name", "train_dataset_name")


def check_names(settings: Settings) -> None:
    """Check that plug-ins, the model's folder and data files exist, of those that are given.

    Raises:
        ConfigurationError: One does not; the message says where it is named.
    """
    values = settings.values
    for name in [*_FIND, *_DATA_SETS, "model_name_or_path"]:
        try:
            for value in _several(values.get(name)):
                if name in _FIND:
                    _FIND[name](value)
                elif name == "model_name_or_path":
                    if not (Path(value).expanduser() / "adapter_config.json").is_file():  # evaluate takes adapters
                        check_model_path(value)
                elif is_missing_file(value):
                    raise ConfigurationError(f"{name} {value!r}: there is no such file.")
        except ConfigurationError as error:
            place = settings.place(name)
            raise ConfigurationError(f"{place}: {error}" if place else str(error)) from error


def _several(value: str | list[str] | None) -> Iterable[str]:
    return value if isinstance(value, list) else [value] if value else []
