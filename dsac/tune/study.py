"""The study of a tuning: what to try next, which trials to give up, what came of each. Only this imports Optuna.

A study is a folder: journal.log is Optuna's, one line an event, flushed to the disk; study.json says what was asked.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsac.errors import ConfigError
from dsac.persistence.lock import RunLock
from dsac.schema import files
from dsac.schema.validate import lists, shown
from dsac.tune.search_space import Choices, Range, Space
from dsac.tune.study_record import remember

JOURNAL = "journal.log"
LOCK_SECONDS = 2.0
COMPLETE, PRUNED, FAILED, OPEN = "complete", "pruned", "failed", "open"
STARTUP_TRIALS = 5  # complete ones before the sampler and the pruner have something to go by
ENOUGH_FOR_IMPORTANCE = 5
TOP = 0.25  # importance: what makes a trial one of the best quarter


@dataclass(frozen=True)
class Trial:
    """A trial and what has become of it.

    settings  each field's value as one types it
    value     the objective; of a pruned trial the last report
    scores    the final return of each seed
    reports   the objective by env steps
    base      whether its settings are those of the command's own settings
    code      the exit code of a failed run
    """

    number: int
    state: str
    settings: dict[str, str]
    value: float | None
    scores: tuple[float, ...]
    reports: dict[int, float]
    base: bool
    error: str = ""
    code: int = 0


class Study:
    """A study in its folder, held by this process until it is closed.

    record: what decides the search, as plain data; an earlier study of this name must have been asked the same.
    Raises ConfigError where it was not, and where Optuna is missing, Locked where another process holds it.
    """

    def __init__(self, folder: Path, space: Space, sampler: str, pruner: str, record: Mapping[str, Any]) -> None:
        self.optuna, self.folder, self.space, self.sampler = optuna_module(), folder, space, sampler
        files.make_own_folder(folder)
        self.stack = ExitStack()
        self.stack.enter_context(closing(RunLock(folder, LOCK_SECONDS)))
        try:
            remember(folder, record)
            self.study = self.open_study(pruner)
        except BaseException:
            self.close()
            raise
        self.asked = len(self.trials())

    def open_study(self, pruner: str) -> Any:
        """Optuna's study, from its journal where there is one."""
        path = self.folder / JOURNAL
        mend(path)
        path.with_name(f"{JOURNAL}.lock").unlink(missing_ok=True)  # of a process that was killed: we hold the folder
        from optuna.storages.journal import JournalFileBackend

        storage = self.optuna.storages.JournalStorage(JournalFileBackend(str(path)))
        pruners = self.optuna.pruners
        made = {
            "median": lambda: pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS),
            "halving": pruners.SuccessiveHalvingPruner,
            "none": pruners.NopPruner,
        }[pruner]()
        return self.optuna.create_study(
            storage=storage, study_name=self.folder.name, direction="maximize", pruner=made, load_if_exists=True
        )

    def begin_with(self, base: Mapping[str, Any]) -> list[str]:
        """Have the first trial take the settings of the command's own settings, unless there was one.

        The fields whose value lies outside of the space; where there are any, there is no such trial.
        """
        outside = [key for key, part in self.space.items() if not part.holds(base[key])]
        if not outside and not self.asked:
            settings = {key: drawn(part, base[key]) for key, part in self.space.items()}
            self.study.enqueue_trial(settings, user_attrs={"base": True}, skip_if_exists=True)
        return outside

    def ask(self) -> Any:
        """The next trial, open from now on: Optuna's own, for the other calls."""
        samplers = self.optuna.samplers
        # Its seed is the trial's number, so that a study that was stopped draws what it would have drawn.
        seed = self.asked
        self.study.sampler = {
            "tpe": lambda: samplers.TPESampler(n_startup_trials=STARTUP_TRIALS, constant_liar=True, seed=seed),
            "random": lambda: samplers.RandomSampler(seed=seed),
        }[self.sampler]()
        trial = self.study.ask()
        self.asked = trial.number + 1
        return self.drawn(trial)

    def drawn(self, trial: Any) -> Any:
        """The trial with a value for every field; those that it has, also from before a kill, stay."""
        for key, part in self.space.items():
            if isinstance(part, Choices):
                trial.suggest_categorical(key, part.words)
            elif part.whole:
                trial.suggest_int(key, int(part.low), int(part.high), step=int(part.step or 1), log=part.log)
            else:
                trial.suggest_float(key, part.low, part.high, step=part.step, log=part.log)
        return trial

    def reopened(self) -> list[Any]:
        """The trials that were open when the process before this one ended."""
        running = [self.optuna.trial.TrialState.RUNNING]
        found = self.study.get_trials(deepcopy=False, states=running)
        return [self.drawn(self.optuna.trial.Trial(self.study, trial._trial_id)) for trial in found]

    def settings(self, trial: Any) -> dict[str, str]:
        """Each field's value as one types it."""
        return {key: part.word(trial.params[key]) for key, part in self.space.items()}

    def report(self, trial: Any, reports: Mapping[int, float]) -> bool:
        """Note the objective at these env steps; whether the trial is to be given up. The base trial never is."""
        known = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        for env_steps, value in sorted(reports.items()):
            if env_steps not in known:
                trial.report(value, env_steps)
        return bool(trial.should_prune()) and not trial.user_attrs.get("base")

    def complete(self, trial: Any, value: float, scores: Sequence[float]) -> None:
        """Close a trial with its objective and the final return of each seed."""
        trial.set_user_attr("scores", list(scores))
        self.study.tell(trial, value)

    def prune(self, trial: Any) -> None:
        """Close a trial that is not worth its end."""
        self.study.tell(trial, state=self.optuna.trial.TrialState.PRUNED)

    def fail(self, trial: Any, error: str, code: int) -> None:
        """Close a trial of which a run failed."""
        trial.set_user_attr("error", error)
        trial.set_user_attr("code", code)
        self.study.tell(trial, state=self.optuna.trial.TrialState.FAIL)

    def trials(self) -> list[Trial]:
        """Every trial that was asked for, in order."""
        kinds = self.optuna.trial.TrialState
        states = {kinds.COMPLETE: COMPLETE, kinds.PRUNED: PRUNED, kinds.FAIL: FAILED, kinds.RUNNING: OPEN}
        return [
            Trial(
                number=trial.number,
                state=states[trial.state],
                settings={key: part.word(trial.params[key]) for key, part in self.space.items() if key in trial.params},
                value=trial.value if trial.state != kinds.FAIL else None,
                scores=tuple(trial.user_attrs.get("scores", ())),
                reports=dict(sorted(trial.intermediate_values.items())),
                base=trial.user_attrs.get("base", False),
                error=trial.user_attrs.get("error", ""),
                code=trial.user_attrs.get("code", 0),
            )
            for trial in self.study.get_trials(deepcopy=False)
            if trial.state in states
        ]

    def importance(self) -> dict[str, float]:
        """Each field's share in what makes a trial one of the best quarter, after PED-ANOVA (arXiv 2304.10255).

        Empty where fewer than five trials are complete, or no quarter of them stands out.
        """
        complete = [trial for trial in self.trials() if trial.state == COMPLETE]
        if len(complete) < ENOUGH_FOR_IMPORTANCE:
            return {}
        evaluator = self.optuna.importance.PedAnovaImportanceEvaluator(target_quantile=TOP)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            try:
                return dict(self.optuna.importance.get_param_importances(self.study, evaluator=evaluator))
            except UserWarning:  # the best quarter is all of them: their values are equal
                return {}

    def close(self) -> None:
        """Let the folder go."""
        self.stack.close()


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The complete trial of the highest objective, the first of equals; None before there is one."""
    complete = [trial for trial in trials if trial.state == COMPLETE and trial.value is not None]
    return max(complete, key=lambda trial: (trial.value, -trial.number), default=None)


def drawn(part: Range | Choices, value: Any) -> Any:
    """A value of a field as Optuna keeps it."""
    return shown(lists(value)) if isinstance(part, Choices) else value


def optuna_module() -> Any:
    """Optuna, silent: what it has to say is said by the commands. Raises ConfigError where it is missing."""
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("Optuna is not installed: pip install 'dsac[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def mend(path: Path) -> None:
    """Make a journal where there is none, and cut off the half line that a kill may leave at the end of one.

    What follows half a line could not be read. Optuna would follow a link in its place, which is unlinked here.
    """
    with files.append(path) as file:
        file.seek(0)
        text = file.readall()
        file.truncate(text.rfind(b"\n") + 1)
