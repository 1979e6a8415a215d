"""A teacher that pads the student's vocabulary to more tokens, as those of one family do in other sizes."""

import logging
from typing import Any

import torch
from transformers import AutoTokenizer, ProcessorMixin
from trl import DistillationConfig, DistillationTrainer
from trl.trainer.utils import create_model_from_path

from ..errors import ConfigurationError
from .distillation_loss import check_vocabularies
from .lm_head import vocabulary_size

logger = logging.getLogger(__name__)


def check_teacher(student: Any, teacher: Any, tokenizer: Any, args: DistillationConfig) -> None:
    """Check, before a model is loaded, that a teacher's next-token distribution can be compared with the student's.

    It can where both give probabilities to as many tokens, and where the teacher gives them to more but has the same
    tokenizer: what it has beyond is padding (Qwen2.5: 151,936 up to 3B, 152,064 from 7B, of 151,665 tokens).

    Args:
        student (`str` or `PreTrainedModel`), teacher (`str` or `PreTrainedModel`):
            The models.
        tokenizer (`PreTrainedTokenizerBase` or `ProcessorMixin`, *optional*):
            The student's; by default that of its folder.
        args (`DistillationConfig`):
            The trainer's settings.

    Raises:
        ConfigurationError: It cannot.
    """
    models = {"student": (student, _student_revision(args)), "teacher": (teacher, args.teacher_model_revision)}
    trust = args.trust_remote_code
    widths = [vocabulary_size(*one, trust_remote_code=trust) for one in models.values()]
    if widths[1] <= widths[0]:
        check_vocabularies(*widths)
        return
    found = {}
    for name, (model, revision) in models.items():
        own = tokenizer.tokenizer if isinstance(tokenizer, ProcessorMixin) else tokenizer
        path = model if isinstance(model, str) else model.config._name_or_path
        try:
            if name == "teacher" or own is None:
                own = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=trust)
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"The student has a vocabulary of {widths[0]:,} tokens, the teacher one of {widths[1]:,}. Whether "
                f"that is padding is for their tokenizers to say, and that of the {name}, {path!r}, cannot be read: "
                f"{error}"
            ) from error
        found[name] = own.get_vocab()
    differ = sorted(token for token, _ in found["student"].items() ^ found["teacher"].items())
    if differ or max(found["student"].values()) >= widths[0]:
        shown = f": of {len(set(differ)):,} tokens they have different numbers, as of {differ[0]!r}" if differ else ""
        raise ConfigurationError(
            f"The student has a vocabulary of {widths[0]:,} tokens, the teacher one of {widths[1]:,}, and that is "
            f"more than padding{shown}. Take a teacher with the student's tokenizer."
        )


def _student_revision(args: DistillationConfig) -> str | None:
    init = args.model_init_kwargs
    return init.get("revision") if isinstance(init, dict) else None


class PaddedTeacherTrainer(DistillationTrainer):
    """TRL's trainer, which takes a teacher that gives probabilities to more tokens by leaving out those beyond."""

    def __init__(
        self, model: Any, teacher_model: Any, args: DistillationConfig, *positional: Any, **kwargs: Any
    ) -> None:
        trust, given = args.trust_remote_code, args.teacher_model_init_kwargs
        width = vocabulary_size(model, _student_revision(args), trust_remote_code=trust)
        if vocabulary_size(teacher_model, args.teacher_model_revision, trust_remote_code=trust) > width:
            if isinstance(teacher_model, str):
                teacher_model = self._load_teacher(teacher_model, args)
                args.teacher_model_init_kwargs = None  # TRL refuses them beside a model
            teacher_model.resize_token_embeddings(width)
            logger.info("The teacher's vocabulary is cut to the %d tokens of the student's.", width)
        super().__init__(model, teacher_model, args, *positional, **kwargs)
        args.teacher_model_init_kwargs = given

    @staticmethod
    def _load_teacher(path: str, args: DistillationConfig) -> Any:
        """The teacher as TRL would load it."""
        init = dict(args.teacher_model_init_kwargs or {})
        init["dtype"] = dtype if (dtype := init.get("dtype")) in ("auto", None) else getattr(torch, dtype)
        if args.teacher_model_revision is not None:
            init.setdefault("revision", args.teacher_model_revision)
        if args.distributed_state.distributed_type in ("MULTI_GPU", "DEEPSPEED"):
            init["device_map"] = None
        init.setdefault("trust_remote_code", args.trust_remote_code)
        return create_model_from_path(path, **init)
