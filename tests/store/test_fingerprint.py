import hashlib
import json
import math
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from edco_rl.store import fingerprint, model_fingerprint, parameters_fingerprint, plain, rows_fingerprint

SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(width=16) | st.text("aäß\ud800", max_size=2)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    max_leaves=8,
)


def turned(value):
    """The same with the keys of every mapping in another order, and tuples for lists."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    return tuple(map(turned, value)) if isinstance(value, list) else value


def without_nan(text):
    return text.replace("-Infinity", "null").replace("Infinity", "null").replace("NaN", "null")


@given(VALUES)
def test_key_order_and_tuples_make_no_difference(value):
    assert fingerprint(turned(value)) == fingerprint(value)


@given(VALUES)
def test_a_fingerprint_is_that_of_what_json_gives_back(value):
    back = json.loads(json.dumps(plain(value), allow_nan=False))
    assert back == plain(value) == plain(back) and fingerprint(back) == fingerprint(value)


@given(VALUES, VALUES)
def test_fingerprints_are_the_same_for_the_same_json_alone(first, second):
    texts = [without_nan(json.dumps(value, sort_keys=True)) for value in (first, second)]
    assert (fingerprint(first) == fingerprint(second)) == (texts[0] == texts[1])


def test_the_hash_is_sha256_of_canonical_json():
    expected = hashlib.sha256(b'{"a": [1, null], "b": "\\u00e4"}\n').hexdigest()
    assert fingerprint({"b": "ä", "a": (1, math.nan)}) == expected


def test_numbers_and_arrays_of_other_libraries_are_numbers_and_lists():
    values = {
        1: np.int64(3),
        "half": np.float32(0.5),
        "nan": np.float64("nan"),
        "array": np.array([[1.0, np.inf]]),
        "tensor": torch.tensor([1, 2]),
        "flag": np.bool_(True),
        "column": Dataset.from_dict({"x": [1, 2]})["x"],
        "path": os.path.devnull,
    }
    assert plain(values) == {
        "1": 3,
        "half": 0.5,
        "nan": None,
        "array": [[1.0, None]],
        "tensor": [1, 2],
        "flag": True,
        "column": [1, 2],
        "path": "/dev/null",
    }
    long = np.arange(5000)
    changed = long.copy()
    changed[2500] = 0  # where NumPy prints dots
    assert fingerprint(long) != fingerprint(changed)


def test_a_set_has_the_same_fingerprint_in_every_process():
    code = "from edco_rl.store import fingerprint; print(fingerprint({'modules': {'q', 'k', 'v', 'o', 'up', 'down'}}))"
    found = {
        subprocess.check_output([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed})
        for seed in "123"
    }
    assert len(found) == 1


def test_rows_are_the_same_whatever_file_they_came_from(tmp_path):
    rows = [{"id": "a", "prompt": [{"role": "user", "content": "1"}]}, {"id": "b", "prompt": []}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    assert rows_fingerprint(Dataset.from_parquet(str(tmp_path / "rows.parquet"))) == rows_fingerprint(rows)
    assert rows_fingerprint(rows[::-1]) != rows_fingerprint(rows) != rows_fingerprint(rows[:1])


def test_models_are_told_apart_by_their_files(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "notes.txt").write_text("a")
    before = model_fingerprint(str(tmp_path))
    (tmp_path / "notes.txt").write_text("other")
    assert model_fingerprint(str(tmp_path)) == before
    (tmp_path / "model.safetensors").write_bytes(b"heavier")
    assert model_fingerprint(str(tmp_path)) != before
    assert model_fingerprint("organisation/model") is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parameters_are_told_apart_by_every_weight(dtype):
    torch.manual_seed(0)
    model, same = (torch.nn.Linear(3, 2).to(dtype) for _ in range(2))
    assert parameters_fingerprint(model) != parameters_fingerprint(same)
    same.load_state_dict(model.state_dict())
    assert parameters_fingerprint(model) == parameters_fingerprint(same)
    with torch.no_grad():
        same.bias[1] += 1
    assert parameters_fingerprint(model) != parameters_fingerprint(same)
