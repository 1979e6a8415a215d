"""Scores that complexity is compared with: entropies over a chain of thought, and a judge's ratings."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from edco_rl.complexity.chain_entropy import NAMES, ChainEntropy, aggregate, find_answer
from edco_rl.complexity.connection import TeacherConnection
from edco_rl.complexity.judge import Judge
from edco_rl.complexity.rating import SCALES, Rating, instruction, read_rating
from edco_rl.complexity.stage import Given, Shelf
from edco_rl.complexity.student import Student
from edco_rl.complexity.teacher import TeacherError
from edco_rl.config import ComplexityConfig, EngineConfig
from edco_rl.data.prompts import with_instruction
from edco_rl.data.tokens import RowTokenizer

from ..conftest import TINY_VOCABULARY
from .conftest import question_rows


def test_a_chain_is_brought_down_to_one_number_in_ten_ways():
    """Three sentences of 2, 1 and 3 tokens, and a rest that the token limit cut off; the answer is the sixth token."""
    entropies = np.array([1.0, 3.0, 2.0, 0.5, 0.5, 2.0, 4.0])
    margins = np.array([0.5, 0.25, 0.5, 1.0, 1.0, 0.5, 0.0])
    ends = np.array([False, True, True, False, False, True, False])
    found = aggregate(entropies, margins, ends, answer=5)
    assert tuple(found) == NAMES
    assert found == pytest.approx(
        {
            "answer": 2.0,
            "max": 4.0,
            "mean": 13 / 7,
            "mean_of_sentence_max": (3 + 2 + 2) / 3,
            "mean_of_sentence_mean": (2 + 2 + 1) / 3,
            "max_of_sentence_mean": 2.0,
            "margin": 1 - 3.75 / 7,
            "max_from_answer": 2.0,
            "top_two_difference": 1.0,
            "mix": 0.05 * 4 + 0.95 * 2,
        },
        rel=1e-15,
    )
    whole = aggregate(entropies, margins, np.zeros(7, dtype=bool), answer=0)
    assert whole["mean_of_sentence_max"] == 4 and whole["max_of_sentence_mean"] == pytest.approx(13 / 7)


@pytest.mark.parametrize(
    ("pieces", "marker", "place"),
    [
        (["So", " [[", "3", "]]"], "[[", 2),
        (["So", " [", "[", "3", "]]", " [[", "4"], "[[", 3),
        (["Answer", ":", " ", " B"], "Answer:", 3),
        (["[[4", "]]"], "[[", 0),
        (["So", " [["], "[[", None),
        (["So"], "[[", None),
    ],
)
def test_the_answer_is_the_token_after_its_marker(pieces, marker, place):
    assert find_answer(pieces, marker) == place


def given(model_path, tmp_path, rows, **settings):
    config = ComplexityConfig(**settings)
    tokenizer = RowTokenizer(AutoTokenizer.from_pretrained(model_path))
    student = Student(model_path, EngineConfig(engine_mode="none"), tokenizer, tmp_path / "engine.log")
    return Given(config, 0, rows, rows, student, Judge("multiple_choice"))


def test_chains_are_scored_as_full_logits_in_float64_say(tiny_model_path, tmp_path):
    rows = question_rows(3)
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_path, tie_word_embeddings=False)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_path)
    with torch.no_grad():  # spread logits, as a trained model has them
        model.get_output_embeddings().weight.mul_(20.0)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    model = model.double()
    truth = []
    for row in rows:
        prompt = with_instruction(row["prompt"], ComplexityConfig().reasoning_instruction)
        start = tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]
        ids, logprobs = list(start), []
        for _ in range(12):
            with torch.no_grad():
                logprobs.append(model(torch.tensor([ids])).logits[0, -1].log_softmax(-1).numpy())
            ids.append(int(logprobs[-1].argmax()))
        truth.append((tokenizer.batch_decode([[one] for one in ids[len(start) :]]), np.array(logprobs)))
    marker = truth[0][0][1]  # what the first chain says second is taken for what stands before its answer
    settings = {"reasoning_answer_marker": marker, "reasoning_max_tokens": 12, "scoring_top_logprobs": len(tokenizer)}
    stage = ChainEntropy(given(str(tmp_path / "model"), tmp_path, rows, **settings), len(tokenizer))
    found = stage.make_part(rows).to_pylist()
    answers = [find_answer(pieces, marker) for pieces, _ in truth]
    assert answers[0] is not None
    for row, (pieces, logprobs), answer in zip(found, truth, answers, strict=True):
        assert row["tokens"] == 12 and row["right"] is not None
        if answer is None:
            assert all(row[name] is None for name in NAMES)
            continue
        entropies = -(np.exp(logprobs) * logprobs).sum(1)
        assert row["answer"] == pytest.approx(entropies[answer], abs=1e-4)
        assert row["max"] == pytest.approx(entropies.max(), abs=1e-4)
        assert row["mean"] == pytest.approx(entropies.mean(), abs=1e-4)
        top = np.sort(np.exp(logprobs), axis=1)
        assert row["margin"] == pytest.approx(np.mean(1 - (top[:, -1] - top[:, -2])), abs=1e-5)
        assert not any(piece.endswith(("\n", ";", "...")) for piece in pieces)
        assert row["max_of_sentence_mean"] == pytest.approx(row["mean"])  # one sentence


@pytest.mark.parametrize(
    ("text", "scale", "value"),
    [
        ("Hard enough. [[graduate]]", "education_level", 0.6),
        ("[[graduate]], no: [[ High school ]]", "education_level", 0.2),
        ("Complexity: [[postgraduate]].", "education_level", 0.8),
        ("[[medium]]", "reasoning_steps", 0.5),
        ("[[kindergarten]]", "education_level", None),
        ("graduate", "education_level", None),
        ("", "reasoning_steps", None),
    ],
)
def test_a_rating_is_a_level_in_double_square_brackets(text, scale, value):
    assert read_rating(text, scale) == value
    assert all(level in instruction(scale) for level in SCALES[scale])


def test_a_judges_ratings_are_kept_like_a_teachers_answers(scripted_teacher, tiny_model_path, tmp_path):
    rows = question_rows(5)
    said = {0: "say Easy. [[low]]", 1: "say [[high]]", 2: "say No idea.", 3: 400, 4: "say [[medium]]"}
    teacher = scripted_teacher({question: [behaviour] for question, behaviour in said.items()})

    def rate(url, **settings):
        endpoint = {"teacher": "endpoint", "teacher_url": url, "teacher_model": "m", "teacher_answer_tokens": 20}
        all_given = given(tiny_model_path, tmp_path, rows, **endpoint, **settings)
        connection = TeacherConnection(all_given.config, EngineConfig(), all_given.student, tmp_path)
        shelf = Shelf(tmp_path, {}, ["rivals/reasoning_steps"], Console(quiet=True))
        artefact = shelf.get(Rating(all_given, "reasoning_steps", connection))
        return pq.read_table(artefact.path)["rating"].to_pylist(), artefact.value

    with teacher.serve() as url:
        with pytest.raises(TeacherError, match="are pending"):
            rate(url, teacher_token_budget=520, teacher_concurrency=1)
        assert 0 < len(teacher.requests) < 5
        ratings, counts = rate(url)
        assert ratings == [0.25, 0.75, None, None, 0.5]
        assert counts == {"0.25": 1, "0.75": 1, "0.5": 1, "None": 2}
        assert max(teacher.paid.values()) == 1
        sent = len(teacher.requests)
        assert rate(url)[0] == ratings and len(teacher.requests) == sent


def test_rows_without_an_answer_have_no_chain_scores(tiny_model_path, tmp_path):
    rows = Dataset.from_list(question_rows(2).to_list())
    settings = {"reasoning_max_tokens": 2, "reasoning_answer_marker": "no text has this"}
    table = ChainEntropy(given(tiny_model_path, tmp_path, rows, **settings), TINY_VOCABULARY).make_part(rows)
    assert table.schema.names == list(ChainEntropy.columns) and table["mean"].null_count == 2
