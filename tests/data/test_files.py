"""Files and folders as they come: what is read, in what order, and how a broken line is named."""

import bz2
import gzip
import json
import tracemalloc

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
from datasets import Dataset, DatasetDict, IterableDataset

from edco_rl.data.load import iter_rows, load_prompts
from edco_rl.data.prompts import check_prompts
from edco_rl.errors import ConfigurationError

ROWS = [{"question": f"{i} + 1?", "answer": str(i + 1)} for i in range(4)]
QUESTIONS = [row["question"] for row in ROWS]


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def table(separator):
    return "\r\n".join(
        separator.join(row) for row in (("question", "answer"), *(row.values() for row in ROWS))
    ).encode()


def zstd(data):
    return pyarrow.compress(data, codec="zstd", asbytes=True)


def binary(write):
    stream = pyarrow.BufferOutputStream()
    write(pyarrow.Table.from_pylist(ROWS), stream)
    return stream.getvalue().to_pybytes()


def arrow_stream(rows, stream):
    with pyarrow.ipc.new_stream(stream, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=3)


CONTENTS = {
    "rows.jsonl": jsonl(ROWS),
    "rows.JSONL": jsonl(ROWS),
    "rows.ndjson": jsonl(ROWS),
    "rows.json": json.dumps(ROWS, indent=1).encode(),
    "rows.Json": jsonl(ROWS),
    "bom.jsonl": b"\xef\xbb\xbf" + jsonl(ROWS).replace(b"\n", b"\r\n\r\n"),
    "bom.json": b"\xef\xbb\xbf" + json.dumps(ROWS).encode(),
    "bom.CSV": b"\xef\xbb\xbf" + table(","),
    "rows.csv": table(","),
    "rows.tsv": table("\t"),
    "rows.jsonl.gz": gzip.compress(jsonl(ROWS[:2])) + gzip.compress(jsonl(ROWS[2:])),
    "rows.JSONL.GZ": gzip.compress(jsonl(ROWS)),
    "rows.jsonl.zst": zstd(jsonl(ROWS)),
    "rows.csv.ZST": zstd(table(",")),
    "rows.json.zst": zstd(json.dumps(ROWS).encode()),
    "rows.jsonl.bz2": bz2.compress(jsonl(ROWS)),
    "rows.parquet": binary(pyarrow.parquet.write_table),
    "rows.PARQUET": binary(pyarrow.parquet.write_table),
    "rows.arrow": binary(arrow_stream),
    "feather.arrow": binary(pyarrow.feather.write_feather),
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("place", ["file", "folder"])
def test_every_kind_of_file_is_read(tmp_path, name, place):
    folder = tmp_path / "my rows, all"
    folder.mkdir()
    (folder / name).write_bytes(CONTENTS[name])
    source = str(folder / name if place == "file" else folder)
    rows, _ = load_prompts(source, prompt_template="{question}", conversational=False)
    assert rows["prompt"] == QUESTIONS and rows["answer"] == ["1", "2", "3", "4"]
    assert [
        row["prompt"] for row in iter_rows(source, prompt_template="{question}", conversational=False)
    ] == QUESTIONS


@pytest.mark.parametrize("name", ["rows.txt", "rows.parquet.gz", "rows.arrow.zst", "rows", "rows.gz"])
def test_another_kind_of_file_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(jsonl(ROWS))
    with pytest.raises(ConfigurationError, match=r"expected a file of \.jsonl, .*\.arrow \(text also with \.gz"):
        load_prompts(str(tmp_path / name))


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.jsonl.zst", "rows.csv.ZST", "rows.parquet", "rows.arrow"])
@pytest.mark.parametrize("place", ["file", "folder"])
def test_a_file_that_was_cut_off_is_named(tmp_path, name, place):
    (tmp_path / name).write_bytes(CONTENTS[name][: len(CONTENTS[name]) * 2 // 3])
    with pytest.raises(ConfigurationError, match=f"{name} cannot be read: "):
        load_prompts(str(tmp_path / name if place == "file" else tmp_path))


BROKEN = {
    "b.jsonl": (jsonl(ROWS[:2]) + b'{"question": "x\n' + jsonl(ROWS[2:]), "row 2", "(whole row)", "is not valid JSON"),
    "b.jsonl.gz": (gzip.compress(jsonl([*ROWS, {"question": 3}])), "row 4", "question", "expected text, got int"),
    "b.JSONL.zst": (zstd(jsonl([*ROWS, {"question": "x", "answer": ""}])), "row 4", "answer", "is empty"),
    "b.jsonl.bz2": (bz2.compress(b"[1]\n"), "row 0", "(whole row)", "expected an object of columns"),
    "digits.jsonl": (b'{"question": "x", "answer": ' + b"9" * 5000 + b"}\n", "row 0", "(whole row)", "not valid JSON"),
    "b.csv": (b'question,answer\r\n"two\r\nlines, ""quoted""",1\r\na,b,c\r\n', "row 1", "(whole row)", "has 3 fields"),
    "quote.csv": (b'question,answer\na,1\n"never closed,2\nb,3\n', "row 1", "(whole row)", "is not valid CSV"),
    "b.tsv": (b"question\tanswer\na\t1\nb\t\n", "row 1", "answer", "the answer is empty"),
    "b.parquet": (
        binary(
            lambda _, to: pyarrow.parquet.write_table(
                pyarrow.table({"question": ["a", None], "answer": ["1", "2"]}), to
            )
        ),
        "row 1",
        "question",
        "is missing",
    ),
    "b.arrow": (
        binary(
            lambda _, to: arrow_stream(
                pyarrow.table(
                    {"question": pyarrow.array([b"a", b"caf\xe9"]).view(pyarrow.string()), "answer": ["1", "2"]}
                ),
                to,
            )
        ),
        "row 1",
        "question",
        "broken encoding",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("place", ["file", "folder"])
def test_a_broken_line_is_named_with_its_file(tmp_path, name, place):
    content, row, field, problem = BROKEN[name]
    suffix = name.partition(".")[2]
    good = next(name for name in CONTENTS if name.lower() == f"rows.{suffix}".lower())
    (tmp_path / f"a.{suffix}").write_bytes(CONTENTS[good])
    (tmp_path / name).write_bytes(content)
    source = str(tmp_path / name if place == "file" else tmp_path)
    with pytest.raises(ConfigurationError) as error:
        load_prompts(source)
    assert str(error.value).startswith(f"{tmp_path / name}, {row} (counted from 0), field '{field}': ")
    assert problem in str(error.value)
    listed = tmp_path / "skipped.txt"
    if place == "folder":
        rows, _ = load_prompts(source, skip_invalid=True, skipped_rows_file=str(listed))
        [entry] = map(json.loads, listed.read_text().splitlines())
        assert entry["file"] == str(tmp_path / name) and len(rows) >= 4


def test_a_csv_file_keeps_quotes_and_line_breaks_inside_fields(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b'question,answer,note\r\n"Say ""hi"",\r\nthen\nwait",1,\r\n  spaces  ,"a,b",x\r\n\r\n')
    rows, _ = load_prompts(str(path), prompt_template="{question}", conversational=False)
    assert rows["prompt"] == ['Say "hi",\r\nthen\nwait', "  spaces  "] and rows["answer"] == ["1", "a,b"]


def test_splits_of_a_folder_are_told_by_names_or_by_its_readme(tmp_path, caplog):
    named = tmp_path / "named"
    (named / "data").mkdir(parents=True)
    for name, rows in (
        ("train-00000-of-00002", ROWS[:2]),
        ("train-00001-of-00002", ROWS[2:]),
        ("test-00000-of-00001", ROWS[:1]),
    ):
        (named / "data" / f"{name}.jsonl").write_bytes(jsonl(rows))
    (named / "data" / "more.csv").write_bytes(table(","))
    train, held_out = load_prompts(str(named), held_out_prompts=9)
    assert (len(train), len(held_out)) == (4, 1)
    assert f"{named}: of its files these are not read: {named / 'data' / 'more.csv'}." in caplog.text
    assert "1 of 1 held-out prompts are in the training set too" in caplog.text

    described = tmp_path / "described"
    described.mkdir()
    (described / "one.jsonl").write_bytes(jsonl(ROWS[:3]) + b"{\n")
    (described / "two.jsonl").write_bytes(jsonl(ROWS[3:]))
    (described / "README.md").write_text(
        "---\nconfigs:\n- config_name: plain\n  data_files:\n  - split: train\n    path: one.jsonl\n"
        "  - split: validation\n    path: two.jsonl\n"
        "- config_name: second\n  data_files: two.jsonl\n---\n# Rows\n"
    )
    rows, _ = load_prompts(str(described), config_name="plain", train_split="validation")
    assert rows["answer"] == ["4"]
    with pytest.raises(ConfigurationError, match=r"one\.jsonl, row 3 .* is not valid JSON"):
        load_prompts(str(described), config_name="plain")
    kept = {"skip_invalid": True, "skipped_rows_file": str(tmp_path / "skipped.jsonl")}
    assert load_prompts(str(described), config_name="second, plain", **kept)[0]["answer"] == list("4123")
    with pytest.raises(ConfigurationError, match=r"(?s)cannot be loaded.*plain.*second"):
        load_prompts(str(described))
    with pytest.raises(ConfigurationError, match="has no split 'test'; it has train, validation"):
        load_prompts(str(described), config_name="plain", train_split="test")


@pytest.mark.parametrize("end", [b"", b"\r\na;b;c"])
def test_a_readme_that_says_how_files_are_read_is_followed(tmp_path, end):
    """What our own readers do not know is left to those of `datasets`, whose words are passed on."""
    (tmp_path / "rows.csv").write_bytes(table(";") + end)
    readme = '---\nconfigs:\n- config_name: default\n  data_files: rows.csv\n  sep: ";"\n---\n'
    (tmp_path / "README.md").write_text(readme)
    if not end:
        assert load_prompts(str(tmp_path))[0]["answer"] == ["1", "2", "3", "4"]
        return
    with pytest.raises(ConfigurationError, match=r"cannot be loaded.* Expected 2 fields in line 6, saw 3"):
        load_prompts(str(tmp_path))


def test_a_readme_whose_metadata_is_broken_is_named(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(jsonl(ROWS))
    (tmp_path / "README.md").write_text("---\nconfigs: [\n---\n")
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        load_prompts(str(tmp_path))
    (tmp_path / "README.md").write_text("# Rows, without metadata")
    assert load_prompts(str(tmp_path))[0]["answer"] == ["1", "2", "3", "4"]


def test_data_sets_saved_to_disk(tmp_path):
    one, several = (
        Dataset.from_list(ROWS),
        {"train_sft": Dataset.from_list(ROWS[:3]), "test_sft": Dataset.from_list(ROWS[3:])},
    )
    one.select([3, 1, 2, 0]).save_to_disk(tmp_path / "one", num_shards=2)
    DatasetDict(several).save_to_disk(tmp_path / "several")
    assert load_prompts(str(tmp_path / "one"))[0]["answer"] == ["4", "2", "3", "1"]
    train, held_out = load_prompts(str(tmp_path / "one"), held_out_prompts=1)
    assert sorted([*train["answer"], *held_out["answer"]]) == ["1", "2", "3", "4"]
    train, held_out = load_prompts(
        str(tmp_path / "several"), train_split="train_sft", test_split="test_sft", held_out_prompts=5
    )
    assert train["answer"] == ["1", "2", "3"] and held_out["answer"] == ["4"]
    Dataset.from_list([*ROWS, {"question": "x", "answer": None}]).save_to_disk(tmp_path / "bad")
    with pytest.raises(ConfigurationError, match=r"bad, row 4 \(counted from 0\), field 'answer': is missing"):
        load_prompts(str(tmp_path / "bad"))


def test_an_id_that_another_file_of_the_folder_has_is_named(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_bytes(jsonl([{"id": "7", "prompt": name}]))
    with pytest.raises(ConfigurationError) as error:
        load_prompts(str(tmp_path))
    assert str(error.value) == (
        f"{tmp_path / 'b.jsonl'}, row 0 (counted from 0), field 'id': '7' is also the id of row 0 of "
        f"{tmp_path / 'a.jsonl'}."
    )


def test_a_folder_without_rows_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        load_prompts(str(tmp_path))


def test_streaming_data_sets_are_refused():
    streaming = IterableDataset.from_generator(lambda: iter([{"prompt": "a"}]))
    with pytest.raises(ConfigurationError, match=r"got IterableDataset\. Load a streaming data set without streaming"):
        check_prompts(streaming)


@pytest.mark.parametrize("kind", ["jsonl.zst", "parquet", "arrow", "csv"])
def test_rows_one_by_one_take_memory_that_does_not_grow(tmp_path, kind):
    """The rows of the longer files hold ten times as much text."""

    def peak(count):
        rows = pyarrow.Table.from_pylist([{"question": f"{i} " + "x" * 2000, "answer": "1"} for i in range(count)])
        path = tmp_path / f"{count}.{kind}"
        if kind == "parquet":
            pyarrow.parquet.write_table(rows, path, row_group_size=500)
        elif kind == "arrow":
            with pyarrow.OSFile(str(path), "wb") as file:
                arrow_stream(rows, file)
        elif kind == "csv":
            rows.to_pandas().to_csv(path, index=False)
        else:
            path.write_bytes(zstd(jsonl(rows.to_pylist())))
        del rows
        tracemalloc.start()
        before, most = pyarrow.total_allocated_bytes(), 0
        for number, _ in enumerate(iter_rows(str(path))):
            if number % 100 == 0:
                most = max(most, pyarrow.total_allocated_bytes() - before)
        most += tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    few, many = peak(1000), peak(10_000)
    assert many < few + 4_000_000, (few, many)
