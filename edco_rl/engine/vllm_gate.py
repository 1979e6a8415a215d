"""What stands before the routes of a server: its key, and which are open. Imported inside vLLM's server only."""

import hmac
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from .exchange import is_exchanged_folder
from .http import KEY_VARIABLE
from .vllm_plugin import ALL_ROUTES, EXCHANGE_FOLDER

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_LOAD_ADAPTER = "/v1/load_lora_adapter"
OPEN_ROUTES = {
    "GET": {
        "/get_world_size",
        "/health",
        "/metrics",
        "/openapi.json",
        "/server_info",
        "/v1/models",
        "/version",
        "/weight_info",
    },
    "POST": {
        "/detokenize",
        "/finish_weight_update",
        "/init_weight_transfer_engine",
        "/reset_prefix_cache",
        "/start_weight_update",
        "/tokenize",
        "/update_weight_version",
        "/update_weights",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/unload_lora_adapter",
        _LOAD_ADAPTER,
    },
}


class Gate:
    """ASGI middleware around vLLM's server.

    With a key in the environment, each route asks for it, where vLLM's own check leaves its development routes out.
    Routes that neither rollouts nor weight sync need are closed. Adapters are loaded from the exchange folder only.

    Args:
        app (`Callable`):
            What answers requests that pass.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.app = app
        key = os.environ.get(KEY_VARIABLE)
        self._expected = f"Bearer {key}".encode() if key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = dict(scope["headers"])
        settings = scope["app"].state.vllm_config.additional_config
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if self._expected is not None:
            if not hmac.compare_digest(headers.get(b"authorization", b""), self._expected):
                await _refuse(send, 401, "This server asks for its API key.")
                return
        elif b"origin" in headers:  # a page in a browser on this machine
            await _refuse(send, 403, "A server without an API key answers no web pages.")
            return
        if not settings.get(ALL_ROUTES) and path not in OPEN_ROUTES.get(scope["method"], ()):
            await _refuse(send, 403, "This route is closed. A server with engine_all_routes has it open.")
            return
        if path == _LOAD_ADAPTER:
            body = await _read(receive)
            if not _names_exchanged_folder(body, settings.get(EXCHANGE_FOLDER)):
                await _refuse(send, 403, "Adapters are loaded from the server's exchange folder only.")
                return
            receive = _again(body, receive)
        await self.app(scope, receive, send)


def _names_exchanged_folder(body: bytes, folder: str | None) -> bool:
    try:
        path = json.loads(body)["lora_path"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    return folder is not None and isinstance(path, str) and is_exchanged_folder(Path(folder), path)


async def _read(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _again(body: bytes, receive: Receive) -> Receive:
    """What gives a body that was read once more, and then what comes after it."""
    first = [{"type": "http.request", "body": body, "more_body": False}]

    async def give() -> MutableMapping[str, Any]:
        return first.pop() if first else await receive()

    return give


async def _refuse(send: Send, status: int, message: str) -> None:
    body = json.dumps({"error": {"message": message, "code": status}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
