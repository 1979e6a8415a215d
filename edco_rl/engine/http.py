"""HTTP to a vLLM server: no proxy on the way to this machine, the server's key, and words that help."""

import os
import socket
from ipaddress import ip_address
from urllib.parse import urlparse

import psutil
import requests

KEY_VARIABLE = "VLLM_API_KEY"
"""Environment variable that vLLM takes a server's API key from; a server started here inherits it."""


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine by its name or number for itself."""
    host = urlparse(url).hostname or ""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified


def is_reached_from_elsewhere(host: str) -> bool:
    """Whether a server that listens on an address can be talked to from other machines."""
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def is_here(url: str) -> bool:
    """Whether a URL leads to this machine, by its name or any address of its network interfaces too."""
    own = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    return is_loopback(url) or urlparse(url).hostname in {*own, socket.gethostname()}


def open_session(url: str) -> requests.Session:
    """A session for requests to a server: with its key where the environment has one, and past any proxy of the
    environment where it is on this machine."""
    session = requests.Session()
    session.trust_env = not is_here(url)
    key = os.environ.get(KEY_VARIABLE)
    if key:
        session.headers["Authorization"] = f"Bearer {key}"
    return session


def why_unreachable(url: str, error: requests.RequestException) -> str:
    """What to do about a server that cannot be talked to."""
    if isinstance(error, requests.exceptions.SSLError):
        return f"It does not speak https: is it http://{url.partition('://')[2]}?"
    if isinstance(error, requests.exceptions.ProxyError | requests.exceptions.InvalidSchema):
        return "The proxy of the environment (http_proxy, https_proxy, all_proxy) refuses: name the host in no_proxy."
    return f"Is it still running?{'' if url.startswith('https') else ' Does it speak https?'}"


def why_refused(url: str, status: int, text: str) -> str:
    """What to do about an answer with an error status; empty where the server's own words have to do."""
    if status == 500 and "_weight_update" in text:  # another round of updates has begun or ended
        return " Is another trainer pushing to the same engine?"
    if status in (403, 404) and urlparse(url).path:  # a server started here closes what it does not know
        return f" engine_url is the server's base URL: without {urlparse(url).path}?"
    if status in (401, 403):
        return f" Give the server's API key in the environment variable {KEY_VARIABLE}."
    return ""
