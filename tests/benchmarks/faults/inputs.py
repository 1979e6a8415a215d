"""Settings and rows that are wrong: each ends with one message that says where, before anything is loaded."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from .fault import Fault, expect
from .place import Place
from .runs import write_recipe

_TEXT = {"prompt": "1 + 1 =", "answer": "2"}
_TURN = {"role": "user", "content": "1 + 1 ="}
_ANSWER = {"role": "assistant", "content": "2"}

# By name: settings, and what is said of them.
SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "mistyped_key": ({"learning_rat": 1e-3}, r"learning_rat.*learning_rate"),
    "wrong_type": ({"max_steps": "many"}, r"max_steps must be a whole number"),
    "boolean": ({"skip_invalid": 7}, r"skip_invalid"),
    "infinite": ({"learning_rate": float("inf")}, r"learning_rate"),
    "not_a_number": ({"temperature": float("nan")}, r"temperature"),
    "port": ({"engine_port": -1}, r"engine_port"),
    "time_out": ({"engine_request_timeout": -5}, r"engine_request_timeout"),
    "choice": ({"engine_dtype": "float31"}, r"engine_dtype.*float32"),
    "strategy": ({"strategy": "edko"}, r"'edko'.*edco"),
    "reward": ({"reward_funcs": ["maths"]}, r"'maths'.*math"),
    "model": ({"model_name_or_path": "/nowhere"}, r"/nowhere.*there is no such folder"),
    "data": ({"dataset_name": "/nowhere.jsonl"}, r"/nowhere.jsonl.*there is no such file"),
    "too_long": ({"max_steps": 10**30}, r"max_steps"),
}
# By name: the second of two rows, and what is said of it.
ROWS: dict[str, tuple[Any, str]] = {
    "messages_text": ({"messages": "1 + 1 ="}, "row 1"),
    "content": ({"messages": [{"role": "user", "content": 7}, _ANSWER]}, "row 1"),
    "role": ({"messages": [{"role": 3, "content": "1 + 1 ="}, _ANSWER]}, "row 1"),
    "message": ({"messages": [7, _ANSWER]}, "row 1"),
    "prompt": ({**_TEXT, "prompt": 7}, "row 1"),
    "empty": ({**_TEXT, "prompt": " "}, "row 1.*prompt"),
    "list": ([1, 2], "rows.jsonl"),
}


def _settings(changes: dict[str, Any], message: str, place: Place) -> str:
    run = place.train("grpo", **changes)
    seen = run.expect(2, message)
    lines = run.errors().strip().splitlines()
    expect(len(lines) <= 2, f"{seen}, in {len(lines)} lines: {lines[:5]}")
    return f"{seen}, {len(lines)} line"


def _command(arguments: list[str], text: str, message: str, place: Place) -> str:
    folder = place.new_folder()
    recipe = write_recipe(folder, place.settings(folder))
    if text:
        (folder / "recipe.yaml").write_text(text)
    run = place.run(*arguments, *(["--config", recipe] if text else []), folder=folder)
    seen = run.expect(2, message)
    expect(len(run.errors().strip().splitlines()) == 1, f"{seen}: {run.errors()}")
    return seen


def _rows(row: Any, message: str, place: Place) -> str:
    folder = place.new_folder()
    folder.mkdir(parents=True)
    good = {"messages": [_TURN, _ANSWER]} if isinstance(row, dict) and "messages" in row else _TEXT
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in (good, row)))
    return place.train("sft", folder=folder, dataset_name=str(path), train_prompts=None).expect(2, message)


def faults() -> Iterator[Fault]:
    """Those of this room."""
    for name, (changes, message) in SETTINGS.items():
        yield Fault(
            f"input.{name}",
            f"the setting {changes}",
            "exit 2, one message that names it",
            partial(_settings, changes, message),
        )
    for name, arguments, text, message in (
        ("yaml", ["train", "grpo"], "max_steps: 3\nlearning_rate: [1,\nseed: 2\n", "recipe.yaml.*line 4.*column"),
        ("tab", ["train", "grpo"], "max_steps: 3\n\tseed: 2\n", "recipe.yaml.*line 2.*column"),
        ("twice", ["train", "grpo"], "seed: 2\nseed: 3\n", "recipe.yaml.*'seed' is there twice"),
        ("flag", ["train", "sft", "--max_step", "3"], "", "--max_step.*max_steps"),
        ("method", ["train", "grpoo"], "", "'grpoo'.*grpo"),
        ("command", ["trian"], "", "'trian'.*train"),
    ):
        done = f"edco-rl {' '.join(arguments)} with {text!r}" if text else f"edco-rl {' '.join(arguments)}"
        yield Fault(
            f"input.{name}",
            done,
            "exit 2, one line that says where and names what is near",
            partial(_command, arguments, text, message),
        )
    for name, (row, message) in ROWS.items():
        yield Fault(
            f"input.row_{name}", f"a row {json.dumps(row)}", "exit 2, the row is named", partial(_rows, row, message)
        )
