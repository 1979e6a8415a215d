"""What is kept between runs: whole or not at all, with what made it and a checksum. One way to hash, one to resume."""

from .artefact import Artefact, check_same, load, load_same, once, once_value, remove, save_file, save_value
from .checkpoints import (
    UNFINISHED_FOLDER,
    begin_checkpoint,
    check_checkpoint,
    finish_checkpoint,
    newest_checkpoint,
    remove_checkpoint,
)
from .files import read_json, removed_on_error, sync, write_json, write_lines, write_table, write_text, write_whole
from .fingerprint import (
    file_checksum,
    fingerprint,
    model_fingerprint,
    parameters_fingerprint,
    plain,
    rows_fingerprint,
)
from .model_folder import UNFINISHED_MODEL, begin_model, put_model_in_place
from .parts import Parts
from .state_files import ARRAYS_SUFFIX, read_state, write_state

__all__ = [
    "ARRAYS_SUFFIX",
    "UNFINISHED_FOLDER",
    "UNFINISHED_MODEL",
    "Artefact",
    "Parts",
    "begin_checkpoint",
    "begin_model",
    "check_checkpoint",
    "check_same",
    "file_checksum",
    "fingerprint",
    "finish_checkpoint",
    "load",
    "load_same",
    "model_fingerprint",
    "newest_checkpoint",
    "once",
    "once_value",
    "parameters_fingerprint",
    "plain",
    "put_model_in_place",
    "read_json",
    "read_state",
    "remove",
    "remove_checkpoint",
    "removed_on_error",
    "rows_fingerprint",
    "save_file",
    "save_value",
    "sync",
    "write_json",
    "write_lines",
    "write_state",
    "write_table",
    "write_text",
    "write_whole",
]
