"""Run an exported policy on a robot: one file, numpy and onnxruntime only. Copy it beside policy.onnx and import it.

    from controller import Policy

    policy = Policy("policy.onnx")             # refuses a damaged or mismatched export
    while True:
        send(policy(read_sensors()))           # paced at the control period; holds the safe action where it must

python controller.py policy.onnx checks an export on this machine and times it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

SCHEMA = 1
NOT_OF_THE_CONTRACT = ("checks", "files", "sha256")  # what policy.json holds besides the contract
REAL = "fiub"  # kinds of numpy types
LATE = 1.5  # periods between two actions
log = logging.getLogger("policy")


class PolicyRefused(RuntimeError):
    """The files are not what they were when they were exported, or not for this robot; the message says why."""


class Policy:
    """obs (O,) in the contract's order, or a mapping from name to value -> actions (A,) float32 in the task's units.

    pace            keep the control period: a call waits until it is due. False in simulation
    obs_names       the robot's own order of observations and actions: refused where it is not the contract's
    action_names

    valid, reason   whether the last action is the policy's, else why it is the safe action
    steps, holds    how many actions were given, and how many of them were safe ones
    late            how often the next call came more than half a period too late
    Raises PolicyRefused at once, ValueError for an observation of another size or with unknown names.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        pace: bool = True,
        obs_names: Sequence[str] | None = None,
        action_names: Sequence[str] | None = None,
    ) -> None:
        path = Path(path)
        self.contract = read_contract(path, "policy.onnx", "parity.npz")
        try:
            self.take(self.contract)
            check_names("observation", obs_names, self.obs_names)
            check_names("action", action_names, self.action_names)
            if not pace:
                self.period = 0.0
            self.session = open_session(path, self.contract)
            self.parity_error = check_parity(self, path.with_name("parity.npz"))
            check_guard(self)
        except PolicyRefused:
            raise
        except Exception as error:  # whatever a contract, a net or a parity set of another form leads to
            raise PolicyRefused(f"{path}: not an export of this kind ({type(error).__name__}: {error})") from error
        self.reset()

    def take(self, contract: Mapping[str, Any]) -> None:
        """What the contract says, as the calls need it."""
        self.obs_names, self.action_names = contract["obs_names"], contract["action_names"]
        self.places = {name: place for place, name in enumerate(self.obs_names)}
        self.low, self.high = (np.array(contract[f"action_{side}"], np.float32) for side in ("low", "high"))
        self.obs_abs_max = np.float32(contract["obs_abs_max"])
        self.safe_action = np.array(contract["safe_action"]["value"], np.float32)
        self.keeps_last = contract["safe_action"]["kind"] == "last"
        self.period = float(contract["control_period_seconds"] or 0.0)

    def reset(self) -> None:
        """Start an episode: no last action, no last call, all counters at zero."""
        self.last = self.safe_action
        self.valid = True
        self.reason: str | None = None
        self.steps = self.holds = self.late = 0
        self.called: float | None = None

    def __call__(self, obs: ArrayLike | Mapping[str, float]) -> NDArray[np.float32]:
        self.keep_pace()
        row = self.row(obs)
        action, valid = self.infer(row)
        self.reason = None if valid else self.why(row)
        if valid and not ((action >= self.low) & (action <= self.high)).all():
            self.reason = "the runtime gave an action outside its limits"
        self.steps += 1
        if self.reason is None:
            self.valid, self.last = True, action
            return action.copy()
        if self.valid:
            log.warning("holding the safe action: %s", self.reason)
        self.valid = False
        self.holds += 1
        return (self.last if self.keeps_last else self.safe_action).copy()

    def row(self, obs: ArrayLike | Mapping[str, float]) -> NDArray[np.float32]:
        """The observation as (O,); what a mapping lacks is not a number, so that it is refused and named."""
        if isinstance(obs, Mapping):
            if unknown := obs.keys() - self.places.keys():
                raise ValueError(f"unknown observations: {', '.join(sorted(map(str, unknown)))}")
            values = [obs.get(name, np.nan) for name in self.obs_names]
            if all(type(value) is float for value in values):  # the others cost ten times as much
                return numbers(values)
            return np.array([number(*entry) for entry in zip(self.obs_names, values, strict=True)], np.float32)
        row = numbers(obs)
        if row.shape != (len(self.obs_names),):
            raise ValueError(f"an observation of shape {row.shape}, expected {(len(self.obs_names),)}")
        return row

    def infer(self, row: NDArray[np.float32]) -> tuple[NDArray[np.float32], bool]:
        """What the file answers to one observation."""
        actions, valid = self.session.run(["actions", "valid"], {"obs": row[None]})
        return actions[0], bool(valid[0])

    def why(self, row: NDArray[np.float32]) -> str:
        """The first entry that cannot be trusted."""
        for name, value in zip(self.obs_names, row.tolist(), strict=True):
            if not np.isfinite(value):
                return f"{name} is {value}"
            if abs(value) > self.obs_abs_max:
                return f"{name} is {value:g}, beyond {self.obs_abs_max:g}"
        return "the net's numbers left the range of a float"

    def keep_pace(self) -> None:
        """Wait until one period has passed since the last call; count the calls that come too late."""
        now = time.perf_counter()
        if self.called is not None and self.period > 0:
            due = self.called + self.period
            if now > self.called + LATE * self.period:
                self.late += 1
            elif now < due:
                time.sleep(due - now)
                now = due
        self.called = now


