"""Hundreds of wrong commands, made at random: each refused at once, with the key, and no folder made."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_config import settings, typos

from dsac.algorithms import names
from dsac.cli import exit_codes
from dsac.config import choices, compose, flat_keys
from dsac.train import main

SECONDS = 5.0
Made = tuple[list[str], str]  # the words, and what the refusal must name


def of_numbers(algo: str) -> list[str]:
    """Settings that take numbers, by their key."""
    kinds = {key: str(kind) for key, (kind, _, _) in settings(algo).items()}
    return [key for key, kind in kinds.items() if "int" in kind or "float" in kind]


def typo(draw: random.Random, algo: str) -> Made:
    """One letter of a key is wrong."""
    known = [key for key in flat_keys(compose([f"algo={algo}"])) if key.rpartition(".")[2] not in ("name", "algo")]
    wrong = draw.choice([word for word in typos(draw.choice(known)) if word not in known])
    return [f"algo={algo}", f"{wrong}=1"], wrong


def type_(draw: random.Random, algo: str) -> Made:
    """A value of another type."""
    key = draw.choice(of_numbers(algo))
    value = draw.choice(["maybe", "[1,2]", "{a: 1}", "1e", "true", "nan", "inf", "''"])
    return [f"algo={algo}", f"{key}={value}"], key


def value(draw: random.Random, algo: str) -> Made:
    """A value out of its range."""
    rules = {key: rule for key, (_, rule, _) in settings(algo).items() if rule.keys() & {"options", "low", "above"}}
    key = draw.choice(sorted(rules))
    rule = rules[key]
    if "options" in rule:
        wrong = draw.choice(["zzz", "1", rule["options"][0] + "x"])
    elif "high" in rule and draw.random() < 0.5:
        wrong = str(rule["high"] + draw.choice([0.5, 7, 1e9]))
    else:
        low = rule.get("low", rule.get("above"))
        wrong = str(low - draw.choice([1, 2, 1000])) if "low" in rule else str(low - draw.choice([0, 1, 1000]))
    return [f"algo={algo}", f"{key}={wrong}"], key


def contradiction(draw: random.Random, algo: str) -> Made:
    """Settings that cannot hold together."""
    size = draw.randrange(2, 10_000)
    if algo == "ppo":
        return [
            "algo=ppo",
            "algo.horizon=128",
            "num_envs=2",
            f"algo.minibatch_size={256 + size}",
        ], "algo.minibatch_size"
    return draw.choice(
        [
            (
                [f"algo={algo}", f"algo.warmup_env_steps={size + 256}", f"algo.replay_capacity={size + 255}"],
                "algo.warmup",
            ),
            ([f"algo={algo}", f"algo.warmup_env_steps={size}", f"algo.batch_size={size + 1}"], "algo.batch_size"),
            ([f"algo={algo}", f"num_envs={size}", f"algo.num_envs={size}"], "num_envs"),
        ]
    )


def name(draw: random.Random, algo: str) -> Made:
    """A task, an algorithm or a recipe that there is not."""
    group = draw.choice(["env", "algo"])
    known = draw.choice([choice for choice in choices(group) if choice not in ("custom", "gymnasium")])
    place = draw.randrange(len(known))
    wrong = known[:place] + draw.choice("qzxj") + known[place + 1 :]
    return [f"{group}={wrong}"], f"{group}={wrong}"


def task(draw: random.Random, algo: str) -> Made:
    """A Gymnasium task that cannot be trained on."""
    known = ["CartPole-v1", "MountainCar-v0", "Acrobot-v1", "FrozenLake-v1", "Pendulum-v0", "Hopper-v3", "a.b:C-v0"]
    wrong = draw.choice(known)
    return ["env=gymnasium", f"env.id={wrong}", f"algo={algo}"], wrong.rpartition(":")[2]


def grammar(draw: random.Random, algo: str) -> Made:
    """What is no key=value, what would be resolved, and flags of other programs."""
    size = draw.randrange(1000)
    words = [f"--seed={size}", f"+new={size}", f"~seed{size}", f"seed{size}", f"runs=${{oc.env:SECRET{size}}}"]
    words += [f"resume=nowhere{size}", f"init_from=nowhere{size}", f"experiment=nowhere{size}"]
    word = draw.choice(words)
    return [word, f"algo={algo}"], word.partition("=")[0].lstrip("+~-")[:4] if "resume" not in word else "nowhere"


KINDS: list[Callable[[random.Random, str], Made]] = [typo, type_, value, contradiction, name, task, grammar]


@pytest.mark.parametrize("count", [28, pytest.param(500, marks=pytest.mark.faults)], ids="{}-configs".format)
def test_every_wrong_command_is_refused(
    count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Catches a wrong word that is taken, refused late, without its key, or after a folder was made."""
    monkeypatch.chdir(tmp_path)
    slowest, draw = 0.0, random.Random(5)
    for index in range(count):
        words, named = KINDS[index % len(KINDS)](draw, draw.choice(names()))
        words = words if any(word.startswith("env=") for word in words) else [*words, "env=InvertedPendulum"]
        began = time.process_time()
        assert main(words) == exit_codes.USAGE, words
        slowest = max(slowest, time.process_time() - began)
        said = capsys.readouterr().err
        assert "error: " in said, words
        assert named in said, (words, said)
        assert list(tmp_path.iterdir()) == [], words
    print(f"{count} refused, the slowest in {slowest:.2f} s")
    assert slowest < SECONDS


@pytest.mark.faults
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_process_of_its_own_is_as_fast(kind: Callable[[random.Random, str], Made], tmp_path: Path):
    """Catches a start-up that spends its seconds before it looks at the words, and another exit code at the start."""
    draw = random.Random(7)
    for _ in range(2):
        words, named = kind(draw, draw.choice(names()))
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "dsac.train", *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert time.monotonic() - began < SECONDS
        assert (done.returncode, named in done.stderr) == (exit_codes.USAGE, True), done.stderr
        assert list(tmp_path.iterdir()) == []
