"""Several vLLM servers as one engine: each request goes where the least is waited for, and one may be lost."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Self, TypeVar

from ..config import EngineConfig
from ..errors import ConfigurationError, EdcoRLError
from .client import EngineClient
from .health import Condition
from .protocol import EngineLostError
from .served import ServedEngine

logger = logging.getLogger(__name__)
T = TypeVar("T")


class EngineFleet(ServedEngine):
    """Spreads requests over servers of one model, by the tokens each has still to work on, and pushes to all at once.

    A server that is lost does not stop the others, which answer what it has not. One that comes back gets the current
    weights, together with the others and under one version, and only then requests. Where all are lost, the first to
    come back is waited for.

    Args:
        clients (`Sequence[EngineClient]`):
            One a server, each looked after.
        most_wait (`float`):
            Seconds to wait where all are lost.

    Raises:
        ConfigurationError: Their models, names of it or data types differ.
    """

    outlives_trainer = True

    def __init__(self, clients: Sequence[EngineClient], most_wait: float) -> None:
        self.clients = tuple(clients)
        self.servers = len(self.clients)
        self.sees_local_files = all(client.sees_local_files for client in clients)
        self.most_wait = most_wait
        self._serving = list(clients)  # those with the weights they should have
        self._returning: EngineClient | None = None  # it is being given them
        self._left_out: set[EngineClient] = set()
        self._tokens = dict.fromkeys(clients, 0)
        self._changing = threading.Lock()
        self._restoring = threading.RLock()
        self._same_weights = False
        self._one("name of the model", lambda client: client.base_model)
        # Folders of one model can differ from host to host.
        self._one("model", lambda client: Path(client.config()["model_config"]["model"]).name)
        self.dtype()

    @classmethod
    def open(cls, model: str, config: EngineConfig, *, rank: int, log_path: str | Path) -> Self | None:
        if rank != 0:
            return None
        assert isinstance(config.engine_url, list)
        with ExitStack() as opened:
            reached = (EngineClient.reach(url, config, model, patient=True) for url in config.engine_url)
            fleet = cls([opened.enter_context(closing(client)) for client in reached], config.engine_wait_timeout)
            opened.pop_all()
        return fleet

    @property
    def url(self) -> str:  # type: ignore[override]
        """Where one of the servers that can be asked answers."""
        return (self._serving or self.clients)[0].url

    def _in_requests(self, tokens: Sequence[int], request: Callable[[EngineClient, slice], list[T]]) -> list[T]:
        if not self._same_weights:  # not at the start: others may have left different ones, and a trainer pushes first
            self._check_versions()
            self._same_weights = True
        return super()._in_requests(tokens, request)

    def _ask(self, tokens: int, request: Callable[[EngineClient], list[T]]) -> list[T]:
        while True:
            with self._changing:
                if not self._serving:
                    raise EngineLostError(self._why_lost())
                client = min(self._serving, key=lambda one: self._tokens[one])
                self._tokens[client] += tokens
            try:
                return request(client)
            except EngineLostError:
                self._drop(client)
            finally:
                with self._changing:
                    self._tokens[client] -= tokens

    def _all(self, work: Callable[[EngineClient], T]) -> dict[EngineClient, T]:
        """What each server says, asked all at once. One that is lost on the way is left out.

        Raises:
            EngineLostError: All are lost.
        """
        with self._changing:
            clients = [*self._serving, *([] if self._returning is None else [self._returning])]
        with ThreadPoolExecutor(self.servers) as pool:
            asked = {client: pool.submit(work, client) for client in clients}
        said = {}
        for client, answer in asked.items():
            try:
                said[client] = answer.result()
            except EngineLostError:
                self._drop(client)
        if not said:
            raise EngineLostError(self._why_lost())
        return said

    def _one(self, what: str, work: Callable[[EngineClient], T]) -> T:
        """What all servers say.

        Raises:
            ConfigurationError: They do not say the same.
        """
        said = self._all(work)
        first, answer = next(iter(said.items()))
        for client, other in said.items():
            if other != answer:
                raise ConfigurationError(
                    f"engine_url: the servers differ in the {what}: {answer} at {first.url}, {other} at {client.url}."
                )
        return answer

    def _check_versions(self) -> None:
        self._one("version of the weights", EngineClient.weight_version)

    def _drop(self, client: EngineClient) -> None:
        """Ask it nothing more, until it has come back and has the weights it should have."""
        with self._changing:
            if client.condition() is Condition.SERVING:  # it was taken back before a request had noticed its loss
                return
            if client in self._serving:
                self._serving.remove(client)
            if client is self._returning:
                self._returning = None

    def _why_lost(self) -> str:
        return f"None of the {self.servers} servers of engine_url ({', '.join(c.url for c in self.clients)}) is left."

    def again_if_lost(self, work: Callable[[], T]) -> T:
        return self._again(work, take_back=True)

    def _asking(self, work: Callable[[], T]) -> T:
        # Where weights are pushed, who comes back waits for the next push: the policy may be changing by now.
        return self._again(work, take_back=self.restore is None)

    def _again(self, work: Callable[[], T], *, take_back: bool) -> T:
        while True:
            with self._restoring:
                for client in self.clients:
                    if client.condition() is not Condition.SERVING:  # it may have gone while nothing was asked
                        self._drop(client)
                if take_back or not self._serving:
                    self._take_back()
            try:
                return work()
            except EngineLostError as error:  # all of them
                logger.warning("%s Waiting %g seconds for one of them.", error, self.most_wait)

    def _take_back(self) -> None:
        """Take those in that have come back; where there are no others, wait for one.

        Raises:
            EngineLostError: None comes back.
        """
        began = time.monotonic()
        while True:
            for client in self.clients:
                if client.condition() is Condition.STALE and client not in self._left_out:
                    self._restore(client)
            if self._serving:
                return
            if time.monotonic() - began > self.most_wait:
                raise EngineLostError(f"{self._why_lost()} None came back within {self.most_wait:g} seconds.")
            if all(client.condition() is Condition.GIVEN_UP for client in self.clients):
                raise EngineLostError(f"{self._why_lost()} Each was lost more than engine_max_restarts times.")
            time.sleep(0.1)

    def _restore(self, client: EngineClient) -> None:
        """Give one that has come back the weights it should have; without effect where it is lost on the way."""
        others = bool(self._serving)
        try:
            client.begin_again()
            self._returning = client
            if self.restore is not None:
                self.restore()  # to all at once
            else:
                client.load_adapters_again()
            self._check_versions()
        except EngineLostError:
            self._drop(client)
        except EdcoRLError as error:
            self._drop(client)
            if not others:
                raise
            self._left_out.add(client)
            logger.warning("The engine at %s has come back, and is left out from now on. %s", client.url, error)
        with self._changing:
            if self._returning is client:
                self._returning = None
                client.restored()
                self._serving.append(client)

    def interruptions(self) -> tuple[int, float]:
        """Times that servers were lost so far, and the seconds each was missing, summed over them."""
        found = [client.interruptions() for client in self.clients]
        return sum(times for times, _ in found), sum(seconds for _, seconds in found)

    def max_model_len(self) -> int | None:
        return min((known for client in self.clients if (known := client.max_model_len()) is not None), default=None)

    def dtype(self) -> str:
        return self._one("data type", EngineClient.dtype)

    def world_size(self) -> int:
        return sum(self._all(EngineClient.world_size).values())

    def weight_transfer_backend(self) -> str | None:
        return self._one("weight-transfer backend", EngineClient.weight_transfer_backend)

    def weight_version(self) -> str:
        """Version of the weights; all versions there are, where servers have different ones."""
        return ", ".join(sorted(set(self._all(EngineClient.weight_version).values())))

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self._all(lambda client: client.init_weight_transfer_engine(init_info))

    def start_weight_update(self) -> None:
        self._all(EngineClient.start_weight_update)

    def update_weights(self, update_info: Any) -> None:
        self._all(lambda client: client.update_weights(update_info))

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self._all(lambda client: client.finish_weight_update(weight_version))

    def update_weight_version(self, version: str) -> None:
        self._all(lambda client: client.update_weight_version(version))

    def reset_prefix_cache(self) -> None:
        self._all(EngineClient.reset_prefix_cache)

    def load_adapter(self, name: str, path: str) -> None:
        self._all(lambda client: client.load_adapter(name, path))

    def unload_adapter(self, name: str) -> None:
        self._all(lambda client: client.unload_adapter(name) if name in client.adapters() else None)

    def adapters(self) -> list[str]:
        """Names of the LoRA adapters that any of the servers answers with."""
        return list(dict.fromkeys(name for found in self._all(EngineClient.adapters).values() for name in found))

    def close(self) -> None:
        """Close the connections. The servers go on."""
        with ThreadPoolExecutor(self.servers) as pool:
            list(pool.map(EngineClient.close, self.clients))
