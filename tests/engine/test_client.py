"""What the client sends, received by a plain HTTP server; tests/e2e has the real one."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from edco_rl.engine import Sampling
from edco_rl.engine.client import EngineClient


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
