"""What counts as available memory, on made-up machines and containers, and the replay that asks for more."""

import os
import re
from pathlib import Path

import pytest

from dsac.memory import size as size_module
from dsac.memory.replay import Replay
from dsac.memory.size import InsufficientMemory, replay_bytes
from envs.system import available_memory

VERSION_2 = ("0::/job/task", "sys/fs/cgroup/job", ("memory.max", "memory.current", "inactive_file"))
HYBRID = ("0::/job/task", "sys/fs/cgroup/unified/job/task", ("memory.max", "memory.current", "inactive_file"))
VERSION_1 = (
    "4:cpu,memory:/job",
    "sys/fs/cgroup/memory",
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


@pytest.mark.parametrize(("membership", "folder", "names"), [VERSION_2, HYBRID, VERSION_1])
def test_container_limits_are_obeyed(tmp_path: Path, membership, folder, names):
    """Catches a limit of a parent group or of either cgroup version that goes unseen, and cached files that count."""
    limit, usage, cached = names
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 5000 kB\n")
    assert available_memory(tmp_path) == 5000 * 1024
    (tmp_path / "proc/self/cgroup").write_text(f"9:cpuset:/\n{membership}\n")
    group = tmp_path / folder
    group.mkdir(parents=True)
    (group / usage).write_text("2000000\n")
    (group / limit).write_text("max\n")
    assert available_memory(tmp_path) == 5000 * 1024
    (group / limit).write_text("3000000\n")
    (group / "memory.stat").write_text(f"anon 5\n{cached} 400000\n")
    assert available_memory(tmp_path) == 1_400_000
    (group / usage).write_text("4000000\n")
    assert available_memory(tmp_path) == 0


def test_a_system_that_says_nothing_has_the_memory_of_its_machine(tmp_path: Path):
    """Catches a replay that refuses to start where there is no /proc, and one that no machine could hold."""
    assert available_memory(tmp_path) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_replay_beyond_memory_is_refused_and_what_fits_is_named(monkeypatch):
    """Catches a run that is killed hours in, and advice that does not fit either."""
    monkeypatch.setattr(size_module, "available_memory", lambda: 10**9)
    size = {"num_envs": 20, "obs_dim": 348, "action_dim": 17}
    settings = {"batch_size": 1, "updates_per_env_step": 1, "gamma": 0.99, "n_step": 1, "seeds": [0, 1]}
    with pytest.raises(InsufficientMemory, match=r"2\.93 GB is needed, 1\.00 GB ") as refusal:
        Replay(capacity=10**6, **size, **settings)
    message = str(refusal.value)
    fits = int(re.search(r"capacity of (\S+)", message)[1].replace(",", ""))
    assert replay_bytes(fits, **size, learners=2) <= 0.9e9 < replay_bytes(fits + 1, **size, learners=2)
    assert "\n" not in message
