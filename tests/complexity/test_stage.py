"""Tables of stages: made once, made again when what they are made from has changed, and replaced by a user's own."""

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from rich.console import Console

from edco_rl.complexity.stage import Given, Shelf, StageAtOnce, StageInParts
from edco_rl.config import ComplexityConfig
from edco_rl.errors import ConfigurationError

ROWS = Dataset.from_dict({"id": [f"q{i}" for i in range(10)], "x": list(range(10))})


def given_rows(**settings):
    return Given(ComplexityConfig(**settings), 0, ROWS, ROWS, None, None)


@dataclass
class Numbers(StageAtOnce):
    """A table of a number, that counts how often it was made."""

    inputs: dict[str, Any] = field(default_factory=lambda: {"a": 1})
    number: int = 1
    made: int = 0

    name = "numbers/first"
    columns = ("id", "number")

    @property
    def rows(self):
        return ROWS.select([0])

    def made_from(self):
        return self.inputs

    def make(self):
        self.made += 1
        return pa.table({"id": ["q0"], "number": [self.number]}), {"number": self.number}


class Squares(StageInParts):
    """Squares of the training rows; interrupted at the part that begins with `stop`."""

    name = "squares"
    columns = ("id", "square")
    stop = None

    def __init__(self, given):
        super().__init__(given)
        self.computed = []

    def made_from(self):
        return {"rows": self.given.train_digest}

    def make_part(self, rows):
        if rows["x"][0] == self.stop:
            raise KeyboardInterrupt
        self.computed.append(rows["x"][0])
        return pa.table({"id": list(rows["id"]), "square": [x * x for x in rows["x"]]})


def shelf(folder, **replaced):
    names = {name.replace("_", "/"): path for name, path in replaced.items()}
    return Shelf(folder, names, ["numbers/first", "squares"], Console(quiet=True))


def test_a_table_is_made_once_while_what_it_is_made_from_stays_the_same(tmp_path):
    stage = Numbers(given_rows(), {"a": 1, "b": [2, None]})
    first = shelf(tmp_path).get(stage)
    stage.inputs = {"b": [2, None], "a": 1}
    assert shelf(tmp_path).get(stage) == first and stage.made == 1 and first.value == {"number": 1}
    assert first.path == tmp_path / "numbers" / "first.parquet"
    stage.inputs, stage.number = {"a": 1, "b": [3, None]}, 2
    again = shelf(tmp_path).get(stage)
    assert stage.made == 2 and pq.read_table(again.path)["number"].to_pylist() == [2]
    assert again.fingerprint != first.fingerprint


def test_an_altered_table_is_noticed_and_can_take_the_stages_place(tmp_path):
    stage = Numbers(given_rows())
    made = shelf(tmp_path).get(stage)
    pq.write_table(pa.table({"id": ["q0"], "number": [7]}), made.path)
    with pytest.raises(ConfigurationError, match=r"first\.parquet was altered"):
        shelf(tmp_path).get(stage)
    own = tmp_path / "own.parquet"
    made.path.rename(own)
    found = shelf(tmp_path, numbers_first=str(own)).get(stage)
    assert found.path == own and stage.made == 1 and found.fingerprint != made.fingerprint
    assert pq.read_table(shelf(tmp_path).get(stage).path)["number"].to_pylist() == [1]  # without it: made again


def test_a_file_of_somebody_else_is_left_alone(tmp_path):
    path = tmp_path / "numbers" / "first.parquet"
    path.parent.mkdir()
    path.write_text("years of work")
    with pytest.raises(ConfigurationError, match=r"nothing says what made it.*complexity_replace_artefacts"):
        shelf(tmp_path).get(Numbers(given_rows()))
    assert path.read_text() == "years of work"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["q0"]}, r"own\.parquet has no column 'number'; expected id, number"),
        ({"id": ["q1"], "number": [1]}, r"does not have the rows it should: row 0 is 'q1', not 'q0'"),
        ({"id": ["q0", "q1"], "number": [1, 2]}, r"does not have the rows it should: 2 instead of 1"),
    ],
)
def test_a_table_put_in_a_stages_place_must_have_its_columns_and_rows(tmp_path, columns, message):
    own = tmp_path / "own.parquet"
    pq.write_table(pa.table(columns), own)
    with pytest.raises(ConfigurationError, match=message):
        shelf(tmp_path, numbers_first=str(own)).get(Numbers(given_rows()))


def test_a_replacement_of_nothing_or_by_nothing_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="this run has no 'lunch'; it has numbers/first, squares"):
        shelf(tmp_path, lunch="x")
    with pytest.raises(ConfigurationError, match=r"squares: there is no file nowhere\.parquet"):
        shelf(tmp_path, squares="nowhere.parquet")


@pytest.mark.parametrize("size", [3, 4, 100])
def test_a_table_made_in_parts_goes_on_after_the_last_one_whatever_their_size_is_now(tmp_path, size):
    stage = Squares(given_rows(complexity_part_prompts=3))
    stage.stop = 6
    with pytest.raises(KeyboardInterrupt):
        shelf(tmp_path).get(stage)
    assert stage.computed == [0, 3]
    stage = Squares(given_rows(complexity_part_prompts=size))
    table = pq.read_table(shelf(tmp_path).get(stage).path)
    assert table["square"].to_pylist() == [x * x for x in range(10)] and table["id"].to_pylist() == ROWS["id"]
    assert stage.computed[0] == 6 and shelf(tmp_path).get(stage).path.is_file()
