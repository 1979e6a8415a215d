import math

import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from edco_rl.config import EstimatorConfig
from edco_rl.data.prompts import with_instruction
from edco_rl.data.tokens import RowTokenizer
from edco_rl.entropy import Score
from edco_rl.errors import ConfigurationError
from edco_rl.scoring import RowScorer
from edco_rl.scoring.job import score_rows, scores_table
from edco_rl.store import Parts
from tests.benchmarks.stand_in import StandInEngine

from ..tokens import tokenize_prompt


@pytest.fixture(scope="module")
def scorer(tiny_model_path):
    return RowScorer(
        RowTokenizer(AutoTokenizer.from_pretrained(tiny_model_path)), EstimatorConfig(scoring_prefix_tokens=2)
    )


def rows(count):
    for number in range(count):
        text = f"{number} + {number * number} ="
        yield {"id": f"r{number}", "prompt": text if number % 3 else [{"role": "user", "content": text}]}


def run(path, scorer, source, in_flight=1, stop_after=None):
    """Scores into a file; `stop_after` parts an interruption comes."""
    reports = []

    def report(progress):
        reports.append(progress)
        if len(reports) == stop_after:
            raise KeyboardInterrupt

    with Parts(path, {}) as parts:
        options = {"policy_version": "0", "part_prompts": 7, "in_flight": in_flight, "report": report}
        score_rows(source, scorer, StandInEngine(), parts, **options)
        parts.merge()
    return reports


@pytest.mark.parametrize("in_flight", [1, 3])
def test_an_interrupted_run_ends_with_the_file_of_an_uninterrupted_one(tmp_path, scorer, in_flight):
    run(tmp_path / "whole", scorer, rows(40))
    for stop in (2, 4):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "broken", scorer, rows(40), in_flight, stop_after=stop)
    reports = run(tmp_path / "broken", scorer, rows(40), in_flight)
    assert [report.resumed for report in reports][:2] == [True, True] and not reports[-1].resumed
    assert sum(report.prompts for report in reports) == 40
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "broken").read_bytes()


def test_every_row_is_scored_once_and_in_order(tmp_path, scorer):
    run(tmp_path / "scores", scorer, rows(23), in_flight=2)
    table = pq.read_table(tmp_path / "scores").to_pylist()
    assert [row["id"] for row in table] == [f"r{number}" for number in range(23)]
    expected = scorer.score(scorer.encode(list(rows(23))), StandInEngine())
    assert [row["score"] for row in table] == [score.value for score in expected]


def test_a_table_has_all_that_a_score_says():
    [row] = scores_table(["a"], [Score(2.0, math.nan, 1.0, 3.0, tokens=4)], "step-7").to_pylist()
    assert math.isnan(row.pop("standard_error"))
    assert row == {"id": "a", "score": 2.0, "lower": 1.0, "upper": 3.0, "tokens": 4, "policy_version": "step-7"}


def test_rows_that_changed_in_between_are_noticed(tmp_path, scorer):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "scores", scorer, rows(20), stop_after=1)
    with pytest.raises(ConfigurationError, match="The rows have changed"):
        run(tmp_path / "scores", scorer, list(rows(20))[1:])


def test_rows_are_read_no_further_than_two_parts_ahead(tmp_path, scorer):
    read, written = [0], [0]

    def counted():
        for row in rows(100):
            read[0] += 1
            assert read[0] <= written[0] + 3 * 7 + 1
            yield row

    with Parts(tmp_path / "scores", {}) as parts:

        def report(progress):
            written[0] += progress.prompts

        score_rows(
            counted(), scorer, StandInEngine(), parts, policy_version="0", part_prompts=7, in_flight=1, report=report
        )
    assert written == [100]


def test_a_bad_row_ends_the_run_and_leaves_what_was_done(tmp_path, scorer):
    def broken():
        yield from rows(15)
        raise ConfigurationError("rows.jsonl, row 15, field 'prompt': the text is empty.")

    with pytest.raises(ConfigurationError, match="row 15"):
        run(tmp_path / "scores", scorer, broken())
    assert len(Parts(tmp_path / "scores", {})) == 2


def test_prompts_encoded_together_are_the_same_as_one_by_one(scorer):
    some = list(rows(8))
    instruction = EstimatorConfig().scoring_quick_answer_instruction
    expected = [
        tokenize_prompt(with_instruction(row["prompt"], instruction), scorer.tokenizer.tokenizer) for row in some
    ]
    assert scorer.encode(some).prompts == expected
