import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edco_rl.store import write_json, write_table, write_text, write_whole
from tests.store.kill import in_processes, killed_at


def test_a_writer_that_raises_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "folder" / "file"

    def broken(draft):
        draft.write_text("half")
        raise RuntimeError("no space")

    with pytest.raises(RuntimeError, match="no space"):
        write_whole(path, broken)
    assert list(path.parent.iterdir()) == []
    write_text(path, "whole")
    with pytest.raises(RuntimeError):
        write_whole(path, broken)
    assert path.read_text() == "whole" and list(path.parent.iterdir()) == [path]


def test_a_process_killed_at_any_step_leaves_the_old_file_or_the_new_one(tmp_path):
    path, found, killed = tmp_path / "file", [], True
    while killed:
        write_text(path, "old")
        killed = killed_at(len(found), lambda: write_text(path, "new" * 100_000))
        found.append(path.read_text())
    assert set(found) == {"old", "new" * 100_000} and found == sorted(found, reverse=True)


def test_of_several_processes_none_sees_a_part_of_anothers_file(tmp_path):
    path = tmp_path / "file"
    write_text(path, "0" * 100_000)

    def write_and_look(name):
        for _ in range(50):
            write_text(path, name * 100_000)
            text = path.read_text()
            assert text == text[0] * 100_000

    in_processes([lambda name=name: write_and_look(name) for name in "123"])
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_strict_and_for_people(tmp_path):
    write_json(tmp_path / "file", {"a": math.nan, "b": (1, math.inf), "ä": tmp_path})
    text = (tmp_path / "file").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"a": None, "b": [1, None], "ä": str(tmp_path)}
    assert "ä" in text and text.endswith("}\n") and len(text.splitlines()) > 3


def test_a_table_is_written_as_parquet(tmp_path):
    table = pa.table({"a": [1.0, math.nan], "b": ["x", None]})
    write_table(tmp_path / "table", table)
    assert pq.read_table(tmp_path / "table")["b"].to_pylist() == ["x", None]
