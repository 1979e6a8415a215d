"""What a trainer is given: read, and checked before a model is loaded."""

import inspect
import logging
from collections.abc import Mapping
from typing import Any

from datasets import Dataset
from transformers import AutoProcessor, TrainingArguments

from ..data.chat import check_chat_template
from ..declarations import check_numbers
from ..errors import ConfigurationError

logger = logging.getLogger(__name__)

# What ends a completion besides end tokens, by vLLM's names and that of transformers.
_STOPS = ("stop", "stop_token_ids", "stop_strings")
_LIBRARIES = ("edco_rl", "transformers", "trl")


def given_arguments(trainer: Any, mixin: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Mapping[str, Any]:
    """Arguments of the constructor of TRL's trainer, by name.

    Args:
        trainer (`Trainer`):
            The trainer that is made.
        mixin (`type`):
            The class whose constructor was called; TRL's comes after it.
        args (`tuple`), kwargs (`dict[str, Any]`):
            What it was called with.
    """
    classes = type(trainer).__mro__
    for parent in classes[classes.index(mixin) + 1 :]:
        init = parent.__dict__.get("__init__")
        if init is not None and "train_dataset" in inspect.signature(init).parameters:
            return inspect.signature(init).bind_partial(trainer, *args, **kwargs).arguments
    return kwargs


def check_arguments(args: TrainingArguments | None, *, engine: bool) -> None:
    """Refuse settings of any trainer that a curriculum cannot go along with.

    Args:
        args (`TrainingArguments`, *optional*):
            Settings.
        engine (`bool`):
            Whether an engine of this package makes the rollouts, if any are made.

    Raises:
        ConfigurationError: It names the setting.
    """
    if args is None:
        return
    check_numbers(args)
    if args.dataloader_num_workers:
        raise ConfigurationError(
            f"dataloader_num_workers is {args.dataloader_num_workers}: workers would draw prompts ahead of the policy "
            "that should choose them. Set it to 0."
        )
    if args.auto_find_batch_size:
        raise ConfigurationError(
            "auto_find_batch_size begins training anew when memory runs out, and the curriculum would keep what it "
            "has drawn and learned until then. Set it to false, and a per_device_train_batch_size that fits."
        )
    stops = [name for name in _STOPS if (getattr(args, "generation_kwargs", None) or {}).get(name)]
    if stops and not engine and not getattr(args, "use_vllm", False):
        raise ConfigurationError(
            f"generation_kwargs {stops[0]}: TRL's generation with transformers does not stop there. Use an engine, "
            "with stop or stop_token_ids."
        )
    if "stop_strings" in stops:
        raise ConfigurationError("generation_kwargs stop_strings is transformers' name; that of an engine is stop.")
    if stops and getattr(args, "mask_truncated_completions", False):
        raise ConfigurationError(
            f"mask_truncated_completions leaves out all that does not end with an end token, also what {stops[0]} of "
            "generation_kwargs ends: nothing would be left. Set it to false; the gate truncated knows both."
        )


def check_conversations(rows: Dataset, given: Mapping[str, Any]) -> None:
    """Check that the chat template takes the rows' messages, where there are any.

    Args:
        rows (`datasets.Dataset`):
            Rows with a `prompt`.
        given (`Mapping[str, Any]`):
            Arguments of TRL's constructor.

    Raises:
        ConfigurationError: There is no template, or it does not take those of a row, which is named.
    """
    args, tokenizer, model = given.get("args"), given.get("processing_class"), given.get("model")
    if isinstance(rows[0]["prompt"], str) or getattr(args, "chat_template_path", None):
        return
    if tokenizer is None:
        name = model if isinstance(model, str) else getattr(getattr(model, "config", None), "_name_or_path", None)
        revision = (getattr(args, "model_init_kwargs", None) or {}).get("revision")
        if not name:
            return
        try:
            tokenizer = AutoProcessor.from_pretrained(
                name, revision=revision, trust_remote_code=getattr(args, "trust_remote_code", False)
            )
        except (OSError, ValueError):
            return  # TRL says what is wrong with the model
    check_chat_template(rows, tokenizer, getattr(args, "chat_template_kwargs", None))


def warn_of_samplers(trainer: type, mixin: type) -> None:
    """Warn of a user's class with a sampler or data loader of its own, which the curriculum's takes the place of.

    Args:
        trainer (`type`):
            Class of the trainer.
        mixin (`type`):
            The class with the curriculum's data loader. A loader of a class before it is asked instead.
    """
    classes = trainer.__mro__
    after = classes[classes.index(mixin) + 1 :]
    for name, among in (("_get_train_sampler", classes), ("get_train_dataloader", after)):
        for owner in among:
            if name in vars(owner) and owner.__module__.partition(".")[0] not in _LIBRARIES:
                logger.warning(
                    "%s.%s will not be asked: the curriculum chooses the rows. An order of your own is a strategy "
                    "(docs/extending.md).",
                    owner.__name__,
                    name,
                )


def check_rows_kept(given: Dataset, prepared: Dataset, args: TrainingArguments) -> None:
    """Check that TRL has made one training row of each row.

    Args:
        given (`datasets.Dataset`):
            The rows TRL was given.
        prepared (`datasets.Dataset`):
            What it made of them, in their order and with their columns.
        args (`TrainingArguments`):
            Its settings.

    Raises:
        ConfigurationError: It has left rows out; the first of them is named.
    """
    if len(prepared) == len(given):
        return
    column = "messages" if "messages" in given.column_names else "prompt"
    kept = iter(prepared[column])
    next_kept = next(kept, None)
    left_out = []
    for row, content in enumerate(given[column]):
        if content == next_kept:
            next_kept = next(kept, None)
        else:
            left_out.append(row)
    name = f" (id {given[left_out[0]]['id']!r})" if "id" in given.column_names else ""
    raise ConfigurationError(
        f"Row {left_out[0]}{name} has no token left to train on once it is cut to max_length "
        f"{getattr(args, 'max_length', None)}: its prompt fills it. Of the {len(given)} rows this happens to "
        f"{len(left_out)}, which TRL leaves out and a curriculum cannot. Raise max_length, or leave them out of the "
        "data set (skip_invalid does not: it knows no tokens)."
    )
