"""What a data file holds, by how its name ends."""

from pathlib import Path

TEXT_KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
BINARY_KINDS = (".parquet", ".arrow")
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}


def kind_of(path: Path) -> tuple[str, str | None]:
    """What a file holds, and how it is compressed, as its name says."""
    compression = COMPRESSIONS.get(path.suffix.lower())
    return (Path(path.stem) if compression else path).suffix.lower(), compression


def data_kind(name: str) -> str | None:
    """What a file of that name holds, of the kinds that can be read: its ending without the compression's."""
    kind, _ = kind_of(Path(name))
    return kind if kind in TEXT_KINDS + BINARY_KINDS else None


def is_missing_file(name: str) -> bool:
    """Whether a `dataset_name` can only be that of a file or folder, and there is none."""
    path = Path(name).expanduser()
    return (name.startswith(("/", ".", "~")) or data_kind(name) is not None) and not path.exists()
