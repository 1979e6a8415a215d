"""The server of `edco_rl` with a stand-in for vLLM: all that is done with processes is the real one's."""

import subprocess
import sys
import time
from pathlib import Path

import requests

from edco_rl.engine.server import VLLMServer

STAND_IN = Path(__file__).with_name("stand_in_server.py")


class StandInServer(VLLMServer):
    def _command(self):
        return [sys.executable, str(STAND_IN), str(self.port)]


def start_stand_in(port):
    """A stand-in that is no one's: its process, once it answers."""
    process = subprocess.Popen([sys.executable, str(STAND_IN), str(port)])
    deadline = time.monotonic() + 30
    while True:
        try:
            requests.get(f"http://127.0.0.1:{port}/health", timeout=5)
            return process
        except requests.RequestException:
            assert time.monotonic() < deadline
            time.sleep(0.05)
