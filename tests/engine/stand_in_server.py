"""A process that talks as a vLLM server does, with a child as its engine core, and has the faults it is told to have.

Run as `python tests/engine/stand_in_server.py PORT`. It imports nothing of the package: it starts in a moment.
`POST /be` makes another server of it, `GET /seen` says what it was asked.
"""

import ctypes
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

TOP = [math.log(0.5), math.log(0.25), math.log(0.125)]


def completion(index, prompt, body):
    """As vLLM 0.31 answers: token 7 with probability a half, as often as there may be tokens."""
    length, k = length_of(prompt, body), body.get("logprobs")
    if k is None:
        row = {str(token): {"logprob": TOP[0], "rank": 1} for token in prompt[:1]}
        return {"index": index, "prompt_logprobs": [None, *({**row, str(t): row[str(prompt[0])]} for t in prompt[1:])]}
    top = {f"token_id:{7 + rank}": TOP[rank] for rank in range(max(k, 1))}
    logprobs = {"tokens": ["token_id:7"] * length, "token_logprobs": [TOP[0]] * length, "top_logprobs": [top] * length}
    return {
        "index": index,
        "token_ids": [7] * length,
        "prompt_token_ids": prompt,
        "logprobs": logprobs,
        "finish_reason": "length" if length == body["max_tokens"] else "stop",
        "text": "",
    }


def length_of(prompt, body):
    """Tokens of an answer; where they vary, its prompt decides."""
    return 1 + prompt[0] % body["max_tokens"] if Handler.vary else body["max_tokens"]


_FAULTY = ("/v1/completions", "/v1/chat/completions", "/update_weights")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    version = "default"
    faults: ClassVar[list] = []
    models: ClassVar[list] = ["policy"]
    model_config: ClassVar[dict] = {"model": "/models/stand-in", "dtype": "torch.float32"}
    max_model_len = 64
    vary = False
    pace = 0.0
    """Seconds a token takes."""
    slots = threading.Semaphore(4)
    """Requests that are worked on at a time."""
    seen: ClassVar[dict] = {"asked": [], "updates": []}
    """Version of the weights and lengths of the prompts of each request, and what updates said."""
    core: subprocess.Popen | None = None

    def answer(self, content, status=200, headers=()):
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/health":
            self.answer({}, 200 if Handler.core is None or Handler.core.poll() is None else 503)
        elif self.path == "/v1/models":
            self.answer({"data": [{"id": name, "max_model_len": Handler.max_model_len} for name in Handler.models]})
        elif self.path == "/weight_info":
            self.answer({"weight_version": Handler.version})
        elif self.path.startswith("/server_info"):
            config = {
                "weight_transfer_config": {"backend": "edco_rl_file"},
                "model_config": Handler.model_config,
            }
            self.answer({"vllm_config": config})
        elif self.path == "/seen":
            self.answer(Handler.seen)
        else:
            self.answer({}, 404)

    def do_POST(self):
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(text) if text else None
        if self.path in ("/fault", "/be"):
            self.change(self.path, body)
            self.answer({})
            return
        if Handler.faults and self.path in _FAULTY and self.have_fault():
            return
        self.change(self.path, body)
        if self.path == "/v1/completions" and body["model"] not in Handler.models:
            self.answer({"error": "no such model"}, 404)
        elif self.path == "/v1/completions":
            Handler.seen["asked"].append([Handler.version, list(map(len, body["prompt"]))])
            with Handler.slots:
                tokens = sum(length_of(prompt, body) for prompt in body["prompt"]) * body.get("n", 1)
                time.sleep(Handler.pace * tokens)
            choices = [(prompt, n) for prompt in body["prompt"] for n in range(body.get("n", 1))]
            self.answer({"choices": [completion(i, prompt, body) for i, (prompt, _) in enumerate(choices)]})
        elif self.path == "/v1/chat/completions":
            self.answer({"choices": [{"message": {"content": "Answer: A"}, "finish_reason": "stop"}]})
        else:
            self.answer({})

    def change(self, path, body):
        """What a request changes of the server."""
        if path == "/fault":
            Handler.faults += body
        if path == "/be":
            for name, value in body.items():
                setattr(Handler, name, value)
        if path == "/update_weights":
            Handler.seen["updates"].append(body["update_info"])
        if path == "/finish_weight_update":
            Handler.version = body["weight_version"]
        if path == "/update_weight_version":
            Handler.version = body["new_version"]
        if path == "/v1/load_lora_adapter":
            Handler.models.append(body["lora_name"])
        if path == "/v1/unload_lora_adapter":
            Handler.models.remove(body["lora_name"])

    def have_fault(self):
        """Have the next fault; whether the request is done with."""
        fault, *values = Handler.faults.pop(0)
        if fault == "status":
            status, *headers = values
            self.answer({"error": "told to"}, status, headers)
        elif fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()
            self.close_connection = True
        elif fault == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices": [')
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif fault == "sleep":
            time.sleep(values[0])
            return False
        elif fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault == "core dies":
            assert Handler.core is not None
            Handler.core.kill()
            Handler.core.wait()
            self.answer({"error": "EngineCore encountered an issue."}, 500)
        elif fault == "core is dying":  # as vLLM answers what waits for a core or worker that has been killed
            assert Handler.core is not None
            threading.Timer(values[0], Handler.core.kill).start()
            self.answer({"error": "Call to collective_rpc method failed: cancelled"}, 500)
        return True

    def log_message(self, *arguments):
        pass


def die_with_me():
    """What the package's plug-in does in vLLM's processes."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def serve(port, with_core=True):
    """A server in this process; returns it with its thread."""
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    if with_core:
        sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
        Handler.core = subprocess.Popen(sleep, preexec_fn=die_with_me)  # noqa: PLW1509
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    return server, thread


if __name__ == "__main__":
    serve(int(sys.argv[1]))
