"""What a Ray cluster has room for, and whether its head answers."""

from __future__ import annotations

import math
import socket
import time
from typing import Any

from loraudit.errors import EnvironmentFault
from loraudit.spec.engines import EngineOptions

SECONDS_BETWEEN_COUNTS = 5.0
_SECONDS_TO_CONNECT = 3.0
_SILENCES_OF_THE_HEAD = 3


def answers(address: str) -> bool:
    """Whether somebody listens at host:port."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_CONNECT).close()
    except OSError:
        return False
    return True


class Room:
    """How many workers the cluster can hold, and whether its head answers."""

    def __init__(self, ray: Any, options: EngineOptions) -> None:
        self._ray, self._wanted = ray, options.workers
        self.per_worker = {"CPU": options.worker_cpus, "GPU": options.worker_gpus}
        self._n_places, self._counted = 0, -math.inf
        self._n_silences = 0
        is_client = (options.ray_address or "").startswith("ray://")
        self._head = None if is_client else ray.get_runtime_context().gcs_address
        self._count()
        if not self._n_places and self._wanted is None:
            raise EnvironmentFault(
                f"No node of the Ray cluster has {options.worker_cpus:g} CPUs and {options.worker_gpus:g} GPUs. "
                "Expected room for one worker. Lower --worker-cpus or --worker-gpus, or say --workers N to wait for "
                "nodes."
            )

    @property
    def size(self) -> int:
        """Workers to have: as many as wanted, else as many as there is room for now."""
        if self._wanted is not None:
            return self._wanted
        if time.monotonic() - self._counted > SECONDS_BETWEEN_COUNTS:
            self._count()
        return max(1, self._n_places)

    def _count(self) -> None:
        self._counted = time.monotonic()
        needs = {name: amount for name, amount in self.per_worker.items() if amount}
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        self._n_places = sum(
            min(int(has.get(name, 0) / amount + 1e-9) for name, amount in needs.items()) for has in nodes
        )

    def check_head(self) -> None:
        """Fail while there is somebody to tell: a minute later Ray ends a process whose head is gone.

        Raises:
            EnvironmentFault: It did not answer several times in a row.
        """
        if self._head is None:
            return
        self._n_silences = 0 if answers(self._head) else self._n_silences + 1
        if self._n_silences >= _SILENCES_OF_THE_HEAD:
            raise head_is_gone()


def head_is_gone() -> EnvironmentFault:
    """The error of a cluster that has lost its head."""
    return EnvironmentFault(
        "The head of the Ray cluster does not answer. Expected it to live as long as the work. Start the cluster again "
        "and repeat the same command; it goes on with what is not finished."
    )
