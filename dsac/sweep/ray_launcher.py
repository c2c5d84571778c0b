"""The runs of a sweep as Ray tasks. Ray decides where and when; a run does there what it does in a process here."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from dsac.cli.exit_codes import RESUMABLE
from dsac.collection.ray_cluster import connect
from dsac.schema import files
from dsac.sweep.plan import Planned
from dsac.sweep.runner import LOG, Handle, worker_command
from envs.system import available_cores

RETRIES = 3
POLL_SECONDS = 0.2


class Killed(RuntimeError):
    """A run was ended by SIGKILL, such as for want of memory. Ray starts it again, and it continues."""


class RayTasks:
    """A launcher on a Ray cluster whose nodes share the run folders and this folder.

    cpus, gpus  what Ray sets aside for each run
    jobs        runs at a time; None: as many as the cluster has room for
    """

    def __init__(self, address: str, cpus: int, gpus: float, jobs: int | None) -> None:
        self.ray, self.started = connect(address, available_cores())
        self.cpus, self.gpus, self.jobs = cpus, gpus, jobs
        self.task = self.ray.remote(supervise).options(
            num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES, retry_exceptions=[Killed]
        )

    def slots(self) -> int:
        """Runs at a time: as many as were asked for, or as the cluster has room for by now, at least one."""
        if self.jobs is not None:
            return self.jobs
        there = self.ray.cluster_resources()
        room = there.get("CPU", 0) // self.cpus
        if self.gpus:
            room = min(room, there.get("GPU", 0) // self.gpus)
        return max(1, int(room))

    def start(self, run: Planned) -> Handle:
        files.make_own_folder(run.folder)
        arguments = (list(run.overrides), str(run.folder), str(Path.cwd()), os.environ.get("PYTHONPATH", ""))
        return RayHandle(self.ray, self.task.remote(*arguments), run.folder / LOG)

    def close(self) -> None:
        """Leave the cluster; a Ray of this process ends."""
        if self.started:
            self.ray.shutdown()


class RayHandle:
    """A run that Ray has taken. The first stop lets it save, the second ends it at once."""

    def __init__(self, ray: Any, reference: Any, log: Path) -> None:
        self.ray, self.reference, self.log, self.stops = ray, reference, log, 0

    def poll(self) -> int | None:
        ready, _ = self.ray.wait([self.reference], timeout=0)
        if not ready:
            return None
        try:
            return int(self.ray.get(self.reference))
        except self.ray.exceptions.TaskCancelledError:
            return RESUMABLE
        except self.ray.exceptions.RayError as error:
            if isinstance(getattr(error, "cause", None), Killed):
                return -signal.SIGKILL
            with files.append(self.log) as log:
                log.write(f"error: Ray lost the run: {' '.join(str(error).split())}\n".encode())
            return 1

    def stop(self) -> None:
        self.stops += 1
        self.ray.cancel(self.reference, force=self.stops > 1)


def supervise(overrides: list[str], folder: str, cwd: str, python_path: str) -> int:
    """Carry out a run in a child process of a Ray worker, which takes the child along; the run's exit code.

    Ray cancels with a KeyboardInterrupt, which the child is given as SIGTERM. Raises Killed.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a Ray begun in the background of a script ignores it
    environment = {**os.environ, "PYTHONPATH": python_path}
    with files.append(Path(folder) / LOG) as log:
        command = worker_command(Path(folder), overrides)
        child = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=cwd, env=environment, process_group=0
        )
    while True:
        try:
            while child.poll() is None:
                time.sleep(POLL_SECONDS)
            break
        except KeyboardInterrupt:
            child.send_signal(signal.SIGTERM)
    if child.returncode == -signal.SIGKILL:
        raise Killed(f"ended by SIGKILL: {' '.join(overrides)}")
    return child.returncode