class Risk:
    """What the critics expect: obs (O,), action (A,) as a Policy takes and gives them -> mean, sigma of the return.

    Both are of the discounted return from here on, in the task's units; infinite where an input cannot be trusted.
    Raises PolicyRefused as a Policy does.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        self.contract = read_contract(path, "risk.onnx", "risk-parity.npz")
        try:
            self.session = open_session(path, self.contract)
            self.parity_error = self.check_parity(path.with_name("risk-parity.npz"))
        except PolicyRefused:
            raise
        except Exception as error:  # whatever a contract, a net or a parity set of another form leads to
            raise PolicyRefused(f"{path}: not an export of this kind ({type(error).__name__}: {error})") from error

    def __call__(self, obs: ArrayLike, action: ArrayLike) -> tuple[float, float]:
        mean, sigma = self.session.run(["mean", "sigma"], {"obs": numbers(obs)[None], "action": numbers(action)[None]})
        return float(mean[0]), float(sigma[0])

    def check_parity(self, path: Path) -> float:
        """The worst error on the parity set, relative to the value or to the size of such values if that is larger."""
        with np.load(path, allow_pickle=False) as file:
            obs, action, scale, tolerance = (file[key] for key in ("obs", "action", "scale", "tolerance"))
            expected = np.stack([file["mean"], file["sigma"]], 1)
        found = np.array([self(*row) for row in zip(obs, action, strict=True)])
        error = np.abs(found - expected) / np.maximum(np.abs(expected), scale)
        worst = float(np.where(np.isfinite(error), error, np.inf).max())
        if worst > tolerance:
            raise PolicyRefused(
                f"this machine's risk differs by up to {worst:.1e} of its size, allowed {tolerance:.0e}"
            )
        return worst


def numbers(obs: ArrayLike) -> NDArray[np.float32]:
    """An observation as float32: masked entries, which hold no measurement, are not a number. Raises ValueError for
    what is no array of real numbers."""
    try:
        array = np.asanyarray(obs)
    except (ValueError, TypeError) as error:
        raise ValueError(f"an observation that is no array of numbers: {error}") from error
    if array.dtype.kind not in REAL:
        raise ValueError(f"an observation of type {array.dtype}: real numbers are needed")
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and refused
        row: NDArray[np.float32] = np.array(np.ma.getdata(array), np.float32)
    if isinstance(array, np.ma.MaskedArray):
        row[np.ma.getmaskarray(array)] = np.nan
    return row


def number(name: str, value: Any) -> np.float32:
    """One entry of a mapping: a number, or an array of one. Raises ValueError for anything else."""
    try:
        found = numbers(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if found.size != 1:
        raise ValueError(f"{name} is an array of shape {found.shape}, expected one number")
    return np.float32(found.reshape(()))


def plain(text: object) -> str:
    """Text of a file without anything that a terminal obeys."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))


