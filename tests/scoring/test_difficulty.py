import pyarrow.parquet as pq
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from edco_rl.config import EstimatorConfig
from edco_rl.data.tokens import RowTokenizer
from edco_rl.engine.transformers_backend import TransformersBackend
from edco_rl.errors import ConfigurationError
from edco_rl.scoring.difficulty import DifficultyMeasurer, fuse, load_difficulty, save_difficulty

ROWS = [
    {"prompt": "1 + 1 =", "completion": " 2", "hard": 4.0},
    {"prompt": "The capital of France is", "completion": " Paris, of course", "hard": 3.0},
    {"prompt": "One two three", "completion": " four", "hard": 2},
]


@pytest.fixture(scope="module")
def tokenizer(tiny_model_path):
    return AutoTokenizer.from_pretrained(tiny_model_path)


def measurer(tokenizer, **changes):
    settings = {"rankings": ["rouge_l", "hard"], "columns": list(ROWS[0]), "max_tokens": 4} | changes
    row_tokenizer = RowTokenizer(tokenizer, settings.pop("chat_template_kwargs", None))
    return DifficultyMeasurer(row_tokenizer, EstimatorConfig(), **settings)


def made_from(tokenizer, rows=ROWS, model="student", constant=60.0, ties="shared", **changes):
    return measurer(tokenizer, **changes).made_from(rows, model, constant=constant, ties=ties)


def test_difficulties_are_kept_and_read_again(tokenizer, tiny_model_path, tmp_path):
    backend = TransformersBackend.of(AutoModelForCausalLM.from_pretrained(tiny_model_path), tokenizer)
    measured = measurer(tokenizer).measure(ROWS, backend)
    difficulty, inputs = fuse(measured, ["hard"], 60.0), made_from(tokenizer)
    assert load_difficulty(tmp_path, inputs) is None
    kept = save_difficulty(tmp_path, inputs, ["a", "b", "c"], measured, difficulty, seconds=1.5)
    assert load_difficulty(tmp_path, inputs) == ([3.0, 2.0, 1.0], 1.5)
    assert pq.read_table(kept.path).column_names == ["id", "difficulty", "output", "rouge_l", "hard"]
    kept.path.write_text("no table")
    with pytest.raises(ConfigurationError, match="was altered since it was made"):
        load_difficulty(tmp_path, inputs)


def test_difficulties_of_other_inputs_lie_beside_them(tokenizer, tmp_path):
    inputs = [
        made_from(tokenizer),
        made_from(tokenizer, rows=ROWS[::-1]),
        made_from(tokenizer, rows=[*ROWS[:2], {**ROWS[2], "completion": " five"}]),
        made_from(tokenizer, model="other"),
        made_from(tokenizer, constant=2.0),
        made_from(tokenizer, ties="in_order"),
        made_from(tokenizer, max_tokens=5),
        made_from(tokenizer, rankings=["hard"]),
        made_from(tokenizer, chat_template_kwargs={"enable_thinking": False}),
    ]
    for number, one in enumerate(inputs):
        assert load_difficulty(tmp_path, one) is None
        save_difficulty(tmp_path, one, ["a"], [{"hard": 1.0}], [float(number)], seconds=1.0)
    assert [load_difficulty(tmp_path, one)[0] for one in inputs] == [[float(number)] for number in range(len(inputs))]


@pytest.mark.parametrize(
    ("ties", "rouge_l", "cross_entropy", "expected"),
    [
        # By overlap the rows are 5, 0, 2, 1, 3, 4; by loss, those of equal loss in that order, 1, 3, 5, 0, 2, 4.
        ("in_order", [0.5, 0.2, 0.5, 0.0, 0.0, 0.9], [2.0, 1.0, 3.0, 1.0, 4.0, 2.0], [3, 2, 5, 4, 6, 1]),
        # Places 1 and 2 and places 2 and 1 have equal sums: they are in the order of the loss.
        ("in_order", [0.9, 0.8], [2.0, 1.0], [2, 1]),
        ("shared", [0.9, 0.8], [2.0, 1.0], [1.5, 1.5]),
        # Overlap ranks 2.5, 4, 2.5, 5.5, 5.5, 1; loss ranks 3.5, 1.5, 5, 1.5, 6, 3.5.
        ("shared", [0.5, 0.2, 0.5, 0.0, 0.0, 0.9], [2.0, 1.0, 3.0, 1.0, 4.0, 2.0], [3, 2, 5, 4, 6, 1]),
    ],
)
def test_ranks_are_fused_as_pocls_code_does_or_with_equal_ranks_shared(ties, rouge_l, cross_entropy, expected):
    measured = [
        {"rouge_l": overlap, "cross_entropy": loss} for overlap, loss in zip(rouge_l, cross_entropy, strict=True)
    ]
    assert fuse(measured, ["rouge_l", "cross_entropy"], 60.0, ties) == expected


@pytest.mark.parametrize(
    ("rankings", "message"),
    [
        ([], "difficulty_rankings is empty"),
        (["rouge"], "Unknown estimator 'rouge'"),
        (["prompt"], "row 'r0': expected a finite number, got '1 \\+ 1 ='"),
    ],
)
def test_rankings_that_rank_nothing_are_refused(tokenizer, rankings, message):
    with pytest.raises(ConfigurationError, match=message):
        measurer(tokenizer, rankings=rankings).measure([{"id": "r0", **ROWS[0]}], None)
