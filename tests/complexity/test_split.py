from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edco_rl.complexity.split import Split, describe_split, random_split, split_by_quantiles, split_by_thresholds
from edco_rl.complexity.stage import Given
from edco_rl.config import ComplexityConfig
from edco_rl.errors import ConfigurationError
from edco_rl.store import Artefact

# Few different values: most of them tie.
TIED = st.lists(st.sampled_from([0.0, 0.5, 0.5000001, 1.0, 2.0]), min_size=3, max_size=60).map(np.array)
POINTS = st.lists(st.decimals("0.01", "0.99", places=2), min_size=1, max_size=2, unique=True).map(
    lambda points: [float(point) for point in sorted(points)]
)


def ids(scores):
    return [f"row {number}" for number in range(len(scores))]


def expected_cuts(points, count):
    return [int((Decimal(str(q)) * count).to_integral_value(ROUND_HALF_UP)) for q in points]


@settings(max_examples=50)
@given(TIED, POINTS)
def test_quantiles_cut_classes_of_exact_sizes_in_the_order_of_scores_whatever_ties(scores, points):
    cuts = [0, *expected_cuts(points, len(scores)), len(scores)]
    assume(all(low < high for low, high in pairwise(cuts)))
    classes = split_by_quantiles(scores, ids(scores), points)
    assert np.bincount(classes).tolist() == np.diff(cuts).tolist()
    for easier, harder in zip(range(len(points)), range(1, len(points) + 1), strict=True):
        assert scores[classes == easier].max() <= scores[classes == harder].min()


@settings(max_examples=50)
@given(TIED, POINTS, st.randoms())
def test_the_class_of_a_row_does_not_depend_on_where_it_stands(scores, points, random):
    cuts = [0, *expected_cuts(points, len(scores)), len(scores)]
    assume(all(low < high for low, high in pairwise(cuts)))
    order = list(range(len(scores)))
    random.shuffle(order)
    names = np.array(ids(scores))
    classes = split_by_quantiles(scores, names.tolist(), points)
    moved = split_by_quantiles(scores[order], names[order].tolist(), points)
    assert moved.tolist() == classes[order].tolist()


@settings(max_examples=50)
@given(TIED, st.lists(st.sampled_from([0.0, 0.5, 0.75, 1.0]), min_size=1, max_size=2, unique=True).map(sorted))
def test_thresholds_put_a_row_above_those_its_score_exceeds(scores, points):
    expected = [sum(score > point for point in points) for score in scores]
    if len(set(expected)) <= len(points):
        with pytest.raises(ConfigurationError, match="split_points leave a class empty"):
            split_by_thresholds(scores, ids(scores), points)
    else:
        assert split_by_thresholds(scores, ids(scores), points).tolist() == expected


@given(st.lists(st.integers(0, 2), min_size=1, max_size=50).map(np.array), st.integers(0, 3))
def test_a_random_split_has_the_same_sizes_and_is_the_same_for_the_same_seed(classes, seed):
    drawn = random_split(classes, seed)
    assert np.bincount(drawn).tolist() == np.bincount(classes).tolist()
    assert drawn.tolist() == random_split(classes, seed).tolist()


STATUS = ["answered"] * 16 + ["invalid"] * 3 + ["unknown"]


def split(folder, seed=0, **settings):
    """A split of 16 answered rows of rising complexity and 4 others, whose complexities lie among them."""
    rows = Dataset.from_dict({"id": [f"q{i}" for i in range(20)]})
    config = ComplexityConfig(split_points=[0.25, 0.75], **settings)
    columns = {"id": rows["id"], "score": [*map(float, range(16)), 0.5, 3.5, 14.5, 7.0], "status": STATUS}
    pq.write_table(pa.table(columns), folder / "scores.parquet")
    scores = Artefact(folder / "scores.parquet", {}, None, "scores", 0.0)
    made, counts = Split(Given(config, seed, rows, rows, None, None), scores).make()
    pq.write_table(made, folder / "split.parquet")
    return made.to_pylist(), counts, describe_split(folder / "split.parquet", config)


