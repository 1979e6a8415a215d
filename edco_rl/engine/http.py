"""HTTP to a vLLM server: no proxy on the way to this machine, the server's key, and words that help."""

import os
from urllib.parse import urlparse

import requests

KEY_VARIABLE = "VLLM_API_KEY"
"""Environment variable that vLLM takes a server's API key from; a server started here inherits it."""


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine by one of its own names."""
    return urlparse(url).hostname in ("127.0.0.1", "localhost", "::1")


def open_session(url: str) -> requests.Session:
    """A session for requests to a server: with its key where the environment has one, and past any proxy of the
    environment where it is on this machine."""
    session = requests.Session()
    session.trust_env = not is_loopback(url)
    key = os.environ.get(KEY_VARIABLE)
    if key:
        session.headers["Authorization"] = f"Bearer {key}"
    return session


def why_unreachable(url: str, error: requests.RequestException) -> str:
    """What to do about a server that cannot be talked to."""
    if isinstance(error, requests.exceptions.SSLError):
        return f"It does not speak https: is it http://{url.partition('://')[2]}?"
    if isinstance(error, requests.exceptions.ProxyError):
        return "The proxy of the environment (http_proxy, https_proxy) refuses: name the host in no_proxy."
    return "Is it still running?"


def why_refused(url: str, status: int) -> str:
    """What to do about an answer with an error status; empty where the server's own words have to do."""
    if status in (401, 403):
        return f" Give the server's API key in the environment variable {KEY_VARIABLE}."
    if status == 404 and urlparse(url).path:
        return f" engine_url is the server's base URL: without {urlparse(url).path}?"
    return ""
