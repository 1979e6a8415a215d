import numpy as np
import pytest
from datasets import Dataset

from edco_rl.complexity.baselines import METHOD, curriculum_of, rows_for_teacher
from edco_rl.complexity.reasoning import Chain, chains_of_column
from edco_rl.complexity.training_data import longest, training_rows
from edco_rl.config import ComplexityConfig
from edco_rl.data.tokens import SupervisedRowTokenizer
from edco_rl.errors import ConfigurationError
from edco_rl.rewards import multiple_choice_reward

from .conftest import question_rows

ROWS = question_rows(9)
CLASSES = np.array([2, 0, 1, 2, 0, 1, 2, 0, 1])
SCORES = np.arange(9.0)
CONFIG = ComplexityConfig()


def chain(i, status):
    return Chain(f"q{i}", status, "" if status == "right" else "why", f"text {i}", 3, 5)


@pytest.mark.parametrize(
    ("method", "expected"),
    [(METHOD, [0, 3, 6]), ("distillation", list(range(9))), ("sft", []), ("curriculum", [])],
)
def test_each_method_wants_reasoning_for_its_rows(method, expected):
    assert rows_for_teacher(method, CLASSES, 0).tolist() == expected


def test_a_random_split_wants_reasoning_for_as_many_rows_and_trains_on_those(seed=3):
    wanted = rows_for_teacher("random_split", CLASSES, seed)
    assert len(wanted) == 3 and wanted.tolist() != [0, 3, 6]
    chains = {f"q{i}": chain(i, "right") for i in wanted}
    rows, _ = training_rows("random_split", ROWS, SCORES, CLASSES, chains, CONFIG, seed)
    assert {row["id"] for row in rows if row["reasoning"]} == set(chains)
    assert {row["id"] for row in rows if row["stage"] == 2} == set(chains)


@pytest.mark.parametrize("unusable", ["answer", "drop"])
@pytest.mark.parametrize("pending", ["answer", "drop"])
def test_every_row_is_trained_on_as_configured_and_counted(unusable, pending):
    chains = {"q0": chain(0, "right"), "q3": chain(3, "wrong"), "q6": chain(6, "pending"), "q1": chain(1, "failed")}
    config = ComplexityConfig(reasoning_if_unusable=unusable, reasoning_if_pending=pending)
    rows, counts = training_rows(METHOD, ROWS, SCORES, CLASSES, chains, config, 0)
    dropped = ({"q3", "q1"} if unusable == "drop" else set()) | ({"q6"} if pending == "drop" else set())
    assert {row["id"] for row in rows} == set(ROWS["id"]) - dropped
    assert counts == {
        "reasoning": 1,
        "answer": 5,
        "instead": 3 - len(dropped),
        "dropped": len(dropped),
        "left_out": 0,
    }
    by_id = {row["id"]: row for row in rows}
    assert by_id["q0"]["completion"][0]["content"] == "text 0"
    asked = by_id["q0"]["prompt"][0]["content"]
    assert asked == f"{ROWS[0]['prompt'][0]['content']}\n\n{CONFIG.reasoning_instruction}"
    for row in rows:
        if row["id"] != "q0":
            given = ROWS[int(row["id"][1])]
            assert (row["prompt"], row["completion"]) == (given["prompt"], given["completion"])


def test_chains_that_are_not_empty_can_be_enough_and_rows_without_a_class_are_left_out():
    classes = np.array([2, 0, -1, 2, -1, 1, 2, 0, 2])
    chains = {"q0": chain(0, "right"), "q3": chain(3, "wrong"), "q6": chain(6, "failed"), "q8": chain(8, "wrong")}
    wanted = {method: rows_for_teacher(method, classes, 0).tolist() for method in (METHOD, "distillation")}
    assert wanted == {METHOD: [0, 3, 6, 8], "distillation": [0, 1, 3, 5, 6, 7, 8]}
    assert -1 not in classes[rows_for_teacher("random_split", classes, 0)]
    config = ComplexityConfig(reasoning_filter="not_empty", reasoning_if_unusable="drop")
    rows, counts = training_rows(METHOD, ROWS, SCORES, classes, chains, config, 0)
    assert counts == {"reasoning": 3, "answer": 3, "instead": 0, "dropped": 1, "left_out": 2}
    phases = {row["id"]: (row["phase"], row["reasoning"]) for row in rows}
    assert phases == {f"q{i}": (int(i in (0, 3, 8)), i in (0, 3, 8)) for i in (0, 1, 3, 5, 7, 8)}


def test_the_order_of_rows_is_the_runs_where_they_have_classes_and_else_the_methods():
    config = ComplexityConfig(strategy="easy_to_hard", strategy_kwargs={"column": "stage"}, split_points=[0.5])
    orders = {name: curriculum_of(name, config) for name in (METHOD, "random_split", "sft", "distillation")}
    assert orders[METHOD] == orders["random_split"] == config
    assert (orders["sft"].strategy, orders["sft"].strategy_kwargs) == ("random", None)
    assert orders["distillation"] == orders["sft"] and orders["sft"].split_points == [0.5]
    by_complexity = curriculum_of("curriculum", config)
    assert (by_complexity.strategy, by_complexity.strategy_kwargs) == ("easy_to_hard", {"column": "complexity"})


def test_a_column_teaches_with_the_right_answer_put_below_its_texts():
    chains = chains_of_column(ROWS, CONFIG, multiple_choice_reward, len)
    assert [c.status for c in chains[:3]] == ["right", "failed", "right"]
    assert chains[0].text == "Because.\nAnswer: A" and chains[0].answer_tokens == len(chains[0].text)


def test_a_column_that_states_its_answer_is_judged_by_it():
    rows = ROWS.map(lambda row: {"explanation": row["explanation"] and f"Thus.\nAnswer: {row['answer']}"})
    config = ComplexityConfig(teacher_column_states_answer=True)
    assert [c.status for c in chains_of_column(rows, config, multiple_choice_reward, len)[:3]] == [
        "right",
        "failed",
        "right",
    ]
    plain = chains_of_column(ROWS, config, multiple_choice_reward, len)
    assert [c.status for c in plain[:3]] == ["wrong", "failed", "wrong"]


def test_a_missing_column_is_named():
    with pytest.raises(ConfigurationError, match="teacher_column 'why' is none of the data set's"):
        chains_of_column(ROWS, ComplexityConfig(teacher_column="why"), multiple_choice_reward, len)


def test_the_longest_row_is_measured_as_trl_makes_it(tiny_model_path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_path)
    chains = {"q3": Chain("q3", "right", "", "word " * 40, 0, 0)}
    rows, _ = training_rows(METHOD, ROWS, SCORES, CLASSES, chains, CONFIG, 0)
    length, identifier = longest(Dataset.from_list(rows), SupervisedRowTokenizer(tokenizer))
    messages = [*rows[3]["prompt"], *rows[3]["completion"]]
    assert identifier == "q3"
    assert length == len(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"])
