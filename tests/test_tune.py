"""Tuning: what may be searched, what a trial is worth, and that stops and kills lose no trial and count none twice."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from said import assert_says
from small_runs import only_run, small_words

from dsac import train, tune
from dsac.cli import exit_codes
from dsac.compare import figures
from dsac.config import compose, conf_folder, load
from dsac.persistence import checkpoint
from dsac.persistence.lock import RunLock
from dsac.runs.folder import folder_of, save_config
from dsac.schema.run_config import TrainConfig
from dsac.sweep import find_runs, runner, worker
from dsac.sweep.plan import Planned
from dsac.tune import command as tune_command
from dsac.tune import recipe as tune_recipe
from dsac.tune.job import Job, prepare
from dsac.tune.search_space import Choices, Range, read_space
from dsac.tune.study import Study, best_of
from dsac.tune.tuner import curve, objective

pytest.importorskip("optuna", reason="needs the extra tune")
SPACE = """
algo.learning_rate: {low: 1e-6, high: 1e-2, log: true}
algo.epochs: {low: 1, high: 4}
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder that is no checkout, a sweep that does not wait, and no pictures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(figures, "installed", lambda: False)
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.0)
    Path("space.yaml").write_text(SPACE)


def words(*more: str) -> list[str]:
    """The words of a study of small runs with evaluations at 64, 128, 192 and 256 env steps."""
    own = [word for word in small_words(Path("runs"), "ppo") if not word.startswith("runs=")]
    given = ["space=space.yaml", "study=x", "trials=4", "seeds=0..1", "jobs=2", "pruner=none", *own, *more]
    return list({word.partition("=")[0]: word for word in given}.values())


class Made:
    """A launcher of runs that leave what real ones do, one evaluation a poll, with the returns of a function.

    returns  (config, env steps) -> the mean return of an evaluation
    codes    how the run of a (trial, seed) ends, instead of well
    """

    def __init__(self, returns: Callable[[TrainConfig, int], float], codes: dict[str, int] | None = None) -> None:
        self.returns, self.codes = returns, codes or {}
        self.started: list[str] = []
        self.stopped: list[str] = []

    def slots(self) -> int:
        return 2

    def start(self, run: Planned) -> Any:
        self.started.append(run.title)
        run.folder.mkdir(parents=True, exist_ok=True)
        (run.folder / "log.txt").write_text("error: the arm fell off\n")
        return MadeRun(self, run)

    def close(self) -> None: ...


class MadeRun:
    """A run that Made has started: it goes on from where its folder is."""

    def __init__(self, launcher: Made, planned: Planned) -> None:
        self.launcher, self.planned, self.end = launcher, planned, None
        config = planned.config
        self.folder = (
            find_runs.find(config).run or folder_of(config) / f"made-{len(launcher.started)}-{os.urandom(4).hex()}"
        )
        (self.folder / "learner-0").mkdir(parents=True, exist_ok=True)
        save_config(self.folder, config)
        self.env_steps = find_runs.find(config).env_steps
        self.save()

    def save(self) -> None:
        checkpoint.save_step(self.folder / "checkpoints", self.env_steps, {}, {"env_steps": self.env_steps}, 2)

    def poll(self) -> int | None:
        config, launcher = self.planned.config, self.launcher
        if self.end is not None:
            return self.end
        if self.planned.title in launcher.codes and self.env_steps >= 128:
            return launcher.codes[self.planned.title]
        self.env_steps += config.eval_every_env_steps
        with (self.folder / "learner-0" / "metrics.csv").open("a") as file:
            file.write(f"{self.env_steps},1,1.0,eval/return,{launcher.returns(config, self.env_steps)!r}\n")
        self.save()
        (self.planned.folder / "status.json").write_text(json.dumps({"env_steps": self.env_steps}))
        return exit_codes.FINISHED if self.env_steps >= config.total_env_steps else None

    def stop(self) -> None:
        self.launcher.stopped.append(self.planned.title)
        self.end = -signal.SIGTERM  # as of a run that was still starting


def by_rate(config: TrainConfig, env_steps: int) -> float:
    """Returns that grow with the steps, fall with the distance of the rate from 1e-3, and are 10 more for seed 1."""
    height = 100 - 20 * abs(math.log10(config.algo.learning_rate) + 3)
    return env_steps / 256 * height + 10 * config.seed


