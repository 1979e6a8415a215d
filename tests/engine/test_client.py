"""What the client sends, received by a plain HTTP server; tests/e2e has the real one."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from edco_rl import ConfigurationError, EngineConfig
from edco_rl.engine import EngineError, Sampling
from edco_rl.engine.client import EngineClient
from edco_rl.engine.server import VLLMServer


@pytest.fixture
def received():
    """Bodies of completion requests, and the URL to send them to."""
    bodies = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self, content):
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def do_GET(self):
            self.answer({"data": [{"id": "policy"}]})

        def do_POST(self):
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            logprobs = {"tokens": ["token_id:5"], "token_logprobs": [-0.1], "top_logprobs": None}
            choice = {"index": 0, "token_ids": [5], "logprobs": logprobs, "finish_reason": "stop"}
            self.answer({"choices": [choice]})

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield bodies, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_request_leaves_no_sampling_parameter_to_the_models_own_defaults(received):
    """vLLM would fill them in from generation_config.json, and give another distribution's log-probabilities."""
    bodies, url = received
    client = EngineClient(url)
    client.generate([[1]], Sampling(1))
    client.generate([[1]], Sampling(1, temperature=0.5, top_p=0.9))
    client.close()
    assert [(b["temperature"], b["top_p"], b["top_k"], b["min_p"]) for b in bodies] == [
        (1.0, 1.0, 0, 0.0),
        (0.5, 0.9, 0, 0.0),
    ]
    assert all(
        body[f"{name}_penalty"] == neutral
        for body in bodies
        for name, neutral in (("repetition", 1.0), ("presence", 0.0), ("frequency", 0.0))
    )


@pytest.fixture
def picky_server():
    """Answers below its root alone, and those that bring its key."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            allowed = self.headers["Authorization"] == "Bearer secret"
            status = 401 if not allowed else 200 if self.path in ("/v1/models", "/health") else 404
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps({"data": [{"id": "policy"}]}).encode())

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_servers_key_is_sent_and_a_missing_one_is_told(picky_server, monkeypatch):
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    with pytest.raises(EngineError, match=r"with 401: .*Give the server's API key in .* VLLM_API_KEY") as refused:
        EngineClient(picky_server)
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    assert EngineClient(picky_server).model == "policy" and "secret" not in str(refused.value)


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(picky_server, monkeypatch, variable):
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nobody listens there
    assert EngineClient(picky_server).models() == ["policy"]
    server = VLLMServer("model", EngineConfig(engine_port=int(picky_server.rpartition(":")[2])), "log")
    assert server.is_healthy()


def test_an_address_that_is_nearly_right_gets_a_word_that_helps(picky_server, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    with pytest.raises(EngineError, match="engine_url is the server's base URL: without /vllm"):
        EngineClient(f"{picky_server}/vllm")
    with pytest.raises(EngineError, match=f"does not speak https: is it {picky_server}"):
        EngineClient(picky_server.replace("http", "https", 1))
    with pytest.raises(ConfigurationError, match="base URL, without /v1"):
        EngineConfig(engine_url=f"{picky_server}/v1/")
