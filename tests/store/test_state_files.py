"""A state of plain values and arrays, in two files that belong together."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edco_rl.errors import ConfigurationError
from edco_rl.store import read_state, write_state

DTYPES = st.sampled_from([np.float64, np.float32, np.int64, np.int32, np.uint64, np.uint8, np.bool_])
ARRAYS = DTYPES.flatmap(lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=1, max_dims=2, min_side=0)))
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
STATES = st.recursive(
    PLAIN | ARRAYS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


def same(one, other):
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@settings(max_examples=50)
@given(STATES)
def test_a_state_comes_back_as_it_was(tmp_path_factory, state):
    path = tmp_path_factory.mktemp("state") / "one.json"
    write_state(path, state)
    assert same(state, read_state(path))


def test_the_json_can_be_read_and_the_arrays_are_beside_it(tmp_path):
    state = {"step": np.int64(3), "scores": np.arange(3.0), "parts": [{"of": np.zeros((0, 2), dtype=np.int32)}]}
    write_state(tmp_path / "state.json", state)
    assert json.loads((tmp_path / "state.json").read_text()) == {
        "step": 3,
        "scores": {"array": "scores", "type": "float64", "shape": [3]},
        "parts": [{"of": {"array": "parts.0.of", "type": "int32", "shape": [0, 2]}}],
    }
    assert sorted(file.name for file in tmp_path.iterdir()) == ["state.arrays", "state.json"]


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    path, arrays = tmp_path / "state.json", tmp_path / "state.arrays"
    write_state(path, {"step": 1, "scores": np.arange(3.0)})
    first = arrays.read_bytes()
    write_state(path, {"step": 2, "scores": np.arange(3.0)})
    arrays.write_bytes(first)
    with pytest.raises(ConfigurationError, match=r"state.arrays does not belong to .*state.json"):
        read_state(path)
    arrays.write_bytes(first[:-8])
    with pytest.raises(ConfigurationError, match=r"state.json with state.arrays cannot be read"):
        read_state(path)
    arrays.unlink()
    with pytest.raises(ConfigurationError, match=r"state.json with state.arrays cannot be read"):
        read_state(path)
    with pytest.raises(FileNotFoundError):
        read_state(tmp_path / "none.json")


def test_what_is_neither_plain_nor_an_array_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"inner\.1 is of type set; a state holds plain values and NumPy arrays"):
        write_state(tmp_path / "state.json", {"inner": [1, {2}]})
    assert not list(tmp_path.iterdir())