def tuned(monkeypatch: pytest.MonkeyPatch, launcher: Made, given: Sequence[str]) -> int:
    """The command over made runs; its exit code."""
    monkeypatch.setattr(tune_command, "launcher_of", lambda _config: launcher)
    return tune.main(given)


def rows(study: str = "x") -> list[dict[str, str]]:
    """trials.csv of a study, one dict a trial."""
    with (Path("runs/tune") / study / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def made_runs() -> list[Path]:
    """The run folders of the study x."""
    return [path.parent for path in Path("runs/tune/x/runs").glob("*/*/*/config.yaml")]


def refused(given: Sequence[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines on stderr of a command that is refused with exit 2."""
    capsys.readouterr()
    assert tune.main(given) == exit_codes.USAGE
    return [line.removeprefix("error: ") for line in capsys.readouterr().err.splitlines()]


def test_all_that_is_wrong_is_said_at_once(capsys: pytest.CaptureFixture[str]):
    """Catches a space that a trial, hours later, finds to be none, and problems told one at a time."""
    Path("space.yaml").write_text("""
algo.learning_rat: {low: 1e-6, high: 1e-2}
algo.learning_rate: {low: 1e-2, high: 1e-6}
algo.gamma: {low: 0.9, high: 1.5}
algo.epochs: {low: 1.5, high: 4}
algo.entropy_coefficient: {low: 0, high: 1, log: true}
algo.clip_low: {low: 0.1, high: 0.3, step: 0.15}
algo.clip_high: {low: 0.1}
algo.activation: {choices: [tanh, tahn]}
algo.layer_norm: {choices: [true, true]}
algo.hidden_sizes: {choices: [[64, 64]]}
algo.minibatch_size: 7
algo.value_clip: {choices: [null, 0.2], low: 0}
algo.gae_lambda: {low: 0.9, high: 0.99, lg: true}
total_env_steps: {choices: [1, 2]}
algo.name: {choices: [ppo, sac]}
eval.episodes: {low: 1, high: 3}
""")
    lines = refused(words(), capsys)
    assert lines == [
        "space: unknown key 'algo.learning_rat': did you mean algo.learning_rate?",
        "space: algo.learning_rate: low=0.01 must be less than high=1e-06",
        "space: algo.gamma=1.5 must be at most 1.0",
        "space: algo.epochs=1.5 must be a whole number",
        "space: algo.entropy_coefficient: low=0.0 must be above 0 where log=true",
        "space: algo.clip_low: step=0.15 does not lead from low=0.1 to high=0.3",
        "space: algo.clip_high.high is missing",
        "space: algo.activation=tahn must be one of gelu, relu, silu, tanh: did you mean tanh?",
        "space: algo.layer_norm.choices=[True, True] names a value twice",
        "space: algo.hidden_sizes.choices=[[64, 64]] must be a list of two values or more",
        "space: algo.minibatch_size=7 must be {low: ..., high: ...} or {choices: [...]}",
        "space: algo.value_clip has choices and low: give choices, or low and high",
        "space: unknown key 'algo.gae_lambda.lg': did you mean algo.gae_lambda.log?",
        "space: total_env_steps is the same for all trials: give it on the command line",
        "space: algo.name: choose it with algo= on the command line; each choice has a study of its own",
        "space: eval.episodes is the same for all trials: give it on the command line",
    ]
    Path("space.yaml").unlink()
    lines = refused([*words(), "jobs=0", "seed=3", "sampler=tp", "algo.gama=0.9", "study=../x", "loud"], capsys)
    assert lines == [
        "'loud' is not key=value (see --help)",
        "seed=3: name the seeds with seeds=",
        "jobs=0 must be at least 1",
        "sampler=tp must be one of tpe, random: did you mean tpe?",
        "space=space.yaml: no such file",
        "study=../x must be a name of letters, digits, -, _ and .",
        "unknown key 'algo.gama': did you mean algo.gamma?",
    ]
    assert not Path("runs").exists()


def test_settings_that_do_not_go_together_are_found_before_a_trial(capsys: pytest.CaptureFixture[str]):
    """Catches bounds that are legal one by one, of which some trial could draw what no run takes."""
    Path("space.yaml").write_text("algo.minibatch_size: {choices: [16, 32]}\nalgo.horizon: {choices: [8, 16]}")
    (line,) = refused(words(), capsys)
    assert line.endswith("(with algo.minibatch_size=32 algo.horizon=8)")


@pytest.mark.parametrize("path", sorted((conf_folder() / "search").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_spaces_of_the_repository_are_legal(path: Path):
    """Catches an example that its algorithm refuses, and one that leaves the defaults out."""
    problems: list[str] = []
    tree = compose([f"algo={path.stem}"])
    space = read_space(path.stem, tree, problems)
    assert not problems
    assert len(space) >= 2
    assert all(part.holds(tree["algo"][key.removeprefix("algo.")]) for key, part in space.items())


def test_fields_keep_their_kind():
    """Catches a whole number that is drawn as 3.7, a rate that loses digits, a shortcut that hides its field."""
    Path("space.yaml").write_text(SPACE + "num_envs: {choices: [2, 4]}\nalgo.hidden_sizes: {choices: [[8, 8], [4]]}")
    _, job = prepare(words(), tune_command.TuneConfig)
    assert list(job.space) == ["algo.learning_rate", "algo.epochs", "algo.num_envs", "algo.hidden_sizes"]
    assert job.space["algo.epochs"] == Range(1, 4, 1.0, False, True)
    assert job.space["algo.hidden_sizes"] == Choices(("[8, 8]", "[4]"))
    assert job.base_settings()["algo.num_envs"] == 2  # the word num_envs=2
    settings = {
        "algo.learning_rate": job.space["algo.learning_rate"].word(1 / 3e3),
        "algo.num_envs": "4",
        "algo.hidden_sizes": "[4]",
    }
    algo = job.plan(0, settings)[0].config.algo
    assert (algo.learning_rate, algo.num_envs, algo.hidden_sizes) == (1 / 3e3, 4, (4,))
    assert [job.space["algo.epochs"].holds(value) for value in (1, 4, 5, 2.5, None)] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_the_first_trial_is_the_command_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Catches a gain over nothing, a value that is not of all seeds, and a recipe of another trial."""
    assert tuned(monkeypatch, Made(by_rate), words("algo.learning_rate=1e-6")) == exit_codes.FINISHED
    out = capsys.readouterr().out.splitlines()
    found = rows()
    assert (found[0]["base"], found[0]["algo.learning_rate"], found[0]["algo.epochs"]) == ("true", "1e-06", "2")
    assert [row["base"] for row in found[1:]] == ["false"] * 3
    assert float(found[0]["value"]) == pytest.approx(45)  # 40 and 50
    best = max(found, key=lambda row: float(row["value"]))
    assert float(best["value"]) == pytest.approx(np.mean([float(one) for one in best["scores"].split()]))
    gained = float(best["value"]) - 45
    assert any(f"a gain of {gained:,.1f}." in line for line in out)
    recipe = yaml.safe_load(Path("runs/tune/x/best.yaml").read_text())
    assert recipe["algo"]["learning_rate"] == float(best["algo.learning_rate"])
    assert recipe["algo"]["epochs"] == int(best["algo.epochs"])
    report = Path("runs/tune/x/report.md").read_text()
    assert f"| {best['trial']} | complete | " in report
    assert out[-2].startswith("confirm: python -m dsac.sweep experiment=runs/tune/x/best.yaml env=InvertedPendulum ")
    assert " seeds=2,3,4,5,6 " in out[-2]
    assert out[-1].startswith("next: python -m dsac.train experiment=runs/tune/x/best.yaml env=InvertedPendulum ")


def test_settings_outside_of_the_space_are_no_trial(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Catches a first trial that is silently moved into the space and called the command's own."""
    assert tuned(monkeypatch, Made(by_rate), words("algo.learning_rate=0.1", "trials=1")) == exit_codes.FINISHED
    out = capsys.readouterr().out
    assert_says(out, "warning: algo.learning_rate", "outside", "1e-06 to 0.01")
    assert "not tried: algo.learning_rate lies outside" in out
    assert [row["base"] for row in rows()] == ["false"]


def test_a_trial_below_the_others_is_given_up(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Catches a pruner that is never asked, runs that train on, and a trial judged before all its seeds were scored."""
    launcher = Made(lambda config, at: at * (1.0 if len(launcher.started) <= 10 else 0.1) + config.seed)
    assert tuned(monkeypatch, launcher, words("trials=8", "pruner=median")) == exit_codes.FINISHED
    found = rows()
    assert [row["state"] for row in found] == ["complete"] * 5 + ["pruned"] * 3
    assert len(launcher.stopped) == 6
    assert "failed" not in capsys.readouterr().err
    assert {title.split()[-1] for title in launcher.stopped} == {"5", "6", "7"}
    assert float(found[5]["value"]) == pytest.approx(0.1 * 128 + 0.5)
    saved = [find_runs.find(load(compose(words_of(run)))) for run in made_runs()]
    assert sum(not one.finished for one in saved) == 6
    assert "pruned at 128" in Path("runs/tune/x/report.md").read_text()


def words_of(run: Path) -> list[str]:
    """A config.yaml as a recipe."""
    tree = yaml.safe_load((run / "config.yaml").read_text())
    return [f"experiment={run / 'config.yaml'}", "runs=runs/tune/x/runs", f"seed={tree['seed']}"]


class Killed(BaseException):
    """In the place of SIGKILL: nothing may be written after it."""


def test_a_killed_study_goes_on_and_counts_each_trial_once(monkeypatch: pytest.MonkeyPatch):
    """Killed in the middle of its third trial, with half a line in the journal and a lock left behind.

    Catches a trial that is lost, asked anew or told twice, runs begun anew, and a journal that cannot be read any more.
    """
    whole, polls = Made(by_rate), [0]

    def dying(config: TrainConfig, env_steps: int) -> float:
        polls[0] += 1
        if polls[0] == 2 * 2 * 4 + 4:
            raise Killed
        return by_rate(config, env_steps)

    killed = Made(dying)
    with pytest.raises(Killed):
        tuned(monkeypatch, killed, words())
    folder = Path("runs/tune/x")
    with (folder / "journal.log").open("a") as file:
        file.write('{"op_code": 6, "worker')
    (folder / "journal.log.lock").symlink_to(folder / "journal.log")
    again = Made(by_rate)
    assert tuned(monkeypatch, again, words()) == exit_codes.FINISHED
    third = [title for title in killed.started if title.endswith("trial 2")]
    assert len(third) == 2
    assert [title for title in again.started if title.endswith("trial 2")] == third
    assert [title.split()[-1] for title in again.started] == ["2", "2", "3", "3"]
    found = rows()
    assert [row["trial"] for row in found] == ["0", "1", "2", "3"]
    assert {row["state"] for row in found} == {"complete"}
    assert len(made_runs()) == 8
    assert tuned(monkeypatch, whole, words("study=y")) == exit_codes.FINISHED
    assert rows("y") == found  # the trials that would have been drawn without the kill
    nothing = Made(by_rate)
    assert tuned(monkeypatch, nothing, words()) == exit_codes.FINISHED
    assert not nothing.started
    more = Made(by_rate)
    assert tuned(monkeypatch, more, words("trials=5")) == exit_codes.FINISHED
    assert [title.split()[-1] for title in more.started] == ["4", "4"]


def test_a_stopped_study_keeps_its_trials_open(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Catches a Ctrl-C that is taken for the end of a trial, by failure or by pruning."""

    def interrupting(config: TrainConfig, env_steps: int) -> float:
        if env_steps == 128 and not launcher.stopped:
            os.kill(os.getpid(), signal.SIGINT)
        return by_rate(config, env_steps)

    launcher = Made(interrupting)
    assert tuned(monkeypatch, launcher, words()) == exit_codes.RESUMABLE
    assert len(launcher.stopped) == 2
    assert_says(capsys.readouterr().out, "stopped", "0 of 4")
    assert not Path("runs/tune/x/report.md").exists()
    again = Made(by_rate)
    assert tuned(monkeypatch, again, words()) == exit_codes.FINISHED
    assert again.started[:2] == launcher.started
    assert [row["trial"] for row in rows()] == ["0", "1", "2", "3"]


def test_another_question_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Catches trials of different tasks, spaces or seeds in one table; the machine and the count may change."""
    assert tuned(monkeypatch, Made(by_rate), words("trials=1")) == exit_codes.FINISHED
    Path("space.yaml").write_text(SPACE.replace("1e-6", "1e-5"))
    assert refused(words("algo.gamma=0.9", "seeds=0..2", "sampler=random"), capsys)[:-1] == [
        "study=x has settings.algo.gamma=0.99, this command 0.9",
        "study=x has space.algo.learning_rate.low=1e-06, this command 1e-05",
        "study=x has seeds=[0, 1], this command [0, 1, 2]",
        "study=x has sampler=tpe, this command random",
    ]
    Path("space.yaml").write_text(SPACE)
    assert tuned(monkeypatch, Made(by_rate), words("trials=2", "jobs=1", "threads=2")) == exit_codes.FINISHED
    with closing(RunLock(Path("runs/tune/x"))):
        (line,) = refused(words(), capsys)
    assert line.startswith(f"runs/tune/x is in use: process {os.getpid()}, since ")


def test_a_failed_run_fails_its_trial_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Catches a study that ends with a diverged run, a seed that trains on for a dead trial, a nameless failure."""
    launcher = Made(by_rate, {"InvertedPendulum ppo seed 1 trial 1": exit_codes.NUMERICAL})
    assert tuned(monkeypatch, launcher, words()) == exit_codes.FINISHED
    assert [row["state"] for row in rows()] == ["complete", "failed", "complete", "complete"]
    assert rows()[1]["error"] == "seed 1: error: the arm fell off"
    assert "InvertedPendulum ppo seed 0 trial 1" in launcher.stopped
    assert_says(capsys.readouterr().out, "failed: trial 1 (exit 4)", "seed 1", "the arm fell off")
    assert "- trial 1: seed 1" in Path("runs/tune/x/report.md").read_text()


def test_a_run_that_is_refused_ends_the_study(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Catches twelve trials that fail one after another for what all have in common, and a trial that is lost by it."""
    codes = {"InvertedPendulum ppo seed 0 trial 1": exit_codes.USAGE}
    assert tuned(monkeypatch, Made(by_rate, codes), words()) == exit_codes.USAGE
    assert_says(capsys.readouterr().err, "InvertedPendulum ppo seed 0", "trial 1", "the arm fell off")
    assert tuned(monkeypatch, Made(by_rate), words()) == exit_codes.FINISHED
    assert [row["state"] for row in rows()] == ["complete"] * 4


def test_the_report_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Catches a report that trains, that needs the space's file, or that names no known study."""
    assert tuned(monkeypatch, Made(by_rate), words("trials=6")) == exit_codes.FINISHED
    out, before = capsys.readouterr().out, rows()
    monkeypatch.setattr(figures, "installed", lambda: True)
    for name in ("report.md", "trials.csv", "best.yaml"):
        (Path("runs/tune/x") / name).unlink()
    Path("space.yaml").unlink()
    assert tuned(monkeypatch, Made(by_rate), ["study=x", "report=true"]) == exit_codes.FINISHED
    assert capsys.readouterr().out.splitlines() == out.splitlines()[1:]
    assert rows() == before
    report = Path("runs/tune/x/report.md").read_text()
    assert "| algo.learning_rate | " in report.split("## Importance")[1]
    assert Path("runs/tune/x/tune.png").read_bytes().startswith(b"\x89PNG")
    assert tuned(monkeypatch, Made(by_rate), ["study=x", "report=true", "--json"]) == exit_codes.FINISHED
    told = json.loads(capsys.readouterr().out)
    assert told["value"] == max(float(row["value"]) for row in before)
    assert sum(told["importance"].values()) == pytest.approx(1)
    assert refused(["study=z", "report=true", "trials=3", "env=Ant"], capsys) == [
        "env=Ant: report=true takes study= and runs= alone"
    ]
    assert refused(["study=z", "report=true"], capsys) == ["study=z: known are x"]


def test_a_study_writes_in_its_own_folder_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Catches a study in a checkout that leaves its recipe among those of conf/experiment."""
    Path("conf").symlink_to(conf_folder())
    before = sorted(conf_folder().rglob("*"))
    assert tuned(monkeypatch, Made(by_rate), words("trials=1")) == exit_codes.FINISHED
    assert sorted(conf_folder().rglob("*")) == before
    assert sorted(path.name for path in Path().iterdir()) == ["conf", "runs", "space.yaml"]
    out = capsys.readouterr().out
    assert "recipe: runs/tune/x/best.yaml" in out
    assert load(compose(["experiment=runs/tune/x/best.yaml"])).algo.name == "ppo"


@pytest.mark.parametrize("algo", ["dsac_t", "sac", "ppo"])
def test_a_recipe_says_all_that_the_words_said(algo: str, tmp_path: Path):
    """Catches a recipe that loses what the default recipe had set, a null, a list, or the task's own settings."""
    given = ["env=Hopper", f"algo={algo}", "algo.hidden_sizes=[32,16]", "eval.episodes=3", "env.max_episode_steps=77"]
    given += ["experiment=recipe", "algo.gamma=0.9876543210123", "seed=3", "precision=tf32", "threads=1"]
    config = load(compose([*given, *(["algo.huber_delta=null"] if algo == "dsac_t" else ["algo.activation=silu"])]))
    path = tmp_path / "best.yaml"
    path.write_text(yaml.safe_dump(tune_recipe.settings_tree(config), sort_keys=False))
    again = load(compose([f"experiment={path}", "seed=3"]))
    assert find_runs.identity(again) == find_runs.identity(config)


class Here(Made):
    """Real runs, in this process, one after another."""

    def __init__(self) -> None:
        super().__init__(by_rate)

    def start(self, run: Planned) -> Any:
        self.started.append(run.title)
        code = worker.work(run.folder, run.overrides)

        class Ended:
            def poll(self) -> int:
                return code

            def stop(self) -> None: ...

        return Ended()


def test_the_recipe_repeats_its_trial_to_the_bit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Two trials of real runs, the best one by its own command: catches any setting that the recipe forgets."""
    assert tuned(monkeypatch, Here(), words("trials=2", "seeds=0")) == exit_codes.FINISHED
    command = capsys.readouterr().out.splitlines()[-1]
    best = max(rows(), key=lambda row: float(row["value"]))
    given = command.removeprefix("next: python -m dsac.train ").split()
    assert train.main(given) == exit_codes.FINISHED
    _, value = find_runs.last_evaluation(only_run(Path("runs")) / "learner-0" / "metrics.csv")
    assert repr(value) == best["value"]


def test_half_a_line_is_no_evaluation(tmp_path: Path):
    """Catches a return of 9 that is the beginning of 9350.2, and a value that forgets a seed or an outlier's cut."""
    path = tmp_path / "metrics.csv"
    path.write_text(
        "env_steps,updates,wall_time,tag,value\n70,1,1.0,eval/return,5.5\n70,1,1.0,train/q,1.0\n134,1,2.0,eval/return,9"
    )
    assert curve(path, 64, 256) == {64: 5.5}
    assert curve(tmp_path / "none.csv", 64, 256) == {}
    assert objective([[0.0, 2.0], [3.0], [1000.0]]) == 2.5
    assert best_of([]) is None


def test_seeds_of_the_sampler_follow_the_trial(tmp_path: Path):
    """Catches a sampler that draws the same settings again after each start."""
    _, job = prepare(words(), tune_command.TuneConfig)
    drawn = []
    for _ in range(4):
        study = Study(tmp_path / "s", job.space, "random", "none", job.record)
        drawn.append(study.settings(study.ask())["algo.learning_rate"])
        study.close()
    assert len(set(drawn)) == 4
    assert isinstance(job, Job)


def test_the_command_itself_is_never_given_up(tmp_path: Path):
    """Catches a gain that cannot be told, since the first trial was stopped on the way."""
    _, job = prepare(words(), tune_command.TuneConfig)
    study = Study(tmp_path / "s", job.space, "random", "median", job.record)
    assert study.begin_with(job.base_settings()) == []
    base, *others, last = [study.ask() for _ in range(7)]
    for trial in others:
        assert not study.report(trial, {64: 10.0})
        study.complete(trial, 10.0, [10.0])
    assert study.report(last, {64: 1.0})
    assert not study.report(base, {64: 1.0})
    study.close()
