"""Adapters of the domains' hub data sets: from their columns to a form of [`~edco_rl.data.formats`]."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .choices import LABELS
from .rows import FieldError

Values = dict[str, Any]


@dataclass(frozen=True)
class Adapter:
    """How the rows of one data set are read.

    Args:
        format (`str`):
            Form of the rows once adapted.
        columns (`Mapping[str, str]`):
            Names of this package to the data set's.
        adapt (`Callable`, *optional*):
            Turns a row of the data set into one of the form. Raises [`FieldError`].
        learn (`Callable`, *optional*):
            Makes the adapter that fits, from all rows of all splits and the name of the configuration.
    """

    format: str = "multiple_choice"
    columns: Mapping[str, str] = field(default_factory=dict)
    adapt: Callable[[Values], Values] = lambda values: values
    learn: Callable[[Iterable[Values], str | None], "Adapter"] | None = None


def _teleqna(values: Values) -> Values:
    """The hub's columns are `question`, `choices`, `answer` (index), `subject`, `explanation`; the authors' file has
    `option 1`, `option 2`, ..., `answer` as `option 2: its text`, `category`, `explanation`."""
    if "choices" in values or "option 1" not in values:
        return values
    numbered = {name: text for name, text in values.items() if name.startswith("option ")}
    answer = values.get("answer")
    label = answer.partition(":")[0].strip() if isinstance(answer, str) else ""
    if label not in numbered:
        raise FieldError("answer", f"expected 'option N: ...' with one of {', '.join(numbered)}; got {label!r}")
    rest = {name: value for name, value in values.items() if name not in numbered}
    return rest | {"choices": list(numbered.values()), "answer": list(numbered).index(label)}


def _pubmedqa(values: Values) -> Values:
    """`pubid`, `question`, `context` (`contexts`, `labels`, `meshes`, ...), `long_answer`, `final_decision`."""
    context = values.get("context")
    if not isinstance(context, dict) or not isinstance(context.get("contexts"), list):
        raise FieldError("context", "expected an object with a list 'contexts'")
    return values | {"context": context["contexts"], "options": ["yes", "no", "maybe"]}


# What a task's input can consist of; other columns are bookkeeping, or give the answer away.
_LEGALBENCH_INPUTS = (
    "statute",
    "description",
    "contract",
    "citation",
    "bill_title",
    "bill_summary",
    "company_name",
    "company_description",
    "Paragraph",
    "text",
)


def _learn_legalbench(rows: Iterable[Values], config_name: str | None) -> Adapter:
    """Each configuration is a task with `answer` and an input of one or more columns. The answers that occur are the
    options; a task whose answers seldom repeat is open-ended. One task, scalr, has `choice_0`, `choice_1`, ..."""
    count, listed, answers = 0, False, set()
    for values in rows:
        count += 1
        listed = listed or "choice_0" in values
        if isinstance(values.get("answer"), str):
            answers.add(values["answer"].strip())
        if len(answers) > len(LABELS):
            break
    options = sorted(answers)
    closed = 2 <= len(options) <= len(LABELS) and 2 * len(options) <= count
    task = f"Which answer is right for the legal task {(config_name or 'at hand').replace('_', ' ')!r}?"

    def adapt(values: Values) -> Values:
        parts = [(name, values[name]) for name in _LEGALBENCH_INPUTS if values.get(name)]
        for name, value in parts:
            if not isinstance(value, str):
                raise FieldError(name, f"expected text, got {type(value).__name__}")
        if not parts and not values.get("question"):
            raise FieldError("text", f"is missing: expected question, or one of {', '.join(_LEGALBENCH_INPUTS)}")
        adapted = {
            "question": values.get("question") or task,
            "context": "\n\n".join(text if len(parts) == 1 else f"{name}: {text}" for name, text in parts),
            "answer": values.get("answer"),
            "subject": config_name or "",
        }
        if listed:
            return adapted | {"options": [values[name] for name in sorted(values) if name.startswith("choice_")]}
        if isinstance(adapted["answer"], str):
            adapted["answer"] = adapted["answer"].strip()
        return adapted | {"options": options} if closed else adapted

    return Adapter("multiple_choice" if closed or listed else "verifiable", adapt=adapt)


ADAPTERS = {
    "teleqna": Adapter(adapt=_teleqna),
    "medqa": Adapter(columns={"answer_index": "answer_idx", "subject": "meta_info"}),
    "pubmedqa": Adapter(
        columns={"answer_index": "final_decision", "explanation": "long_answer", "id": "pubid"}, adapt=_pubmedqa
    ),
    "legalbench": Adapter(learn=_learn_legalbench),
}

# Hub ids, in lower case, of the data sets that have an adapter.
HUB_DATASETS = {
    "netop/teleqna": "teleqna",
    "gbaker/medqa-usmle-4-options": "medqa",
    "qiaojin/pubmedqa": "pubmedqa",
    "nguha/legalbench": "legalbench",
}
