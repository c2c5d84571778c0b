"""What people write who come from Hydra and from other trainers: one line with the right word, or it simply works."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
import yaml

from dsac import compare, evaluate, export, sweep
from dsac.cli import exit_codes
from dsac.config import choices, compose, load
from dsac.train import main


def refused(*words: str, command=main) -> str:
    """The one line that refuses these words."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        assert command(list(words)) == exit_codes.USAGE
    (line,) = errors.getvalue().splitlines()
    return line.removeprefix("error: ")


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Words that are refused leave nothing behind."""
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "right"),
    [
        ("+algo.gamma=0.9", "write algo.gamma=0.9"),
        ("++seed=1", "write seed=1"),
        ("~algo.gamma", "'~algo.gamma': a setting cannot be taken out"),
        ("--env=Hopper", "write env=Hopper"),
        ("--env Hopper", "write env=Hopper"),
        ("-seed=1", "write seed=1"),
        ("++algo=ppo algo.clip_low=0.1", "write algo=ppo"),
        ("--config-name=ppo", "algo="),
        ("--config-name ppo", "experiment="),
        ("-cn ppo", "conf/train.yaml"),
        ("--config-path=conf", "conf/train.yaml"),
        ("hydra.run.dir=/tmp/x", "runs=<folder>"),
        ("+hydra.job.name=x", "runs=<folder>"),
        ("-m seed=1,2", "python -m dsac.sweep seeds=1,2"),
        ("--multirun env=Ant,Hopper seed=1,2", "python -m dsac.sweep env=Ant,Hopper seeds=1,2"),
        ("seed=1,2", "python -m dsac.sweep seeds=1,2"),
        ("algo=sac,ppo env=Ant seed=1", "python -m dsac.sweep env=Ant seeds=1 algo=sac,ppo"),
        ("seeds=0..4", "python -m dsac.sweep seeds=0..4"),
        ("-m", "python -m dsac.sweep env=A,B"),
        ("--info", "'--info' is not key=value (see --help)"),
        ("Humanoid", "'Humanoid' is not key=value"),
    ],
)
def test_habits_of_hydra_have_one_line(words: str, right: str):
    """Catches a word that two parts complain of, and one that leaves people without the right one."""
    assert right in refused(*words.split())


@pytest.mark.parametrize(
    ("words", "right"),
    [
        ("algo.lr=1", "algo.critic_learning_rate or algo.actor_learning_rate or algo.temperature_learning_rate?"),
        ("algo=ppo algo.lr=1", "did you mean algo.learning_rate?"),
        ("learning_rate=1", "algo.critic_learning_rate or "),
        ("algo=ppo lr=1", "algo.learning_rate?"),
        ("total_timesteps=1000", "did you mean total_env_steps?"),
        ("buffer_size=1000", "did you mean algo.replay_capacity?"),
        ("n_envs=4", "did you mean num_envs?"),
        ("algo=ppo algo.n_epochs=4", "did you mean algo.epochs?"),
        ("algo=dsac", "did you mean dsac_t?"),
        ("algo=dsac-3", "did you mean dsac_"),
        ("env=Pendulum-v1", "env=gymnasium env.id=Pendulum-v1"),
        ("env=theirs.module:Name-v0", "env=gymnasium env.id=theirs.module:Name-v0"),
        ("env=Humanoid-v4", "use Humanoid-v5, or v4 through Gymnasium: env=gymnasium env.id=gymnasium:Humanoid-v4"),
        ("env=humanoid-v4", "use Humanoid-v5"),
        ("env=Humanoid-v3", "use Humanoid-v5"),
        ("env.id=Pendulum-v1", "env=gymnasium"),
    ],
)
def test_words_of_other_trainers_are_understood(words: str, right: str):
    """Catches a suggestion that is spelled alike and means something else: algo.lr -> algo."""
    assert right in refused(*words.split())


def test_v4_is_there_through_gymnasium():
    """Catches advice that does not work."""
    assert load(compose(["env=gymnasium", "env.id=gymnasium:Humanoid-v4"])).env.id == "gymnasium:Humanoid-v4"


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("algo=SAC", "sac"), ("algo=DSAC-T", "dsac_t"), ("algo=DSACT", "dsac_t"), ("algo=Dsac_V1", "dsac_v1"),
        ("algo=PPO", "ppo"), ("env=halfcheetah", "HalfCheetah"), ("env=humanoid", "Humanoid"),
        ("env=half_cheetah", "HalfCheetah"), ("env=HUMANOID-V5", "Humanoid"), ("env=walker2d", "Walker2d"),
        ("env=inverted-double-pendulum", "InvertedDoublePendulum"),
    ],
)  # fmt: skip
def test_case_and_punctuation_of_names_do_not_matter(word: str, name: str):
    """Catches a run that is refused for a capital letter, and one that is saved under another name than its like."""
    config = load(compose([word]))
    assert name in (config.algo.name, config.env.name)
    assert load(compose([f"{word.partition('=')[0]}={name}"])) == config


@pytest.mark.parametrize("group", ["algo", "env"])
def test_no_two_names_differ_in_case_and_punctuation_alone(group: str):
    """Catches a new name that is taken for an old one."""
    from dsac.schema.overrides import letters

    assert len({letters(name) for name in choices(group)}) == len(choices(group))


@pytest.mark.parametrize("flag", ["--cfg job", "--cfg=job", "-c job"])
def test_the_composed_settings_are_shown(flag: str, capsys: pytest.CaptureFixture[str]):
    """Catches settings that are shown otherwise than they are trained with, and a run that begins."""
    words = ["env=Hopper", "algo=SAC", "algo.gamma=0.9"]
    assert main([*flag.split(), *words]) == exit_codes.FINISHED
    assert load(yaml.safe_load(capsys.readouterr().out)) == load(compose(words))
    assert "did you mean algo.gamma?" in refused(*flag.split(), "algo.gama=1")


@pytest.mark.parametrize(
    ("command", "words", "right"),
    [
        (evaluate.main, "--run=x", "write run=x"),
        (evaluate.main, "--run x", "write run=x"),
        (export.main, "+run=x", "write run=x"),
        (compare.main, "--runs=x", "write runs=x"),
        (sweep.main, "-m env=Ant,Hopper", "several runs are python -m dsac.sweep"),
        (sweep.main, "++seed=1", "write seed=1"),
        (sweep.main, "hydra.sweep.dir=x", "runs=<folder>"),
    ],
)
def test_every_command_says_it_once(command, words: str, right: str):
    """Catches a command that takes words apart in its own way, and `run is missing` beside `write run=`."""
    assert right in refused(*words.split(), command=command)
