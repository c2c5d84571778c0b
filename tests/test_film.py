"""Films: drawn without a display, played again, and no influence on what they show."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import assert_same, final_state, lasting_rows, small_config, small_words, train_whole
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import envs
from dsac import evaluate
from dsac.callbacks import evaluator
from dsac.cli import exit_codes
from dsac.errors import NoRenderer
from dsac.evaluation import film
from dsac.persistence.policies import load_policy
from dsac.train import main

POLE = "env=InvertedDoublePendulum"


@pytest.fixture(scope="module")
def renderer() -> str:
    """The renderer that draws here; the test is skipped where none does."""
    pytest.importorskip("av", reason="the extra `video` is not installed")
    try:
        return film.choose_renderer()
    except NoRenderer as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the double pendulum, to look at."""
    return train_whole(small_config(tmp_path_factory.mktemp("run"), "ppo", POLE))


def pictures(path: Path) -> np.ndarray:
    """The frames of a film (frames, height, width, 3)."""
    import av

    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_a_film_shows_the_episode(renderer: str, run: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a film that is black, stands still, lacks frames or cannot be opened."""
    capsys.readouterr()
    assert evaluate.main([f"run={run}", "episodes=2", "video=true"]) == exit_codes.FINISHED
    path = run / "learner-0" / "best.mp4"
    assert f"film: {path}" in capsys.readouterr().out
    shown = pictures(path)
    env = envs.make("InvertedDoublePendulum", 2, 0, action_units="env")
    steps = sum(1 for _ in film.episode(load_policy(run), env, 1_000_000))
    seconds = steps * env.spec.dt
    env.close()
    assert shown.shape[1:] == (480, 640, 3)
    assert len(shown) == pytest.approx(seconds * film.FRAMES_PER_SECOND, abs=2)
    assert all(frame.std() > 3 for frame in shown)
    assert np.abs(shown[0].astype(int) - shown[-1]).max() > 50


def test_filming_does_not_change_scores(renderer: str, run: Path):
    """Catches a film whose episode is one of those scored, or that moves their resets."""
    plain, filmed = (evaluate(run, episodes=3, video=video) for video in (False, True))
    assert plain["returns"] == filmed["returns"]
    assert plain["film"] is None


def test_best_policies_are_filmed_into_tensorboard_and_training_goes_on_as_it_would(renderer: str, tmp_path: Path):
    """Catches a film that disturbs training or its scores, that is missing, stands still or is too large."""
    from PIL import Image

    plain = train_whole(small_config(tmp_path / "plain", "sac", POLE))
    filmed = train_whole(small_config(tmp_path / "filmed", "sac", POLE, "eval.video=true"))
    assert_same(final_state(filmed), final_state(plain))
    assert lasting_rows(filmed) == lasting_rows(plain)
    curves = EventAccumulator(str(filmed / "learner-0"), size_guidance={"images": 0})
    curves.Reload()
    films = curves.Images("eval/film")
    assert films[0].step == 64
    for shown in films:
        assert len(shown.encoded_image_string) < 500_000
        with Image.open(io.BytesIO(shown.encoded_image_string)) as image:
            assert (image.format, image.size) == ("GIF", film.GIF_SIZE)
            assert np.asarray(image.convert("L")).std() > 5


def test_a_film_is_no_longer_than_ten_seconds(renderer: str):
    """Catches an event file that grows by a whole episode with each best policy."""
    from PIL import Image

    env = envs.make("HalfCheetah", 1, 0, action_units="env", max_episode_steps=400)  # 20 s of simulated time

    shown = film.gif(lambda obs: obs[:, : env.spec.action_dim], env, 0)
    env.close()
    with Image.open(io.BytesIO(shown)) as image:
        durations = []
        for index in range(image.n_frames):
            image.seek(index)
            durations.append(image.info["duration"])
    assert sum(durations) == pytest.approx(10_000, abs=200)


def test_a_driver_that_fails_later_costs_no_run(
    renderer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Catches hours of training lost to a picture."""

    def fails(*_: Any) -> bytes:
        raise RuntimeError("the display went away")

    monkeypatch.setattr(evaluator.film, "gif", fails)
    train_whole(small_config(tmp_path, "ppo", "eval.video=true"))
    assert "warning: no film at 64 env steps: the display went away" in capsys.readouterr().err


def test_where_nothing_draws_a_line_says_what_to_install(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Catches a traceback from a driver, a folder that is made first, and a choice of the user's passed over."""
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(film, "PROBE", "raise SystemExit(1)")
    capsys.readouterr()
    assert evaluate.main([f"run={run}", "video=true"]) == exit_codes.USAGE
    said = "error: no film: neither EGL nor OSMesa draws here; on Debian or Ubuntu install libegl1 (GPU) or libosmesa6"
    assert capsys.readouterr().err.strip() == said
    assert main(small_words(tmp_path / "runs", "ppo", "eval.video=true")) == exit_codes.USAGE
    assert said in capsys.readouterr().err.splitlines()
    assert not (tmp_path / "runs").exists()
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    with pytest.raises(NoRenderer, match="MUJOCO_GL=glfw does not draw here"):
        film.choose_renderer()


def test_a_task_without_a_simulator_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a task of another simulator that fails at its first best policy."""
    words = [word for word in small_words(tmp_path / "runs", "sac") if not word.startswith("env=")]
    assert main([*words, "env=gymnasium", "env.id=Pendulum-v1", "eval.video=true"]) == exit_codes.USAGE
    assert "Pendulum-v1 has no MuJoCo simulator to draw" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_renderer_can_be_chosen_after_mujoco_was_imported(renderer: str):
    """Catches a film after training in one process, where MuJoCo has read MUJOCO_GL already."""
    code = (
        "import mujoco\nfrom dsac.evaluation import film\nfilm.choose_renderer()\n"
        "model = mujoco.MjModel.from_xml_string('<mujoco/>')\nmujoco.Renderer(model, 8, 8).render()"
    )
    environment = {key: value for key, value in os.environ.items() if key not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