def read_contract(path: Path, graph: str, parity: str) -> dict[str, Any]:
    """policy.json beside the file, once its own hash and those of the graph and its parity set are right."""
    table = path.with_name("policy.json")
    try:
        written = json.loads(table.read_bytes())
        stated, files, schema = written.pop("sha256"), dict(written["files"]), written["schema"]
        found = hashlib.sha256(json.dumps(written, sort_keys=True).encode()).hexdigest()
    except (OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise PolicyRefused(f"{table}: not a readable contract ({type(error).__name__}: {error})") from error
    if found != stated:
        raise PolicyRefused(f"{table}: altered since the export")
    if schema != SCHEMA:
        raise PolicyRefused(f"{table}: schema {schema}, this controller reads {SCHEMA}: use its own")
    for name in (graph, parity):
        file = path if name == graph else path.with_name(name)
        if name not in files:
            setting = "format=onnx" if graph == "policy.onnx" else "risk=true"
            raise PolicyRefused(f"{table} names no {name}: export with {setting}")
        if not file.is_file():
            raise PolicyRefused(f"{file} is missing")
        if hashlib.sha256(file.read_bytes()).hexdigest() != files[name]:
            raise PolicyRefused(f"{file}: altered since the export")
    return {key: value for key, value in written.items() if key not in NOT_OF_THE_CONTRACT}


def check_names(what: str, given: Sequence[str] | None, expected: Sequence[str]) -> None:
    """Raise PolicyRefused where a robot's own order is not the contract's."""
    if given is None:
        return
    if len(given) != len(expected):
        raise PolicyRefused(f"this robot has {len(given)} entries of {what}, the policy {len(expected)}")
    for place, (ours, theirs) in enumerate(zip(given, expected, strict=True)):
        if ours != theirs:
            raise PolicyRefused(f"{what} {place} is {ours!r} on this robot and {theirs!r} for the policy")


def open_session(path: Path, contract: Mapping[str, Any]) -> Any:
    """onnxruntime on one thread, once the facts inside the file are those beside it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise PolicyRefused("policy.onnx needs onnxruntime: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    inside = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    if different := sorted(key for key in inside.keys() | contract.keys() if inside.get(key) != contract.get(key)):
        raise PolicyRefused(f"{path} and policy.json differ in {', '.join(different)}")
    return session


def check_parity(policy: Policy, path: Path) -> float:
    """The worst error on the parity set, as a share of each action's half range. Raises PolicyRefused."""
    with np.load(path, allow_pickle=False) as file:
        obs, expected, half_range, tolerance = (file[key] for key in ("obs", "actions", "half_range", "tolerance"))
    answers = [policy.infer(row) for row in obs]
    if not all(valid for _, valid in answers):
        raise PolicyRefused("an observation of the parity set was not answered with an action")
    error = np.abs(np.array([action for action, _ in answers], np.float64) - expected) / half_range
    worst = float(np.where(np.isfinite(error), error, np.inf).max())
    if worst > tolerance:
        place = int(error.max(0).argmax())
        raise PolicyRefused(
            f"this machine's actions differ from the trained policy's by up to {worst:.1e} of the half range "
            f"({policy.action_names[place]}), allowed is {tolerance:.0e}"
        )
    return worst


def check_guard(policy: Policy) -> None:
    """Raise PolicyRefused unless NaN, an infinity and twice the limit are refused in every entry, one at a time."""
    row = np.zeros(len(policy.obs_names), np.float32)
    for place, name in enumerate(policy.obs_names):
        for value in (np.nan, np.inf, -np.inf, 2 * policy.obs_abs_max):
            row[place] = value
            action, valid = policy.infer(row)
            if valid or not np.array_equal(action, policy.safe_action):
                raise PolicyRefused(f"this runtime does not answer {value} in {name} with the safe action")
        row[place] = 0


def main(words: Sequence[str]) -> int:
    """Check an export and time it; returns the exit code."""
    if len(words) != 1 or words[0].startswith("-"):
        print("python controller.py policy.onnx    checks an export on this machine and times it")
        return 0 if words in (["--help"], ["-h"]) else 2
    try:
        policy = Policy(words[0], pace=False)
    except PolicyRefused as error:
        print(f"refused: {plain(error)}", file=sys.stderr)
        return 4
    obs, seconds = np.zeros(len(policy.obs_names), np.float32), []
    for _ in range(1000):
        start = time.perf_counter()
        policy(obs)
        seconds.append(time.perf_counter() - start)
    facts = policy.contract
    told = f"{facts['algorithm']} on {facts['env']}, {facts['which']} policy at {facts['env_steps']:,} env steps"
    print(plain(told))
    print(f"in order: worst error {policy.parity_error:.1e} of the half range; every entry guarded")
    print(f"{np.median(seconds) * 1e6:.0f} us a step (median of 1,000, worst {max(seconds) * 1e6:.0f} us)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
