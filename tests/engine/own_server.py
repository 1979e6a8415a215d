"""The server of `edco_rl` with a stand-in for vLLM: all that is done with processes is the real one's."""

import sys
from pathlib import Path

from edco_rl.engine.server import VLLMServer

STAND_IN = Path(__file__).with_name("stand_in_server.py")


class StandInServer(VLLMServer):
    def _command(self):
        return [sys.executable, str(STAND_IN), str(self.port)]
