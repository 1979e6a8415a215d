"""From a data set on disk to a curriculum that can begin: time, and memory of the process.

Each is run in a process of its own, `python -m tests.benchmarks.speed_start FOLDER`, over a memory-mapped data set of
prompts of some 400 characters, as text or as messages, with an id each and without. The floor is reading the prompts
with Arrow. Times are of the processor: other processes do not count. Memory is what the process holds more than
before; pages of the file, which the system can take back at any time, are not counted.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, load_from_disk

from edco_rl.curriculum import Curriculum, Pool
from edco_rl.data.ids import prompt_ids
from edco_rl.data.prompts import check_prompts
from tests.benchmarks.speed import Figure

SIZES = (100_000, 1_000_000)
PARTS = ("text", "messages", "text without ids")


def write(folder: Path, size: int, form: str) -> None:
    """Write a data set of that form."""
    filler = "A counter is raised and lowered, and what it shows is to be said. " * 6
    numbers = pc.cast(pa.array(range(size)), pa.string())
    prompts = pc.binary_join_element_wise(numbers, filler, ": ")
    if form == "messages":
        roles = pa.array(["user"] * size)
        messages = pa.StructArray.from_arrays([roles, prompts], ["role", "content"])
        prompts = pa.ListArray.from_arrays(pa.array(range(size + 1), pa.int32()), messages)
    columns = {"prompt": prompts, "answer": numbers}
    if form != "text without ids":
        columns["id"] = pc.binary_join_element_wise("row-", numbers, "")
    Dataset(pa.table(columns)).save_to_disk(folder)


def begin(folder: Path) -> dict[str, float]:
    """Everything between a data set and its first batch that does not need a model, in this process."""
    load_from_disk(folder).select(range(100)).to_list()  # what is imported is no part of it
    process = psutil.Process()

    def own() -> int:
        memory = process.memory_info()
        return memory.rss - memory.shared

    before, found = own(), {}
    began = time.process_time()
    rows = load_from_disk(folder)
    sum(len(block) for block in rows.data.column("prompt").iterchunks())
    last = time.process_time()
    found["opening"] = last - began
    check_prompts(rows)
    found["checking"], last = time.process_time() - last, time.process_time()
    ids = prompt_ids(rows)
    found["ids"], last = time.process_time() - last, time.process_time()
    curriculum = Curriculum(Pool(ids), "edco", batch_size=64, size=3200)
    curriculum.renew(0)
    curriculum.next_batch()
    found["curriculum"], last = time.process_time() - last, time.process_time()
    found["whole"] = last - began
    found["memory"] = (own() - before) / 1e6
    for block in rows.data.column("prompt").iterchunks():
        block.take(pa.array(range(len(block))))
    found["floor"] = time.process_time() - last
    return found


def measure(sizes: Sequence[int], forms: Sequence[str]) -> Iterator[Figure]:
    """Every form at every size."""
    for size in sizes:
        for form in forms:
            with tempfile.TemporaryDirectory() as folder:
                write(Path(folder), size, form)
                output = subprocess.run(
                    [sys.executable, "-m", __name__, folder], check=True, stdout=subprocess.PIPE, text=True
                ).stdout
            found = json.loads(output.splitlines()[-1])
            name = f"{size:,} prompts, {form}"
            for part in ("opening", "checking", "ids", "curriculum"):
                yield Figure(f"{name}: {part}", found[part], "s")
            yield Figure(f"{name}: whole", found["whole"], "s", found["floor"], goal=5.0 * size / 1e6)
            yield Figure(f"{name}: memory", found["memory"], "MB", goal=300.0 * size / 1e6)


if __name__ == "__main__":
    print(json.dumps(begin(Path(sys.argv[1]))))
