"""Neighbours who are not friends: addresses without a key, secrets in what is written, files that are imported."""

import os
import socket
from collections.abc import Iterator
from functools import partial

from .answers import train
from .fault import Fault, expect
from .place import KEY, Place
from .runs import Run

_SECRET = "hf_a-token-that-nobody-is-to-see"


def _seen(run: Run, place: Place, *secrets: str) -> list[str]:
    """Files of a run, and logs of the server, that hold a secret."""
    files = [path for path in run.folder.rglob("*") if path.is_file()] + [place.folder / "server.log"]
    files = [path for path in files if path.name != "recipe.yaml" and path.exists()]
    return [f"{path}: {secret}" for path in files for secret in secrets if secret.encode() in path.read_bytes()]


def _open_address(host: str, place: Place) -> str:
    arguments = ("serve", "--model_name_or_path", place.served_model, "--engine_host", host, "--engine_port", "0")
    run = place.run(*arguments, before=_forget_key)
    return run.expect(2, "needs an API key. Set the environment variable VLLM_API_KEY")


def _forget_key() -> None:
    os.environ.pop("VLLM_API_KEY", None)


def _secret_setting(place: Place, secret: str, message: str, **changes: object) -> str:
    run = place.train("grpo", **place.engine(**changes))
    seen = run.expect(2, message)
    expect(not (found := _seen(run, place, secret)), f"{seen}; {found}")
    return seen


def _key_in_files(place: Place) -> str:
    address = place.server.url
    run = train(place, address, environment={"HF_TOKEN": _SECRET}, max_steps=2)
    seen = run.expect(0)
    wrong = train(place, address, environment={"HF_TOKEN": _SECRET, "VLLM_API_KEY": KEY[:-1]}, max_steps=2)
    refused = wrong.expect(1, "401")
    found = [*_seen(run, place, KEY, _SECRET), *_seen(wrong, place, KEY[:-1], _SECRET)]
    expect(not found, f"{seen}; {found}")
    count = sum(path.is_file() for path in run.folder.rglob("*"))
    return f"{seen} with the key, {refused} with a wrong one; neither key nor token in {count} files and the log"


def _imported(place: Place) -> str:
    url = place.server.url
    expect(not (place.folder / "home" / "imported").exists(), "z3.py of the folder it was started in was imported")
    return f"the server at {url} has not imported it"


def _taken_port(place: Place) -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        run = place.train("grpo", **place.engine(engine_port=taken.getsockname()[1]))
        return run.expect(2, "Cannot listen on 127.0.0.1:")


def faults() -> Iterator[Fault]:
    """Those of this room."""
    for host in ("0.0.0.0", "::"):
        yield Fault(
            f"security.{'all' if host == '::' else 'any'}_address",
            f"edco-rl serve --engine_host {host} without a key",
            "exit 2 before anything is started",
            partial(_open_address, host),
        )
    for name, secret, message, changes in (
        ("api_key", "a-secret", "engine_args --api-key", {"engine_args": ["--api-key", "a-secret"]}),
        ("abbreviated", "a-secret", "engine_args --api-key", {"engine_args": ["--api-k=a-secret"]}),
        ("password", "a-secret", "engine_url", {"engine_url": "http://me:a-secret@127.0.0.1:9"}),
    ):
        yield Fault(
            f"security.{name}",
            f"a secret in {next(iter(changes))}",
            "exit 2, and it is in no output",
            partial(_secret_setting, secret=secret, message=message, **changes),
        )
    yield Fault(
        "security.written_down",
        "runs with the right and a wrong API key, and a token of a hub",
        "neither is in any file of the run, its output or the server's log",
        _key_in_files,
    )
    yield Fault("security.imported", "a server is started where a z3.py lies", "it is not imported", _imported)
    yield Fault("security.taken_port", "a port that is taken", "exit 2", _taken_port)
