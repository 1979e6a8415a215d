"""A teacher that misbehaves on script, over real HTTP; a student that answers with numbers."""

import json
import re
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from datasets import Dataset

TOKENS = {"prompt_tokens": 40, "completion_tokens": 10}


def question_rows(count):
    """Multiple-choice rows as they are loaded: "Question i." is A where i is even, else B; one in three explanations
    is missing, and one ends with an answer that is wrong."""
    return Dataset.from_list(
        [
            {
                "id": f"q{i}",
                "prompt": [{"role": "user", "content": f"Question {i}. Is it even?\nA. yes\nB. no"}],
                "completion": [{"role": "assistant", "content": "AB"[i % 2]}],
                "answer": "AB"[i % 2],
                "options": ["yes", "no"],
                "explanation": ["Because.", "", f"So it is.\nAnswer: {'BA'[i % 2]}"][i % 3],
            }
            for i in range(count)
        ]
    )


def completion(content, finish_reason="stop"):
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return {"id": "x", "object": "chat.completion", "choices": [choice], "usage": TOKENS}


class ScriptedTeacher:
    """Answers question number i of prompts that hold "Question i." as `script[i]` says: a list of behaviours, one a
    request, of which the last is repeated. The right answer to question i is A where i is even, else B."""

    def __init__(self, script=None):
        self.script = script or {}
        self.requests = []  # (question, behaviour, time of arrival)
        self.paid = Counter()  # answers that reached the client, by question
        self.in_flight = self.most_in_flight = 0
        self.seconds = 0.0  # time an answer takes
        self.before_answer = lambda question: None
        self._lock = threading.Lock()
        self._release = threading.Event()

    @contextmanager
    def serve(self):
        teacher = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                teacher.handle(self)

            def log_message(self, *arguments):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            self._release.set()
            server.shutdown()
            server.server_close()

    def handle(self, http):
        body = json.loads(http.rfile.read(int(http.headers["content-length"])))
        question = int(re.search(r"Question (\d+)\.", body["messages"][-1]["content"])[1])
        with self._lock:
            behaviours = self.script.get(question, ["right"])
            seen = sum(asked == question for asked, _, _ in self.requests)
            behaviour = behaviours[min(seen, len(behaviours) - 1)]
            self.requests.append((question, behaviour, time.monotonic()))
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.before_answer(question)
        time.sleep(self.seconds)
        with self._lock:
            self.in_flight -= 1
        self._behave(http, question, behaviour)

    def _behave(self, http, question, behaviour):
        label = "AB"[question % 2]
        other = "BA"[question % 2]
        if behaviour == "time out":
            self._release.wait(20)
            http.close_connection = True
        elif behaviour == "hang up":
            http.close_connection = True
        elif isinstance(behaviour, int):
            headers = {"Retry-After": "0.3"} if behaviour == 429 else {}
            self._send(http, behaviour, json.dumps({"error": {"message": "no"}}), headers)
        elif behaviour == "malformed":
            self._send(http, 200, '{"choices": [{"message"')
        elif behaviour == "another form":
            self._send(http, 200, '["choices"]')
        elif behaviour.startswith("say "):
            self.paid[question] += 1
            self._send(http, 200, json.dumps(completion(behaviour.removeprefix("say "))))
        else:
            answers = {
                "right": completion(f"It is even or odd.\nAnswer: {label}"),
                "wrong": completion(f"Surely.\nAnswer: {other}"),
                "cut off": completion(f"Answer: {label}", "length"),
                "empty": completion(""),
                "no choice": {"choices": [], "usage": TOKENS},
                "no usage": {**completion(f"Answer: {label}"), "usage": None},
            }
            self.paid[question] += 1
            self._send(http, 200, json.dumps(answers[behaviour]))

    @staticmethod
    def _send(http, status, text, headers=None):
        http.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            http.send_header(name, value)
        http.send_header("Content-Length", str(len(text)))
        http.end_headers()
        http.wfile.write(text.encode())

    def sent(self, question):
        return sum(asked == question for asked, _, _ in self.requests)


def save_numbers_model(tiny_model_path, path, prompts):
    """The tiny model with an output layer that knows five tokens only, and tells these prompts apart by them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_path)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_path, tie_word_embeddings=False)
    known = [tokenizer.convert_tokens_to_ids(token) for token in ("1", "3", "2", "all", "0")]
    ids = [tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"] for prompt in prompts]
    with torch.no_grad():
        ends = torch.stack([model.model(torch.tensor([one])).last_hidden_state[0, -1] for one in ids])
        mean = ends.mean(0)
        directions = torch.linalg.svd(ends - mean)[2][:2]  # in which prompts differ most
        directions -= (directions @ mean)[:, None] * mean / mean.square().sum()
        angles = 2 * torch.pi * torch.arange(len(known)) / len(known)
        weight = model.get_output_embeddings().weight
        weight.zero_()
        weight[known] = torch.stack([angles.cos(), angles.sin()], 1) @ directions * 100
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


@pytest.fixture
def scripted_teacher():
    return ScriptedTeacher
