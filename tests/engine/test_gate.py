"""What a server answers to whom; tests/benchmarks/hostile_client.py asks a real one."""

import json
import os
from types import SimpleNamespace

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from edco_rl.engine.exchange import exchange_folder, open_exchange_folder
from edco_rl.engine.http import KEY_VARIABLE
from edco_rl.engine.vllm_gate import Gate
from edco_rl.engine.vllm_plugin import ALL_ROUTES, EXCHANGE_FOLDER

KEY = "correct horse battery staple"


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Sends a request through the gate to an app whose routes all answer with the body they got."""
    folder = exchange_folder(tmp_path)
    os.close(open_exchange_folder(folder))

    def send(method, path, *, key=None, settings=None, **kwargs):
        monkeypatch.setenv(KEY_VARIABLE, key) if key else monkeypatch.delenv(KEY_VARIABLE, raising=False)
        app = FastAPI()
        app.state.vllm_config = SimpleNamespace(
            additional_config={EXCHANGE_FOLDER: str(folder), ALL_ROUTES: False} if settings is None else settings
        )

        @app.api_route("/{path:path}", methods=["GET", "POST", "OPTIONS", "HEAD"])
        async def answer(request: Request):
            return (await request.body()).decode()

        app.add_middleware(Gate)
        return TestClient(app).request(method, path, **kwargs)

    send.folder = folder
    return send


@pytest.mark.parametrize("path", ["/health", "/update_weights", "/v1/models", "/collective_rpc", "/", "/no/such"])
@pytest.mark.parametrize("header", [None, "", KEY, f"Bearer {KEY[:-1]}", f"bearer{KEY}", "Bearer ", f"Basic {KEY}"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_without_the_key_nothing_is_answered(ask, path, header, method):
    found = ask(method, path, key=KEY, headers={} if header is None else {"Authorization": header})
    assert found.status_code == 401 and KEY not in found.text


def test_with_the_key_what_is_open_is_answered(ask):
    headers = {"Authorization": f"Bearer {KEY}"}
    assert ask("POST", "/update_weights", key=KEY, headers=headers, content="x" * 100_000).json() == "x" * 100_000
    for path in ("/collective_rpc", "/collective_rpc/", "//collective_rpc", "/adapters", "/pause", "/docs"):
        assert ask("POST", path, key=KEY, headers=headers).status_code == 403
    assert ask("POST", "/collective_rpc", key=KEY, headers=headers, settings={ALL_ROUTES: True}).status_code == 200


def test_a_server_without_a_key_answers_no_web_page(ask):
    assert ask("POST", "/v1/completions").status_code == 200
    assert ask("POST", "/v1/completions", headers={"Origin": "https://example.com"}).status_code == 403


def test_adapters_come_from_the_exchange_folder_and_answers_tell_nothing_of_others(ask, tmp_path):
    path = "/v1/load_lora_adapter"
    (ask.folder / "adapter").mkdir()
    body = {"lora_name": "a", "lora_path": str(ask.folder / "adapter")}
    assert json.loads(ask("POST", path, json=body).json()) == body
    foreign = [str(tmp_path), str(tmp_path / "absent"), f"{ask.folder}/../x", "some/model", 3, None, [], ""]
    bodies = [*({"lora_name": "a", "lora_path": each} for each in foreign), {}, [], "text", None]
    found = [ask("POST", path, json=each) for each in bodies] + [ask("POST", path, content=b"{")]
    assert {(each.status_code, each.text) for each in found} == {(found[0].status_code, found[0].text)}
    assert found[0].status_code == 403
    assert ask("POST", path, json=body, settings={}).status_code == 403
