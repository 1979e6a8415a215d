import json

import pyarrow as pa
import pytest
from datasets import Dataset

from edco_rl.complexity.stages import Stages, in_parts
from edco_rl.errors import ConfigurationError


class Work:
    """A stage that writes a number, and counts how often it was made."""

    def __init__(self, number=1):
        self.number = number
        self.made = 0

    def __call__(self, folder):
        self.made += 1
        (folder / "number.txt").write_text(str(self.number))
        return {"number": self.number}


def run(folder, work, inputs=None, **settings):
    return Stages(folder, {"python": "3"}, **settings).run("stage", "number.txt", inputs or {"a": 1}, work)


def test_a_stage_is_skipped_exactly_while_its_inputs_stay_the_same(tmp_path):
    work = Work()
    first = run(tmp_path, work, {"a": 1, "b": [2, None]})
    again = run(tmp_path, work, {"b": [2, None], "a": 1})
    assert work.made == 1 and again == first and again.results == {"number": 1}
    run(tmp_path, work, {"a": 1, "b": [3, None]})
    assert work.made == 2
    manifest = json.loads((tmp_path / "stage" / "manifest.json").read_text())
    assert manifest["inputs"] == {"a": 1, "b": [3, None]} and manifest["complete"]
    assert manifest["versions"] == {"python": "3"} and set(manifest["files"]) == {"number.txt"}


def test_the_digest_follows_the_content(tmp_path):
    digests = [run(tmp_path / str(name), Work(number)).digest for name, number in enumerate([1, 1, 2])]
    assert digests[0] == digests[1] != digests[2]


def test_an_interrupted_stage_is_continued_in_its_folder_and_not_taken_for_finished(tmp_path):
    def interrupted(folder):
        (folder / "half.txt").write_text("half")
        (folder / "number.txt").write_text("not yet")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, interrupted)
    left = []
    found = run(tmp_path, lambda folder: left.append((folder / "half.txt").read_text()) or Work()(folder))
    assert left == ["half"] and found.attempts == 2 and found.file.read_text() == "1"

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, interrupted, {"a": 2})
    run(tmp_path, lambda folder: left.append((folder / "half.txt").exists()) or Work()(folder), {"a": 3})
    assert left[-1] is False  # what other inputs made is not continued


def test_an_artefact_changed_by_hand_is_noticed_and_can_take_the_stages_place(tmp_path):
    work = Work()
    path = run(tmp_path, work).file
    path.write_text("7")
    with pytest.raises(ConfigurationError, match=r"number\.txt is not what its stage made.*replace_artefacts"):
        run(tmp_path, work)
    own = tmp_path / "own.txt"
    path.rename(own)
    found = run(tmp_path, work, replaced={"stage": str(own)})
    assert found.file == own and work.made == 1 and found.results == {"replaced_by": str(own)}
    with pytest.raises(ConfigurationError, match=r"number\.txt is not what its stage made"):
        run(tmp_path, work)  # it is gone


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigurationError, match="holds something else than a stage"):
        run(tmp_path, Work())
    assert (tmp_path / "stage" / "thesis.txt").exists()


def test_a_table_made_in_parts_goes_on_after_the_last_part(tmp_path):
    rows = Dataset.from_dict({"x": list(range(10))})
    computed = []

    def compute(part):
        if len(computed) == 2 and not stopped:
            stopped.append(True)
            raise KeyboardInterrupt
        computed.append(part["x"][0])
        return pa.table({"y": [x * x for x in part["x"]]})

    stopped = []
    with pytest.raises(KeyboardInterrupt):
        in_parts(tmp_path, rows, 3, compute, "Squaring")
    table = in_parts(tmp_path, rows, 3, compute, "Squaring")
    assert table["y"].to_pylist() == [x * x for x in range(10)] and computed == [0, 3, 6, 9]
