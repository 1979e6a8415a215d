"""A client that should get nothing: every route of a real server, asked on another address than loopback, without its
key and with wrong ones; then with the right key, for routes that are closed to everyone.

    python -m tests.benchmarks.hostile_client --model ~/.cache/edco_rl/SmolLM2-135M-Instruct

starts the server on all addresses of this machine. It ends with 1 where a request was answered that should not be.
"""

import argparse
import os
import secrets
import sys
import tempfile
from pathlib import Path

import psutil
import requests

from edco_rl import EngineConfig
from edco_rl.engine.http import KEY_VARIABLE
from edco_rl.engine.server import VLLMServer

# Routes that a server has and its OpenAPI document does not name.
_UNNAMED = {
    "/docs",
    "/redoc",
    "/openapi.json",
    "/metrics",
    "/metrics/",
    "/v1/realtime",
    "/",
    "//collective_rpc",
    "/%2e",
}
_METHODS = ("GET", "POST", "DELETE", "OPTIONS")
_CLOSED = ("/collective_rpc", "/pause", "/sleep", "/adapters", "/scale_elastic_ep", "/start_draft_weight_update")


def addresses() -> list[str]:
    """Addresses of this machine beyond loopback."""
    found = [
        address for each in psutil.net_if_addrs().values() for address in each if address.family.name == "AF_INET"
    ]
    return [address.address for address in found if not address.address.startswith("127.")]


def routes(url: str, key: str) -> list[str]:
    """Paths the server says it has, and those it does not tell of."""
    document = requests.get(f"{url}/openapi.json", headers={"Authorization": f"Bearer {key}"}, timeout=30).json()
    return sorted({path.replace("{", "").replace("}", "") for path in document["paths"]} | _UNNAMED)


def wrong_keys(key: str) -> list[dict[str, str]]:
    """Headers of someone who does not have the key."""
    attempts = ["", key, f"Bearer {key[:-1]}", f"Bearer {key}x", f"Basic {key}"]
    return [{}, *({"Authorization": attempt} for attempt in attempts), {"X-Api-Key": key}]


def attack(url: str, key: str) -> tuple[int, list[str]]:
    """How many requests were sent without the key, and those that were answered."""
    sent, answered = 0, []
    with requests.Session() as session:
        session.trust_env = False
        for path in routes(url, key):
            for method in _METHODS:
                for headers in wrong_keys(key):
                    found = session.request(
                        method, url + path, headers=headers, json={"method": "x"}, timeout=60, allow_redirects=False
                    )
                    sent += 1
                    if found.status_code != 401 or key in found.text:
                        answered.append(f"{method} {path} with {sorted(headers)}: {found.status_code}")
    return sent, answered


def closed(url: str, key: str) -> list[str]:
    """Routes that run code or stop the server, and are open to who has the key."""
    headers = {"Authorization": f"Bearer {key}"}
    found = {path: requests.post(url + path, headers=headers, json={"method": "x"}, timeout=60) for path in _CLOSED}
    with tempfile.TemporaryDirectory() as folder:
        texts = set()
        for path in (folder, f"{folder}/absent", "/etc", "some/model", "../.."):
            answer = requests.post(
                f"{url}/v1/load_lora_adapter", headers=headers, json={"lora_name": "x", "lora_path": path}, timeout=60
            )
            found[f"/v1/load_lora_adapter {path}"] = answer
            texts.add(answer.text)
    problems = [f"{path}: {answer.status_code}" for path, answer in found.items() if answer.status_code != 403]
    return problems + (["answers tell which folders exist"] if len(texts) > 1 else [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(Path.home() / ".cache/edco_rl/SmolLM2-135M-Instruct"))
    options = parser.parse_args()
    key = os.environ[KEY_VARIABLE] = secrets.token_hex(16)
    config = EngineConfig(engine_host="0.0.0.0", engine_max_model_len=256, engine_max_lora_rank=8)
    with tempfile.TemporaryDirectory() as folder, VLLMServer(options.model, config, f"{folder}/engine.log") as server:
        for address in addresses():
            url = f"http://{address}:{server.port}"
            sent, problems = attack(url, key)
            print(
                f"{url}: {sent} requests without the key to {len(routes(url, key))} routes, {len(problems)} answered"
            )
            problems += closed(url, key)
            print(f"{url}: {len(_CLOSED)} closed routes and 5 foreign folders with the key; problems: {problems}")
        log = Path(server.log_path).read_text()
        problems += ["the key is in the server's log"] if key in log else []
    print("\n".join(problems) or "Nothing was answered that should not be.")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
