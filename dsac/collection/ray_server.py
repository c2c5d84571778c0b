"""A Ray of one process's own, in a session of its own: what stops that process does not reach Ray, its end does.

python -m dsac.collection.ray_server <ray.init's settings as JSON> starts Ray, prints its address, and ends all of it
once standard input is closed, which it is however its parent ends. Left alone, some of Ray's helpers would stay for a
minute.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any

ADDRESS = "address of Ray: "
PATIENCE_SECONDS = 4.0  # for Ray's own way to end


def start(settings: dict[str, Any]) -> str:
    """Start Ray with these settings of ray.init, for as long as this process lasts; its address.

    Raises RuntimeError if it does not start; why is on standard error.
    """
    reading, _writing = os.pipe()  # the kernel closes the other end, nobody else
    command = [sys.executable, "-m", "dsac.collection.ray_server", json.dumps(settings)]
    server = subprocess.Popen(command, stdin=reading, stdout=subprocess.PIPE, text=True, start_new_session=True)
    os.close(reading)
    assert server.stdout is not None
    for line in server.stdout:  # Ray itself may say something first
        if line.startswith(ADDRESS):
            return line.removeprefix(ADDRESS).strip()
    raise RuntimeError("Ray did not start")


def main() -> int:
    import ray

    ray.init(**json.loads(sys.argv[1]))
    print(ADDRESS + ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
    threading.Timer(PATIENCE_SECONDS, end).start()
    with contextlib.suppress(Exception):
        ray.shutdown()
    end()
    return 0


def end() -> None:
    """Kill the whole session, this process last of all."""
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    raise SystemExit(main())
