import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edco_rl.errors import ConfigurationError
from edco_rl.store import Parts
from tests.store.kill import killed_at

TABLES = [pa.table({"a": [1.0, float("nan")], "b": ["x", None]}), pa.table({"a": [3.0], "b": ["z"]})] * 2
COUNT = len(TABLES)


def fill(path, made_from=None, *, stop=COUNT, changed="refuse"):
    """Go on with a table, up to a part."""
    with Parts(path, made_from or {}, changed) as parts:
        begun = len(parts)
        if parts.finished() is None:
            for number in range(begun, stop):
                parts.write(number, TABLES[number])
            if stop == COUNT:
                parts.merge({"rows": 6}, seconds=2.0)
        return begun


@pytest.fixture
def whole(tmp_path):
    """The bytes of a file that was made without an interruption."""
    fill(tmp_path / "whole" / "table")
    return (tmp_path / "whole" / "table").read_bytes()


def test_parts_become_one_file(tmp_path):
    path = tmp_path / "table.parquet"
    fill(path, {"seed": 1})
    table = pq.read_table(path)
    assert table.schema == TABLES[0].schema and str(table.to_pydict()) == str(pa.concat_tables(TABLES).to_pydict())
    found = Parts(path, {"seed": 1}).finished()
    assert (found.value, found.seconds, found.made_from) == ({"rows": 6}, 2.0, {"seed": 1})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["table.parquet", "table.parquet.json"]


def test_a_run_that_stopped_after_a_part_goes_on_there_and_ends_with_the_same_bytes(tmp_path, whole):
    path = tmp_path / "table"
    assert [fill(path, stop=stop) for stop in (1, 3, 3, 4)] == [0, 1, 3, 3]
    assert path.read_bytes() == whole and not Parts(path, {}).folder.exists()


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_killed_at_any_step_ends_with_the_same_bytes(tmp_path, whole, every):
    step, begun = 0, set()
    while killed_at(step, lambda step=step: fill(tmp_path / str(step) / "table")):
        path = tmp_path / str(step) / "table"
        assert not path.exists() or path.read_bytes() == whole
        begun.add(fill(path))
        assert path.read_bytes() == whole
        assert sorted(file.name for file in path.parent.iterdir()) == ["table", "table.json"]
        step += every
    assert begun == {0, 1, 2, 3, 4} and step > 50


@pytest.mark.parametrize("stop", [2, COUNT])
def test_parts_and_files_of_other_inputs_are_refused_or_made_again(tmp_path, whole, stop):
    path = tmp_path / "table"
    fill(path, {"seed": 1, "engine": {"dtype": "float32"}}, stop=stop)
    with pytest.raises(ConfigurationError, match=r"made with engine\.dtype 'float32'; now it is 'float16'") as error:
        fill(path, {"seed": 1, "engine": {"dtype": "float16"}})
    assert str(error.value).endswith(f"remove {path if stop == COUNT else Parts(path, {}).folder}.")
    assert fill(path, {"seed": 2}, changed="remake") == 0
    assert path.read_bytes() == whole and Parts(path, {"seed": 2}).finished() is not None


def test_a_part_that_was_altered_is_refused(tmp_path):
    path = tmp_path / "table"
    fill(path, stop=2)
    pq.write_table(TABLES[0], Parts(path, {}).folder / "part-0000001.parquet")
    with pytest.raises(ConfigurationError, match=r"part-0000001\.parquet was altered since it was made"):
        fill(path)


def test_a_file_of_something_else_is_not_overwritten(tmp_path):
    path = tmp_path / "table"
    path.write_text("mine")
    with pytest.raises(ConfigurationError, match="exists, and nothing says what made it"):
        fill(path)
    assert path.read_text() == "mine" and list(tmp_path.iterdir()) == [path]


def test_a_second_run_is_kept_off_the_same_file(tmp_path, whole):
    path = tmp_path / "table"
    with Parts(path, {}), pytest.raises(ConfigurationError, match="table: another run is writing it"):
        fill(path)
    fill(path)
    assert path.read_bytes() == whole


def test_a_run_in_another_process_holds_the_file_until_it_is_killed(tmp_path, whole):
    path = tmp_path / "table"
    code = (
        "import sys, time; from pathlib import Path; from edco_rl.store import Parts\n"
        "with Parts(Path(sys.argv[1]), {}): print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ConfigurationError, match="another run is writing it"):
            fill(path)
        process.kill()
    fill(path)
    assert path.read_bytes() == whole


def test_merging_holds_one_part_at_a_time(tmp_path):
    code = """
import sys
from pathlib import Path
import numpy as np, pyarrow as pa
from edco_rl.store import Parts
values, pool = np.random.default_rng(0), pa.default_memory_pool()
with Parts(Path(sys.argv[1]), {}) as parts:
    for number in range(int(sys.argv[2])):
        parts.write(number, pa.table({"a": values.random(100_000)}))
    parts.merge()
print(pool.max_memory())
"""
    few, many = (
        int(subprocess.check_output([sys.executable, "-c", code, tmp_path / count, count], text=True))
        for count in ("3", "30")
    )
    assert many < 1.3 * few