def test_quantiles_are_those_of_answered_rows(tmp_path):
    rows, counts, described = split(tmp_path)
    assert [row["class"] for row in rows] == [0] * 4 + [1] * 8 + [2] * 4 + [-1] * 4
    assert counts == {"easy": 4, "medium": 8, "hard": 4, "invalid": 3, "unknown": 1}
    assert [row["name"] for row in rows[16:]] == STATUS[16:]
    # As numpy has them, of the released code: easy below the one, hard from the other on.
    low, high = np.quantile(np.arange(16.0), [0.25, 0.75])
    assert [row["class"] for row in rows[:16]] == [0 if x < low else 2 if x >= high else 1 for x in range(16)]
    assert described["medium"] == {"rows": 8, "lowest": 4.0, "highest": 11.0} and described["left out"]["rows"] == 4


def test_so_many_rows_of_each_class_are_drawn_with_the_seed_and_the_rest_is_counted(tmp_path):
    rows, counts, _ = split(tmp_path, split_rows_per_class=3)
    assert counts == {"easy": 3, "medium": 3, "hard": 3, "not drawn": 7, "invalid": 3, "unknown": 1}
    drawn = {row["id"]: row["class"] for row in rows if row["class"] >= 0}
    whole = {row["id"]: row["class"] for row in split(tmp_path)[0]}
    assert drawn.items() < whole.items() and len(drawn) == 9
    assert split(tmp_path, split_rows_per_class=3)[0] == rows != split(tmp_path, 1, split_rows_per_class=3)[0]


def test_a_class_with_fewer_rows_than_wanted_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="split_rows_per_class is 5, and class easy has 4 rows"):
        split(tmp_path, split_rows_per_class=5)


def test_a_random_split_leaves_out_the_same_rows():
    classes = np.array([-1, 0, 1, 2, -1, 0, 2, 2])
    drawn = random_split(classes, 0)
    assert (drawn == -1).tolist() == (classes == -1).tolist() and sorted(drawn) == sorted(classes)


def test_a_row_without_a_score_is_named():
    with pytest.raises(ConfigurationError, match=r"Row 'row 1' has no finite score: nan"):
        split_by_quantiles(np.array([0.0, np.nan]), ["row 0", "row 1"], [0.5])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split_points": [0.6, 0.3]}, "one or two ascending numbers"),
        ({"split_points": [0.2, 0.4, 0.6]}, "one or two ascending numbers"),
        ({"split_points": [1.5]}, "between 0 and 1"),
        ({"split_by": "luck"}, "split_by must be one of quantiles, thresholds"),
        ({"complexity_baselines": ["luck"]}, "complexity_baselines must be a list of some of sft"),
        ({"complexity_baselines": ["sft", "sft"]}, "names one twice"),
        ({"complexity_rivals": ["luck"]}, "complexity_rivals must be a list of some of chain"),
        ({"complexity_rivals": ["chain", "education_level"]}, r"complexity_rivals \['education_level'\] are asked of"),
        ({"reasoning_answer_marker": ""}, "reasoning_answer_marker must be text that is not empty"),
        ({"answer_unknown": "0"}, "set answer_from to first_token"),
        ({"answer_from": "luck"}, "answer_from must be one of labels, first_token"),
        ({"split_rows_per_class": 0}, "split_rows_per_class must be a whole number of at least 1"),
        ({"reasoning_filter": "luck"}, "reasoning_filter must be one of right, not_empty"),
        ({"teacher": "server"}, "teacher server needs teacher_model"),
        ({"teacher": "endpoint", "teacher_model": "m"}, "teacher endpoint needs teacher_url"),
        ({"teacher_price_budget": 1.0}, "needs teacher_prompt_price"),
        ({"teacher_timeout": 0}, "teacher_timeout must be a number above 0"),
        ({"teacher_column_answer_line": "B"}, "has no {answer}"),
        ({"complexity_last_stage": "lunch"}, "complexity_last_stage must be one of scores"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        ComplexityConfig(**settings)
