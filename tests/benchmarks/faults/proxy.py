"""A process between a client and a real server, which has the faults it is told to have.

Run as `python -m tests.benchmarks.faults.proxy PORT TARGET`. Like the stand-in server, whose faults it has, it imports
nothing of `edco_rl`. It has them with requests for completions; after `["push"]`, with the next push. A further one,
`["change", NAME]`, changes the answer, and before `["weights"]` the server is stamped as one with its first weights.
"""

import json
import math
import sys
import urllib.error
import urllib.request
from http.server import ThreadingHTTPServer

from tests.engine.stand_in_server import Handler

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _first(answer):
    return answer["choices"][0]


def _logprobs(answer):
    return _first(answer)["logprobs"]["token_logprobs"]


CHANGES = {
    "NaN": lambda answer: _logprobs(answer).__setitem__(0, math.nan),
    "positive": lambda answer: _logprobs(answer).__setitem__(0, 0.5),
    "vocabulary": lambda answer: _first(answer)["token_ids"].__setitem__(0, 10**6),
    "missing": lambda answer: answer["choices"].pop(),
    "twice": lambda answer: answer["choices"][-1].update(index=_first(answer)["index"]),
    "shorter": lambda answer: _first(answer)["token_ids"].pop(),
    "another prompt": lambda answer: _first(answer)["prompt_token_ids"].append(1),
    "empty": lambda answer: answer.clear(),
}


class Forwarding(Handler):
    """Sends requests on to `target`."""

    target = ""

    def do_GET(self):  # noqa: N802
        self.forward()

    def do_POST(self):  # noqa: N802
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/fault":
            Handler.faults += json.loads(body)
            self.answer({})
        elif not Handler.faults or not self.is_meant(Handler.faults[0] == ["push"]):
            self.forward(body)
        elif Handler.faults[0][0] == "change":
            self.forward(body, CHANGES[Handler.faults.pop(0)[1]])
        elif Handler.faults[0] == ["weights"]:
            Handler.faults.pop(0)
            self.ask("/update_weight_version", json.dumps({"new_version": "default"}).encode())
            self.forward(body)
        elif not self.have_fault():
            self.forward(body)

    def is_meant(self, push):
        if push and self.path == "/update_weights":
            Handler.faults.pop(0)
            return True
        return not push and self.path == "/v1/completions"

    def forward(self, body=None, change=None):
        content, status = self.ask(self.path, body)
        if change is not None:
            change(content)
        self.answer(content, status)

    def ask(self, path, body=None):
        headers = {name: self.headers[name] for name in ("Authorization", "Content-Type") if name in self.headers}
        request = urllib.request.Request(f"{self.target}{path}", body, headers, method=self.command)
        try:
            with _DIRECT.open(request) as answer:
                status, content = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        return json.loads(content) if content else {}, status


if __name__ == "__main__":
    Forwarding.target = sys.argv[2]
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Forwarding)
    server.daemon_threads = True
    server.serve_forever()
