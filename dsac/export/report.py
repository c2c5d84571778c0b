"""The report of an export, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def as_text(report: Mapping[str, Any]) -> str:
    """What is inside, how large, how exact, how fast, and what to type next."""
    facts, checks, out = report["contract"], report["checks"], report["out"]
    lines = [
        f"{facts['env']}, {facts['algorithm']}, {facts['which']} policy of learner {facts['learner']} at "
        f"{facts['env_steps']:,} env steps",
        f"inside   {inside(facts)}",
        f"held     {held(facts)}",
        "files    " + ", ".join(f"{name} {size(count)}" for name, count in report["bytes"].items()),
        f"parity   {parity(checks)}",
        f"         {'':11}worst error    time a step   closed loop, {checks['episodes']} episodes",
    ]
    for name, found in checks["runtimes"].items():
        error = "" if name == "torch" else f"{found['worst_error']:.1e}"
        microseconds = found["microseconds_a_step"]
        lines.append(f"         {name:11}{error:>11}  {microseconds:>10,.1f} us   {closed_loop(found['closed_loop'])}")
    if "risk" in checks:
        lines.append(
            f"risk     mean and sigma of the return, worst error {checks['risk']['worst_error']:.1e} of their size"
        )
    lines.append(f"results in {out}")
    if "onnx" in checks["runtimes"]:
        lines.append(f"next: python {out}/controller.py {out}/policy.onnx    where it will run; see docs/deploy.md")
    else:
        lines.append("next: docs/deploy.md")
    return "\n".join(lines)


def inside(facts: Mapping[str, Any]) -> str:
    """The graph from the observation to the action."""
    network, normaliser = facts["network"], facts["normaliser"]
    widths = "-".join(str(width) for width in network["widths"])
    steps = [
        f"finite and within {facts['obs_abs_max']:g}?",
        *([] if normaliser is None else [f"normalise, clip at {normaliser['clip']:g}"]),
        f"{widths} {network['activation']}" + (" with layer norm" if network["layer_norm"] else ""),
        network["head"],
        "the task's units",
        "limits",
    ]
    return " -> ".join(steps)


def held(facts: Mapping[str, Any]) -> str:
    """What is done when an observation cannot be trusted, and how often."""
    safe, period = facts["safe_action"], facts["control_period_seconds"]
    value = f" {safe['value']}" if safe["kind"] == "vector" else ""
    return f"safe action: {safe['kind']}{value}" + (f"; an action every {period:g} s" if period else "")


def parity(checks: Mapping[str, Any]) -> str:
    """How many observations of which kind were compared."""
    rows = checks["parity_rows"]
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in rows.items())
    told = f"{sum(rows.values()):,} observations ({kinds}), errors in half ranges"
    if checks["passed_over"]:
        told += (
            f"; passed over {checks['passed_over']:,} that float32 does not settle (rounding {checks['rounding']:.0e})"
        )
    return told


def closed_loop(found: Mapping[str, Any] | None) -> str:
    """A return, with its interval where it has one."""
    if found is None:
        return "not played"
    if found["interval_95"] is None:
        return f"{found['mean']:,.1f}"
    low, high = found["interval_95"]
    return f"{found['mean']:,.1f} (95% interval {low:,.1f} to {high:,.1f})"


def size(count: int) -> str:
    """Bytes as people read them."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
