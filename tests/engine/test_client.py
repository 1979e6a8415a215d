"""What the client sends, received by a plain HTTP server; tests/e2e has the real one."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import psutil
import pytest

from edco_rl import ConfigurationError, EngineConfig
from edco_rl.config import ComplexityConfig
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


KNOWN = ("/v1/models", "/health", "/behind/v1/models", "/page/v1/models")


@pytest.fixture
def picky_server():
    """Answers those that bring its key, at its root and below /behind; below /page it has a page for people."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            allowed = self.headers["Authorization"] == "Bearer secret"
            status = 401 if not allowed else 200 if self.path in KNOWN else 404
            self.send_response(status)
            is_page = self.path == "/page/v1/models"
            self.send_header("Content-Type", "text/html" if is_page else "application/json")
            self.end_headers()
            self.wfile.write(b"Welcome" if is_page else json.dumps({"data": [{"id": "policy"}]}).encode())

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("0.0.0.0", 0), Handler)
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


INTERFACES = [address for addresses in psutil.net_if_addrs().values() for address in addresses]
OWN = sorted({"localhost", "0.0.0.0", *(one.address for one in INTERFACES if one.family == socket.AF_INET)})


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
@pytest.mark.parametrize("host", OWN)
def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(picky_server, monkeypatch, variable, host):
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nobody listens there
    port = int(picky_server.rpartition(":")[2])
    assert EngineClient(f"http://{host}:{port}").models() == ["policy"]
    assert VLLMServer("model", EngineConfig(engine_host=host, engine_port=port), "log").is_healthy()


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_a_proxy_that_refuses_another_machine_is_named(monkeypatch, proxy):
    monkeypatch.setenv("all_proxy", proxy)
    with pytest.raises(EngineError, match=r"The proxy of the environment .* refuses: name the host in no_proxy"):
        EngineClient("http://192.0.2.77:8000")


def test_an_address_that_is_nearly_right_gets_a_word_that_helps(picky_server, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    with pytest.raises(EngineError, match="engine_url is the server's base URL: without /vllm"):
        EngineClient(f"{picky_server}/vllm")
    with pytest.raises(EngineError, match=f"does not speak https: is it {picky_server}"):
        EngineClient(picky_server.replace("http", "https", 1))
    with pytest.raises(EngineError, match=r"/page/v1/models names no models: is there a vLLM server"):
        EngineClient(f"{picky_server}/page")
    with pytest.raises(ConfigurationError, match="base URL, without /v1"):
        EngineConfig(engine_url=f"{picky_server}/v1/")
    with pytest.raises(EngineError, match=r"Is it still running\? Does it speak https\?"):
        EngineClient("http://127.0.0.1:9")
    assert EngineClient(f"{picky_server}/behind/").models() == ["policy"]


@pytest.mark.parametrize("flag", ["--api-key", "--api_key", "--api-k", "--ap", "--hf-token", "--hf_token"])
def test_secrets_are_no_settings(flag):
    """Settings are kept with results; a key among the arguments would not reach a server's clients either."""
    for words in ([flag, "secret"], [f"{flag}=secret"], ["--seed", "1", flag, "secret"]):
        with pytest.raises(ConfigurationError, match=r"environment variable (VLLM_API_KEY|HF_TOKEN)") as refused:
            EngineConfig(engine_args=words)
        assert "secret" not in str(refused.value)
    assert EngineConfig(engine_args=["--api-server-count", "1", "--hf-overrides", "{}"]).engine_args


@pytest.mark.parametrize(
    "url", ["http://me:secret@a:1", "http://secret@a", "http:/me:secret@a", "me:secret@a", "http://[me:secret@a"]
)
def test_a_url_with_a_password_is_refused_and_not_shown(url):
    for refuse in (
        lambda: EngineConfig(engine_url=url),
        lambda: EngineConfig(engine_url=url, engine_mode="colocate"),
        lambda: ComplexityConfig(teacher="endpoint", teacher_url=url, teacher_model="m"),
    ):
        with pytest.raises(ConfigurationError, match="leave user and password out of the URL") as refused:
            refuse()
        assert "secret" not in str(refused.value)
