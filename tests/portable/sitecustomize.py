"""Gives every process that has this folder on its path the answers of a POSIX system that is not Linux."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from envs import system

system.LINUX = False
for name in ("sched_getaffinity", "sched_setaffinity", "process_cpu_count"):
    if hasattr(os, name):
        delattr(os, name)  # who asks for it outside envs/system.py fails, as there
