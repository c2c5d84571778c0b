"""Ray, on this machine or on a cluster that is there already. The only place that starts or joins one."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

from dsac.cli.signals import NUMBERS
from dsac.collection import ray_server
from dsac.errors import ConfigError

LOCAL = "local"
CONNECT_SECONDS = 5.0


def connect(address: str, cpus: int, object_bytes: int | None = None) -> tuple[Any, bool]:
    """The module ray, connected, and whether this call connected it, so that the caller ends it.

    address=local starts a Ray of this process's own with `cpus`; anything else names a cluster to join.

    object_bytes: what the object store of a Ray of this process holds; None: Ray's own choice.
    Nothing is left running when this process ends, however it does. Raises ConfigError where Ray is not installed or
    no cluster answers.
    """
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        return ray, False
    if address == LOCAL:
        # How long collectors look for a Ray that was killed before they end; a secret of this process's Ray alone; and
        # this machine's own address for all of it, which Ray chooses where it takes itself to be on a desktop.
        own = {"gcs_rpc_server_reconnect_timeout_s": "3", "AUTH_MODE": "token", "AUTH_TOKEN": secrets.token_hex(32)}
        own["ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        for name, value in own.items():
            os.environ.setdefault(f"RAY_{name}", value)
    ray = imported()
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    here = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in NUMBERS if here}
    try:
        if address == LOCAL:
            sizes = {"num_cpus": cpus, "object_store_memory": object_bytes}
            ray.init(ray_server.start({"address": LOCAL, "include_dashboard": False, **sizes, **quiet}), **quiet)
        else:
            if address != "auto":
                refuse_silent(address)
            ray.init(address, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"ray.address={address}: {str(error).splitlines()[0]}") from error
    finally:
        for number, handler in handlers.items():  # Ray puts its own in front of them
            signal.signal(number, handler)
    return ray, True


def imported() -> Any:
    """The module ray, which reports nothing to anybody. Raises ConfigError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ConfigError("Ray is not installed: pip install 'dsac[ray]'") from error
    return ray


def refuse_silent(address: str) -> None:
    """Raise OSError where nothing listens at host:port, for which Ray itself would look for minutes.

    Raises ValueError for what is no such address.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise ValueError("must be local, auto, or host:port of the head of a cluster")
    socket.create_connection((host, int(port)), CONNECT_SECONDS).close()


@contextlib.contextmanager
def cluster_here(nodes: int, cpus: int) -> Iterator[Any]:
    """Ray's test cluster, all on this machine: a head without cores and so many nodes with `cpus` each."""
    ray = imported()
    from ray.cluster_utils import Cluster

    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=cpus)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
