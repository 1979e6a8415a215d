"""What of a policy no engine can serve, or not in the way asked for: found before one is started."""

from typing import Any

from ..errors import ConfigurationError

# Fields of a LoRA configuration that have another name on the command line.
_COMMAND_LINE = {"modules_to_save": "lora_modules_to_save", "target_parameters": "lora_target_parameters"}
# Those that make of it what vLLM does not know, and what is no sum of two matrices either.
_NOT_SERVED = (
    "use_dora",
    "lora_bias",
    "target_parameters",
    "trainable_token_indices",
    "layer_replication",
    "alora_invocation_tokens",
    "use_qalora",
)
# Those that an adapter in vLLM has not, or not each layer for itself.
_NOT_IN_ADAPTERS = ("modules_to_save", "rank_pattern", "alpha_pattern", "bias")
# Initial adapters that leave the base weights alone; others (PiSSA, OLoRA, ...) take their part out of them.
_KEEPS_BASE = (True, False, "gaussian", "orthogonal", "eva")


def needs_merging(peft_config: Any) -> bool:
    """Whether an engine can serve a LoRA policy only with the adapter merged into its weights."""
    return any(_is_set(peft_config, name) for name in _NOT_IN_ADAPTERS)


def changes_base(peft_config: Any) -> bool:
    """Whether a new adapter takes its initial part out of the base weights, so that they are not those on disk."""
    return peft_config.init_lora_weights not in _KEEPS_BASE


def check_adapter(peft_config: Any, transport: str, *, adapter_only: bool) -> None:
    """Refuse what an engine would serve wrongly or not at all.

    Args:
        peft_config (`peft.PeftConfig`):
            The policy's.
        transport (`str`):
            Its name.
        adapter_only (`bool`):
            Whether the transport moves the adapter alone.

    Raises:
        ConfigurationError: It names the setting.
    """
    if peft_config.peft_type != "LORA":
        raise ConfigurationError(f"An engine takes LoRA adapters; this one is {peft_config.peft_type}.")
    for name in (*_NOT_SERVED, *(_NOT_IN_ADAPTERS if adapter_only else ())):
        if _is_set(peft_config, name):
            advice = (
                "set engine_transport file" if name in _NOT_IN_ADAPTERS else "leave it out, or train without an engine"
            )
            raise ConfigurationError(
                f"{_COMMAND_LINE.get(name, name)} {getattr(peft_config, name)!r}: the engine cannot serve it with "
                f"engine_transport {transport}; {advice}."
            )


def vocabulary_size(name: str) -> int | None:
    """Width of the output distribution of the model in a folder or under a hub id; `None` where that is not known."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(name).get_text_config().vocab_size if name else None
    except (OSError, ValueError):  # a model that vLLM may know, and transformers does not
        return None


def check_weights(model: Any, name: str) -> None:
    """Refuse a policy of other parameters than the model the engine loads.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            The policy.
        name (`str`):
            Folder or hub id of the model the engine loads; may be empty where that is not known.

    Raises:
        ConfigurationError: It says what differs, and what to do.
    """
    config = model.config.get_text_config()
    if getattr(config, "tie_word_embeddings", False) and not _tied(model):
        raise ConfigurationError(
            "The model's head is tied to its embeddings, and the adapter trains one of them apart from the other "
            "(lora_modules_to_save, or lora_target_modules): an engine has one weight for both. Leave both out, or "
            "give a LoraConfig with ensure_weight_tying=True."
        )
    if not name:
        return
    served = type(model.config).from_pretrained(name).get_text_config().vocab_size
    if config.vocab_size != served:
        raise ConfigurationError(
            f"The model has a vocabulary of {config.vocab_size}, that of {name}, which the engine loads, {served}: it "
            "was resized (resize_token_embeddings, or chat_template_path). Save it with its tokenizer, and train from "
            "that folder."
        )


def _is_set(peft_config: Any, name: str) -> bool:
    return getattr(peft_config, name, None) not in (None, False, "none", [], {}, ())


def _tied(model: Any) -> bool:
    """Whether head and embeddings of a model that ties them are one weight, its adapter's part included."""
    from peft.tuners.lora import LoraLayer
    from peft.utils.other import ModulesToSaveWrapper

    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    if any(isinstance(end, LoraLayer) for end in ends):
        return False
    weights = [
        (end.modules_to_save[end.active_adapters[0]] if isinstance(end, ModulesToSaveWrapper) else end).weight
        for end in ends
        if end is not None
    ]
    return all(weight is weights[0] for weight in weights)
