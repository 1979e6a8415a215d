"""How rows are read, and how prompts look."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from .checks import Checked
from .ranges import Count, Text, Whole

DatasetFormat = Literal[
    "auto",
    "prompt",
    "multiple_choice",
    "instruction",
    "verifiable",
    "teleqna",
    "medqa",
    "pubmedqa",
    "legalbench",
]
DATASET_FORMATS: tuple[str, ...] = get_args(DatasetFormat)


@dataclass
class DataConfig(Checked):
    """The prompts beyond TRL's `dataset_name`: how rows are read, how prompts look, and how many there are."""

    dataset_format: DatasetFormat = field(
        default="auto",
        metadata={
            "help": "How rows are read. auto: the adapter of a hub data set that has one, else by columns: prompt "
            "(prompt or messages), multiple_choice (options or choices), instruction (instruction), verifiable "
            "(question or problem). teleqna, medqa, pubmedqa, legalbench: copies of these data sets."
        },
    )
    column_mapping: dict[str, str] | str | None = field(
        default=None,
        metadata={
            "help": "Columns with other names, as {ours: theirs}: {question: Frage, options: Antworten}. Ours are "
            "prompt, messages, completion, question, context, options, answer_index, answer, instruction, response, "
            "explanation, subject, id."
        },
    )
    eval_dataset_name: Text | None = field(
        default=None,
        metadata={
            "help": "A file or hub data set of held-out prompts, as dataset_name. By default they are the test split "
            "of the hub data set, or rows of a single file or split, chosen by a hash of what they say."
        },
    )
    task_kwargs: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "Settings of a generated task (dataset_name reasoning_gym:<task>), as reasoning-gym has them."
        },
    )
    prompt_template: Text | None = field(
        default=None,
        metadata={
            "help": "Text of a prompt, with {question}, {context} and, of multiple choice, {options}, {labels} and "
            "{label_kind} (letter or number); of a generated task {question}, {answer} or a field of its metadata, as "
            "{expression}. By default one that fits the form. Prompts the data set has ready stay as they are."
        },
    )
    option_labels: Literal["letters", "numbers"] = field(
        default="letters",
        metadata={"help": "What options of multiple choice are called: letters from A, or numbers from 1."},
    )
    system_prompt: str | None = field(
        default=None,
        metadata={"help": "System message of every prompt that has none; in plain text, what stands before it."},
    )
    conversational: bool = field(
        default=True,
        metadata={
            "help": "Whether prompts that are made here go through the chat template, or stay plain text. Prompts the "
            "data set has ready stay what they are."
        },
    )
    max_prompt_characters: Count = field(
        default=100_000, metadata={"help": "A row with a longer prompt is invalid: it is most likely a broken one."}
    )
    skip_invalid: bool = field(
        default=False,
        metadata={"help": "Whether to skip invalid rows, count and list them, instead of ending with an error."},
    )
    skipped_rows_file: Text | None = field(
        default=None,
        metadata={
            "help": "JSONL file that lists skipped rows. By default skipped_rows.jsonl in the run's folder, or where "
            "the command runs."
        },
    )
    train_prompts: Count | None = field(
        default=None,
        metadata={
            "help": "Prompts in the pool, the first of the split. By default all of it; 1,000 of a generated task."
        },
    )
    held_out_prompts: Whole = field(
        default=200,
        metadata={"help": "Held-out prompts answered greedily before and after training; 0 skips the evaluation."},
    )
