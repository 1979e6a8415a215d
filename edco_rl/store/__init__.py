"""What is kept between runs: whole or not at all, with what made it and a checksum. One way to hash, one to resume."""

from .artefact import Artefact, check_same, load, load_same, once, once_value, remove, save_file, save_value
from .files import write_json, write_table, write_text, write_whole
from .fingerprint import (
    file_checksum,
    fingerprint,
    model_fingerprint,
    parameters_fingerprint,
    plain,
    rows_fingerprint,
)
from .parts import Parts

__all__ = [
    "Artefact",
    "Parts",
    "check_same",
    "file_checksum",
    "fingerprint",
    "load",
    "load_same",
    "model_fingerprint",
    "once",
    "once_value",
    "parameters_fingerprint",
    "plain",
    "remove",
    "rows_fingerprint",
    "save_file",
    "save_value",
    "write_json",
    "write_table",
    "write_text",
    "write_whole",
]
