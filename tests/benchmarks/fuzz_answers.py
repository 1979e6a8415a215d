"""Random answers of a server, over HTTP: used where they can be right, else refused with what is wrong with them."""

import copy
import json
import math
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import numpy as np
from hypothesis import strategies as st

from edco_rl.engine import EngineError, Sampling
from edco_rl.engine.client import EngineClient

from .fuzz import search

VOCABULARY, LONGEST = 50, 16
PROMPTS = st.lists(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=4), min_size=1, max_size=3)


def distribution(random, k):
    """The largest k of some log-probabilities, as a server has them."""
    logits = np.sort(random.normal(0, 3, VOCABULARY))[::-1]
    return (logits - np.log(np.exp(logits).sum()))[:k], random.permutation(VOCABULARY)[:k]


def generated(prompts, sampling, seed):
    """What vLLM answers where prompts are continued."""
    random, choices = np.random.default_rng(seed), []
    for index in range(len(prompts) * sampling.n):
        prompt = prompts[index // sampling.n]
        length = min(sampling.max_tokens, LONGEST - len(prompt))
        cut = random.random() < 0.5
        length = length if cut else int(random.integers(1, length + 1))
        ids, own, top = [], [], []
        for _ in range(length):
            if sampling.logprob_token_ids is None:
                values, tokens = distribution(random, max(sampling.top_logprobs, 1))
            else:
                values = distribution(random, VOCABULARY)[0][-len(sampling.logprob_token_ids) :]
                tokens = np.array(sampling.logprob_token_ids)
            place = int(random.integers(len(tokens)))
            ids.append(int(tokens[place]))
            own.append(float(values[place]))
            top.append({f"token_id:{token}": float(value) for token, value in zip(tokens, values, strict=True)})
        choices.append(
            {
                "index": index,
                "text": "",
                "token_ids": ids,
                "prompt_token_ids": prompt,
                "finish_reason": "length" if cut else "stop",
                "logprobs": {"tokens": [f"token_id:{i}" for i in ids], "token_logprobs": own, "top_logprobs": top},
            }
        )
    return {"id": "cmpl-1", "choices": choices}


def read(prompts, completions, k, seed):
    """What vLLM answers where completions are read."""
    random, choices = np.random.default_rng(seed), []
    for index, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        rows: list[Any] = [None]
        for token in [*prompt, *completion][1:]:
            values, tokens = distribution(random, k + 1)
            entries = {str(t): {"logprob": float(v), "rank": 1} for t, v in zip(tokens, values, strict=True)}
            if str(token) not in entries:
                entries.popitem()
                entries[str(token)] = {"logprob": float(values[-1]), "rank": k + 1}
            rows.append(entries)
        choices.append({"index": index, "prompt_logprobs": rows})
    return {"id": "cmpl-1", "choices": choices}


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 60),
    st.sampled_from([10**30, -1e30, 1e-3, 0.0, -0.1, math.nan, math.inf, -math.inf, "", "token_id:7", "7", "-1", "²"]),
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=2), st.dictionaries(st.sampled_from(["7", "index"]), SCALARS))


