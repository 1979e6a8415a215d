import json

import pyarrow.parquet as pq
import pytest

from edco_rl.errors import ConfigurationError
from edco_rl.entropy import Score
from edco_rl.scoring.store import ScoreStore

NAN = float("nan")


def scores(*values):
    return [Score(value, NAN, value - 1, value + 1, tokens=3) for value in values]


def fill(store, parts):
    for number in range(store.parts(), len(parts)):
        store.write_part(number, [f"id-{v}" for v in parts[number]], scores(*parts[number]), "step-7")


PARTS = [[1.0, 2.0], [3.0, 4.0], [5.0]]


def test_parts_become_one_file_with_all_columns(tmp_path):
    with ScoreStore(tmp_path / "scores.parquet", {"estimator": "mine"}) as store:
        fill(store, PARTS)
        assert store.merge() == 5
    rows = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    assert [row["id"] for row in rows] == [f"id-{float(v)}" for v in range(1, 6)]
    last = rows[-1]
    assert (last["score"], last["lower"], last["upper"], last["tokens"]) == (5.0, 4.0, 6.0, 3)
    assert last["policy_version"] == "step-7" and last["standard_error"] != last["standard_error"]
    assert [path.name for path in tmp_path.iterdir()] == ["scores.parquet"]


def test_an_interrupted_run_ends_with_the_same_bytes(tmp_path):
    for name, stops in (("whole", []), ("broken", [1, 2])):
        for stop in [*stops, len(PARTS)]:
            with ScoreStore(tmp_path / name, {"seed": 1}) as store:
                fill(store, PARTS[:stop])
                if stop == len(PARTS):
                    store.merge()
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "broken").read_bytes()


def test_a_part_that_was_not_finished_does_not_count(tmp_path):
    with ScoreStore(tmp_path / "scores", {}) as store:
        fill(store, PARTS[:1])
        (store.folder / "part-0000001.parquet.unfinished").write_bytes(b"PAR1 half a par")
        assert store.parts() == 1
        fill(store, PARTS)
        assert store.merge() == 5


@pytest.mark.parametrize("finished", [False, True])
def test_other_settings_are_refused_with_the_difference(tmp_path, finished):
    with ScoreStore(tmp_path / "scores", {"estimator": "a", "seed": 1}) as store:
        fill(store, PARTS)
        if finished:
            store.merge()
    with pytest.raises(ConfigurationError, match="made with estimator 'a'; now it is 'b'"):
        ScoreStore(tmp_path / "scores", {"estimator": "b", "seed": 1}).__enter__()
    with pytest.raises(ConfigurationError, match="made with seed 1; now it is None"):
        ScoreStore(tmp_path / "scores", {"estimator": "a"}).__enter__()
    with ScoreStore(tmp_path / "scores", {"estimator": "a", "seed": 1}) as store:
        assert store.is_finished() == finished


def test_of_a_mapping_only_what_differs_is_named(tmp_path):
    with ScoreStore(tmp_path / "scores", {"engine": {"device": "cpu", "dtype": "float32"}}) as store:
        fill(store, PARTS)
    with pytest.raises(ConfigurationError, match=r"made with engine\.dtype 'float32'; now it is None"):
        ScoreStore(tmp_path / "scores", {"engine": {"device": "cpu"}}).__enter__()


def test_a_second_run_is_kept_off_the_same_file(tmp_path):
    with ScoreStore(tmp_path / "scores", {}), pytest.raises(ConfigurationError, match="another run is writing it"):
        ScoreStore(tmp_path / "scores", {}).__enter__()
    with ScoreStore(tmp_path / "scores", {}):
        pass


def test_a_file_of_something_else_is_not_overwritten(tmp_path):
    path = tmp_path / "scores.parquet"
    path.write_text(json.dumps({"a": 1}))
    with pytest.raises(ConfigurationError, match="exists and holds no scores"), ScoreStore(path, {}):
        pass
    assert path.read_text() == '{"a": 1}'
