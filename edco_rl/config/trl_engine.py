"""TRL's settings of vLLM, as those of this package's engine."""

import logging
from dataclasses import MISSING, fields, replace
from typing import Any

from ..errors import ConfigurationError
from .engine import EngineConfig

logger = logging.getLogger(__name__)

_SAME = {
    "vllm_gpu_memory_utilization": "engine_gpu_memory_utilization",
    "vllm_max_model_length": "engine_max_model_len",
    "vllm_tensor_parallel_size": "engine_tensor_parallel_size",
}
_ADDRESS = ("vllm_server_base_url", "vllm_server_host", "vllm_server_port")
_NOT_HERE = {
    "vllm_model_impl": "give --model-impl to the server with engine_args",
    "vllm_enable_sleep_mode": "this engine does not sleep; lower engine_gpu_memory_utilization",
    "vllm_structured_outputs_regex": "it works with TRL's own vLLM only: set engine_mode none",
    "vllm_server_timeout": "a server at engine_url must be up; one that is started has engine_startup_timeout",
    "vllm_group_port": "the port is chosen by the transport; leave it out",
}


def engine_of_trl(args: Any, engine: EngineConfig | None, *, stands: bool = False) -> EngineConfig | None:
    """An engine as TRL's `use_vllm`, `vllm_mode`, `vllm_server_host` and the others ask for it.

    Args:
        args (`TrainingArguments`, *optional*):
            The trainer's settings, of any of TRL's trainers.
        engine (`EngineConfig`, *optional*):
            What is asked for by this package's settings. With `engine_mode` `"none"` TRL's stay TRL's.
        stands (`bool`, *optional*, defaults to `False`):
            Whether it was given by itself, so that TRL's default `vllm_mode` says nothing against it.

    Returns:
        `EngineConfig` or `None`: both in one; `engine` itself without `use_vllm`.

    Raises:
        ConfigurationError: The two contradict each other, TRL's ask for what there is not here, or are given without
            `use_vllm`.
    """
    if not hasattr(args, "use_vllm") or (engine is not None and engine.engine_mode == "none"):
        return engine
    if engine is None and not args.use_vllm:
        return None
    given = _given(args)
    for name, advice in _NOT_HERE.items():
        if name in given:
            raise ConfigurationError(f"{name} {given[name]!r}: {advice}.")
    if not args.use_vllm:
        if given:
            raise ConfigurationError(
                f"{next(iter(given))} is set, and use_vllm is not, so that it would not count. Set use_vllm to true, "
                "or use the engine_* settings."
            )
        return engine
    default = type(args).__dataclass_fields__["vllm_mode"].default
    stands = stands or (engine is not None and engine.engine_url is not None)
    asked = {} if stands and args.vllm_mode == default else {"engine_mode": args.vllm_mode}
    asked |= {ours: given[name] for name, ours in _SAME.items() if name in given}
    if args.vllm_mode == "server":
        asked["engine_url"] = args.vllm_server_base_url or _url(args.vllm_server_host, args.vllm_server_port)
    elif address := [name for name in _ADDRESS if name in given]:
        raise ConfigurationError(f"{address[0]} needs vllm_mode server; it is {args.vllm_mode}.")
    own = EngineConfig() if engine is None else engine
    for name, value in asked.items():
        current = getattr(own, name)
        if current not in (value, EngineConfig.__dataclass_fields__[name].default):
            raise ConfigurationError(f"use_vllm asks for {name} {value!r}, and {name} is {current!r}: give one.")
    merged = replace(own, **asked)
    if merged != own:
        logger.warning("use_vllm: the engine is %s.", ", ".join(f"{name} {value}" for name, value in asked.items()))
    return merged


def _given(args: Any) -> dict[str, Any]:
    """Those of TRL's settings of vLLM that are none of its defaults."""
    known = (*_SAME, *_ADDRESS, *_NOT_HERE)
    defaults = {field.name: field.default for field in fields(args) if field.default is not MISSING}
    return {name: getattr(args, name) for name in known if getattr(args, name, None) != defaults.get(name)}


def _url(host: str, port: int) -> str:
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
