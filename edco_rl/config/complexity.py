"""Complexity-aware fine-tuning: how questions are split, who teaches the hard ones, and what is compared."""

from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import ConfigurationError
from .checks import check_url
from .curriculum import CurriculumConfig
from .ranges import Count, NotNegative, Positive, Several, Text

Baseline = Literal["sft", "distillation", "random_split", "curriculum"]
Stage = Literal["scores", "prediction", "split", "reasoning", "training_data", "model", "evaluation"]
SplitBy = Literal["quantiles", "thresholds"]
TeacherKind = Literal["column", "server", "endpoint"]
Fallback = Literal["answer", "drop"]
Filter = Literal["right", "not_empty"]
AnswerFrom = Literal["labels", "first_token"]
Rival = Literal["chain", "education_level", "reasoning_steps"]
AfterStop = Literal["stop", "answer", "drop"]

ANSWER_ESTIMATORS = ("answer_entropy", "option_entropy")


@dataclass
class ComplexityConfig(CurriculumConfig):
    """What complexity-aware fine-tuning (arXiv 2506.21220) adds to TRL's SFT, and the curriculum over its rows.

    Fields begin with what they belong to: `split_*` (the classes), `teacher_*` (where chains of thought come from),
    `reasoning_*` and `answer_*` (answers with reasoning, and direct ones), `complexity_*` (the run as a whole).
    """

    strategy: Text = field(
        default="random",
        metadata={
            "help": "How the rows are ordered: any strategy; complexity, stage (the class, 0 for the easiest) and "
            "phase (1 for rows with reasoning, else 0) are columns of theirs. random: all shuffled. easy_to_hard with "
            "strategy_kwargs {column: stage}: in each epoch first easy, then medium, then hard rows. phases: answers "
            "first, then reasoning, each as often as strategy_kwargs {stage_passes: 10} says."
        },
    )

    estimator: Text = field(
        default="answer_entropy",
        metadata={
            "help": "What complexity is. answer_entropy: entropy of the answer's token over the vocabulary; "
            "option_entropy: over the option labels only. Where answers are several tokens, prefix_entropy or any "
            "other estimator."
        },
    )
    scoring_top_logprobs: Several = field(
        default=100,
        metadata={"help": "Log-probabilities the entropy is computed from; the engine's cap bounds it."},
    )
    answer_from: AnswerFrom = field(
        default="labels",
        metadata={
            "help": "What the student answers where answers are single tokens. labels: the option whose label is most "
            "probable. first_token: the greedy token; rows where that is no label of theirs, or answer_unknown, are "
            "counted, and left out of prediction, split and training."
        },
    )
    answer_unknown: str | None = field(
        default=None,
        metadata={
            "help": "First token that stands for not knowing, as 0 where scoring_quick_answer_instruction asks for it."
        },
    )
    complexity_rivals: list[Rival] = field(
        default_factory=list,
        metadata={
            "help": "Other scores whose ROC AUC is reported beside that of complexity. chain: entropies of a chain of "
            "thought of the student. education_level, reasoning_steps: what the teacher, a server or endpoint, takes "
            "a question for."
        },
    )
    split_by: SplitBy = field(
        default="quantiles",
        metadata={
            "help": "quantiles: classes of given shares of the data. thresholds: classes between given entropies, in "
            "nats."
        },
    )
    split_points: list[float] = field(
        default_factory=lambda: [1 / 3, 2 / 3],
        metadata={
            "help": "Where easy, medium and hard are cut, as split_by says. One point makes two classes: easy, hard."
        },
    )
    split_rows_per_class: Count | None = field(
        default=None,
        metadata={"help": "Rows drawn of each class; the others are left out of training. By default all are kept."},
    )
    teacher: TeacherKind = field(
        default="column",
        metadata={
            "help": "Where chains of thought come from. column: teacher_column of the data set. server: a vLLM server "
            "of teacher_model, started for it. endpoint: an OpenAI-compatible service at teacher_url."
        },
    )
    teacher_column: Text = field(default="explanation", metadata={"help": "Column of teacher column."})
    teacher_column_states_answer: bool = field(
        default=False,
        metadata={
            "help": "Whether the column's texts end with an answer of their own, by which they are judged. By default "
            "the right answer is put below them."
        },
    )
    teacher_column_answer_line: str = field(
        default="Answer: {answer}", metadata={"help": "What is put below them, with {answer}."}
    )
    teacher_model: str | None = field(
        default=None, metadata={"help": "Model of teacher server (folder or hub id), or its name at an endpoint."}
    )
    teacher_url: str | None = field(
        default=None, metadata={"help": "Base URL of an endpoint, as https://api.example.com/v1."}
    )
    teacher_key_variable: Text = field(
        default="OPENAI_API_KEY", metadata={"help": "Environment variable that holds the endpoint's key."}
    )
    teacher_request: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Further fields of each request, as {top_p: 0.9}."}
    )
    teacher_temperature: NotNegative = field(default=0.0, metadata={"help": "Temperature of the teacher."})
    teacher_answer_tokens: Count = field(default=512, metadata={"help": "Most tokens of a teacher's answer."})
    teacher_concurrency: Count = field(default=8, metadata={"help": "Requests in flight at the teacher."})
    teacher_requests_per_minute: Positive | None = field(
        default=None, metadata={"help": "Most requests a minute, repeated ones included. By default no limit."}
    )
    teacher_attempts: Count = field(
        default=5,
        metadata={
            "help": "Times a question is sent until it counts as failed: after time-outs, HTTP "
            "408, 409, 429 and 5xx, lost connections and answers that are not JSON."
        },
    )
    teacher_backoff: NotNegative = field(
        default=1.0,
        metadata={
            "help": "Seconds until the second attempt, doubled for each further one up to 60; a Retry-After of the "
            "endpoint is obeyed instead."
        },
    )
    teacher_timeout: Positive = field(default=120.0, metadata={"help": "Seconds to wait for the answer to a request."})
    teacher_max_failures: Count = field(
        default=10,
        metadata={"help": "Questions in a row without any answer after which the teacher is not asked any more."},
    )
    teacher_token_budget: Count | None = field(
        default=None,
        metadata={
            "help": "Most tokens, of prompts and answers, paid in all runs with this teacher_cache. It is never "
            "exceeded: a request is only sent when its longest answer fits in."
        },
    )
    teacher_price_budget: Positive | None = field(
        default=None, metadata={"help": "The same as a price, from teacher_prompt_price and teacher_answer_price."}
    )
    teacher_prompt_price: NotNegative = field(default=0.0, metadata={"help": "Price of a million prompt tokens."})
    teacher_answer_price: NotNegative = field(default=0.0, metadata={"help": "Price of a million answer tokens."})
    teacher_cache: str | None = field(
        default=None,
        metadata={
            "help": "Folder that keeps every answer of a teacher by its question, so that none is paid twice. By "
            "default teacher_answers in the run's folder; several runs can share one."
        },
    )
    reasoning_instruction: str = field(
        default='Reason step by step first. Then end with a line "Answer: " and the right option\'s letter.',
        metadata={"help": "What is appended to a prompt to ask teacher and student for reasoning."},
    )
    reasoning_answer_marker: Text = field(
        default="Answer:",
        metadata={"help": "What stands before the answer in a chain of thought, for the rival chain."},
    )
    reasoning_filter: Filter = field(
        default="right",
        metadata={
            "help": "Which chains of thought are trained on. right: those whose final answer is the row's. not_empty: "
            "all but failed and pending ones."
        },
    )
    reasoning_if_unusable: Fallback = field(
        default="answer",
        metadata={
            "help": "What becomes of rows whose chain of thought failed, or does not pass reasoning_filter. answer: "
            "they are trained on their plain answer. drop: they are left out."
        },
    )
    reasoning_if_pending: AfterStop = field(
        default="stop",
        metadata={
            "help": "What becomes of rows the teacher was not asked about, as the budget was used up or it did not "
            "answer any more. stop: the run ends before training, and goes on when it is started again. answer, "
            "drop: as reasoning_if_unusable."
        },
    )
    reasoning_max_tokens: Count = field(
        default=512, metadata={"help": "Most tokens of the student's answers with reasoning."}
    )
    answer_max_tokens: Count = field(
        default=16, metadata={"help": "Most tokens of a direct answer in the evaluation."}
    )
    complexity_baselines: list[Baseline] = field(
        default_factory=list,
        metadata={
            "help": "What is trained beside it and compared. sft: plain answers to all. distillation: reasoning for "
            "all. random_split: classes of the same sizes, drawn at random. curriculum: plain answers, in order of "
            "complexity."
        },
    )
    complexity_last_stage: Stage | None = field(
        default=None,
        metadata={
            "help": "Stage to end after, to look at what came of it; later runs go on from there. By default "
            "evaluation, of direct answers and answers with reasoning, where there are complexity_baselines to "
            "compare with; else model, whose held-out accuracy is in summary.json."
        },
    )
    complexity_replace_artefacts: dict[str, str] | str | None = field(
        default=None,
        metadata={
            "help": "Parquet files of your own in place of those made, by their names in the run's folder: {scores: "
            "my.parquet, reasoning/complexity-aware: chains.parquet}."
        },
    )
    complexity_part_prompts: Count = field(
        default=256, metadata={"help": "Prompts scored or answered at a time; a killed run goes on after them."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.complexity_last_stage is None:
            self.complexity_last_stage = "evaluation" if self.complexity_baselines else "model"
        for setting in ("complexity_baselines", "complexity_rivals"):
            names = getattr(self, setting)
            if len(set(names)) < len(names):
                raise ConfigurationError(f"{setting} {names} names one twice.")
        if self.answer_unknown is not None and self.answer_from == "labels":
            raise ConfigurationError("answer_unknown is a first token: set answer_from to first_token.")
        self._check_split()
        self._check_teacher()

    def _check_split(self) -> None:
        points = self.split_points
        if not 1 <= len(points) <= 2 or sorted(set(points)) != list(points):
            raise ConfigurationError(f"split_points must be one or two ascending numbers; got {points}.")
        if self.split_by == "quantiles" and not all(0 < point < 1 for point in points):
            raise ConfigurationError(f"split_points of quantiles must be between 0 and 1; got {points}.")

    def _check_teacher(self) -> None:
        check_url("teacher_url", self.teacher_url)
        needed = {"column": ["teacher_column"], "server": ["teacher_model"]}
        for name in needed.get(self.teacher, ["teacher_url", "teacher_model"]):
            if not getattr(self, name):
                raise ConfigurationError(f"teacher {self.teacher} needs {name}.")
        asked = [name for name in self.complexity_rivals if name != "chain"]
        if asked and self.teacher == "column":
            raise ConfigurationError(f"complexity_rivals {asked} are asked of a teacher: a server or endpoint.")
        if self.teacher_price_budget and not (self.teacher_prompt_price or self.teacher_answer_price):
            raise ConfigurationError("teacher_price_budget needs teacher_prompt_price or teacher_answer_price.")
        if "{answer}" not in self.teacher_column_answer_line:
            raise ConfigurationError(
                f"teacher_column_answer_line {self.teacher_column_answer_line!r} has no {{answer}}."
            )