def places(value, path=()):
    """All places in a value, each with the way to it."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in inside:
        yield from places(entry, (*path, key))


def changed(answer, draw):
    """One place of it is replaced, removed, doubled, moved, or a number a little different."""
    answer = copy.deepcopy(answer)
    *way, last = draw(st.sampled_from(list(places(answer))[1:]))
    holder = answer
    for key in way:
        holder = holder[key]
    kind = draw(st.sampled_from(["replace", "remove", "double", "move", "shift"]))
    if kind == "remove":
        del holder[last]
    elif kind == "double" and isinstance(holder, list):
        holder.insert(last, copy.deepcopy(holder[last]))
    elif kind == "move" and isinstance(holder, list):
        holder.insert(0, holder.pop(last))
    elif kind == "shift" and isinstance(holder[last], int | float):
        holder[last] += draw(st.sampled_from([1, -1, 0.5, -0.5]))
    else:
        holder[last] = draw(VALUES)
    return answer


@st.composite
def cases(draw):
    """A request, the status and the bytes of its answer, and whether that was left as it should be."""
    prompts, seed = draw(PROMPTS), draw(st.integers(0, 2**16))
    if draw(st.booleans()):
        wanted = draw(st.none() | st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=3, unique=True))
        k = 0 if wanted else draw(st.integers(0, 3))
        sampling = Sampling(
            draw(st.integers(1, 3)),
            draw(st.integers(1, 2)),
            top_logprobs=k,
            logprob_token_ids=tuple(wanted) if wanted else None,
        )
        request = (prompts, sampling)
        answer = generated(prompts, sampling, seed)
    else:
        completions = [draw(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=3)) for _ in prompts]
        k = draw(st.integers(0, 3))
        request = (prompts, completions, k)
        answer = read(prompts, completions, k, seed)
    changes = draw(st.integers(0, 2))
    for _ in range(changes):
        answer = changed(answer, draw)
    body = json.dumps(answer).encode()
    if draw(st.integers(0, 15)) == 0:
        body = draw(st.one_of(st.binary(max_size=20), st.just(body[: draw(st.integers(0, len(body)))])))
        changes += 1
    return request, draw(st.sampled_from([200] * 15 + [404, 500])), body, changes == 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answer: ClassVar[tuple[int, bytes]] = (200, b"")

    def _send(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self._send(200, json.dumps({"data": [{"id": "policy", "max_model_len": LONGEST}]}).encode())

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self._send(*self.answer)

    def log_message(self, *arguments):
        pass


@contextmanager
def answering() -> Iterator[EngineClient]:
    """A client, whose server gives the answers set in `_Handler`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    client = EngineClient(f"http://127.0.0.1:{server.server_port}", vocabulary_size=VOCABULARY)
    try:
        yield client
    finally:
        client.close()
        server.shutdown()
        server.server_close()
        thread.join()


def asked(client, request, status, body):
    """What the client makes of an answer."""
    _Handler.answer = (status, body)
    if len(request) == 2:
        return client.generate(*request)
    return client.read(*request)


def check_sane(request, found):
    """What is used has the right form, whatever was answered: plainly written, and apart from what checks answers."""
    if len(request) == 2:
        prompts, sampling = request
        assert [len(group) for group in found] == [sampling.n] * len(prompts)
        rows = [(c.token_ids, c.logprobs, c.top_logprobs, sampling.width) for group in found for c in group]
        assert all(1 <= len(ids) <= sampling.max_tokens for ids, *_ in rows)
        ordered = sampling.logprob_token_ids is None
    else:
        prompts, completions, k = request
        assert len(found) == len(prompts)
        rows = [(ids, own, top, k) for ids, (own, top) in zip(completions, found, strict=True)]
        ordered = True
    for ids, own, top, k in rows:
        assert own.shape == (len(ids),) and top.shape == (len(ids), k)
        assert all(type(token) is int and 0 <= token < VOCABULARY for token in ids)
        for values in (own, top):
            assert values.dtype == np.float64 and np.isfinite(values).all() and (values <= 0).all()
        assert (np.exp(top).sum(axis=1) < 1.01).all()
        if ordered:
            assert (np.diff(top, axis=1) <= 0).all()


def fuzz(count: int, start: int) -> Counter[str]:
    """Outcomes of so many answers."""
    with answering() as client:

        def outcome(case: Any) -> str:
            request, status, body, right = case
            try:
                found = asked(client, request, status, body)
            except EngineError:
                assert status != 200 or not right, "A right answer was refused."
                return "refused"
            assert status == 200
            check_sane(request, found)
            return "right and used" if right else "changed and used"

        return search(cases(), outcome, count, start)
