"""Films of a policy and a live view of it: MuJoCo's own renderer on the worlds that evaluation runs.

Without a display a film needs EGL or OSMesa: `choose_renderer` comes before the first picture.
"""

from __future__ import annotations

import importlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dsac.errors import NoRenderer
from dsac.nn.policy import Policy
from dsac.schema import files
from dsac.seeding import derived_seed
from envs.contract import VecEnv
from envs.system import RENDERERS

FRAMES_PER_SECOND = 30
GIF_SIZE, GIF_FRAMES_PER_SECOND, GIF_SECONDS = (240, 180), 10, 10
MISSING_EXTRA = "no film: the extra is missing; pip install -e '.[video]'"
NEITHER = "neither EGL nor OSMesa draws"
PROBE = "import mujoco; mujoco.GLContext(8, 8).make_current()"


def choose_renderer() -> str:
    """Set MUJOCO_GL to the first of EGL and OSMesa that draws, unless it is set. Raises NoRenderer.

    Each is tried in a process of its own: a renderer that fails may take the process with it.
    """
    for name in [os.environ["MUJOCO_GL"]] if "MUJOCO_GL" in os.environ else RENDERERS:
        environment = {**os.environ, "MUJOCO_GL": name}
        probe = subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True, check=False)
        if probe.returncode == 0:
            os.environ["MUJOCO_GL"] = name
            read_renderer_again()
            return name
    tried = f"MUJOCO_GL={os.environ['MUJOCO_GL']} does not draw" if "MUJOCO_GL" in os.environ else NEITHER
    raise NoRenderer(f"no film: {tried} here; on Debian or Ubuntu install libegl1 (GPU) or libosmesa6")


def read_renderer_again() -> None:
    """Make a MuJoCo that is already imported follow MUJOCO_GL, which it reads at its import only."""
    if "mujoco" in sys.modules:
        renderer = sys.modules[sys.modules["mujoco"].Renderer.__module__]
        importlib.reload(renderer.gl_context)


@torch.no_grad()
def episode(policy: Policy, env: VecEnv, seed: int) -> Iterator[tuple[Any, Any]]:
    """Play one episode in world 0 of `env` (actions in the task's units), from the reset that `seed` decides.

    Yields the simulator's (model, data) before the first step and after each, the last one excepted where the world
    was already reset. Raises UnsuitableEnvironment where the task has no MuJoCo simulator.
    """
    obs = env.reset(derived_seed(seed, "evaluation"))
    for _ in range(env.spec.longest_episode):
        yield env.simulator(0)
        step = env.step(policy(torch.from_numpy(obs)).numpy())
        if step.terminated[0] or step.truncated[0]:
            return
        obs = step.obs


def frames(
    policy: Policy,
    env: VecEnv,
    seed: int,
    size: tuple[int, int] = (640, 480),
    frames_per_second: int = FRAMES_PER_SECOND,
) -> Iterator[np.ndarray]:
    """Pictures (height, width, 3) uint8 of one episode, so many a second of simulated time; size (width, height)."""
    import mujoco

    (width, height), renderer, shown = size, None, 0
    try:
        for model, data in episode(policy, env, seed):
            if renderer is None:
                model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
                model.vis.global_.offheight = max(model.vis.global_.offheight, height)
                renderer, camera = mujoco.Renderer(model, height, width), view(model, data)
            due = 1 + int(data.time * frames_per_second + 1e-6)
            if due > shown:
                renderer.update_scene(data, camera)
                yield from [renderer.render()] * (due - shown)  # again where the task's steps are longer
                shown = due
    finally:
        if renderer is not None:
            renderer.close()


def view(model: Any, data: Any) -> Any:
    """The model's camera "track", or its first, or one that follows a robot or, where it is fixed, frames it."""
    import mujoco

    if mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, "track") >= 0:
        return "track"
    if model.ncam:
        return 0
    camera = mujoco.MjvCamera()
    mujoco.mjv_defaultFreeCamera(model, camera)
    if model.nbody > 1 and model.body_dofnum[1] >= 2:
        camera.type, camera.trackbodyid = mujoco.mjtCamera.mjCAMERA_TRACKING, 1
        camera.distance, camera.elevation, camera.azimuth = 1.2 * model.stat.extent, -15, 90
    else:
        parts = np.flatnonzero(model.geom_bodyid > 0)  # MuJoCo's own centre and extent count the floor
        camera.lookat[:] = data.geom_xpos[parts].mean(0)
        distances = np.linalg.norm(data.geom_xpos[parts] - camera.lookat, axis=1)
        camera.distance = 4 * (distances + model.geom_rbound[parts]).max()
    return camera


def write_mp4(path: Path, pictures: Iterator[np.ndarray]) -> int:
    """Write pictures as an H.264 film, which appears when it is whole; the number of frames.

    Raises NoRenderer without the extra `video`.
    """
    try:
        import av
    except ImportError as error:
        raise NoRenderer(MISSING_EXTRA) from error
    count, unfinished = 0, path.with_name(f".{path.name}")
    with os.fdopen(files.create(unfinished), "wb") as file, av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            if count == 0:
                stream.height, stream.width = picture.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            count += 1
        container.mux(stream.encode())
    unfinished.replace(path)
    return count


def check(env: VecEnv) -> None:
    """Be ready for `gif`. Raises NoRenderer, UnsuitableEnvironment where the task has no MuJoCo simulator."""
    env.simulator(0)
    choose_renderer()
    pillow_image()


def gif(policy: Policy, env: VecEnv, seed: int) -> bytes:
    """A small animated GIF of the first GIF_SECONDS of an episode. Raises NoRenderer without the extra `video`."""
    pillow = pillow_image()
    pictures = islice(frames(policy, env, seed, GIF_SIZE, GIF_FRAMES_PER_SECOND), GIF_SECONDS * GIF_FRAMES_PER_SECOND)
    first, *others = [pillow.fromarray(picture) for picture in pictures]
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=1000 // GIF_FRAMES_PER_SECOND, loop=0)
    return buffer.getvalue()


def pillow_image() -> Any:
    """Pillow's Image. Raises NoRenderer without the extra `video`."""
    try:
        from PIL import Image
    except ImportError as error:
        raise NoRenderer(MISSING_EXTRA) from error
    return Image


def watch(policy: Policy, env: VecEnv, seed: int) -> None:
    """Show episodes in MuJoCo's viewer, in real time, until its window is closed."""
    import mujoco.viewer

    viewer, round_ = None, 0
    try:
        while viewer is None or viewer.is_running():
            for model, data in episode(policy, env, seed + round_):
                if viewer is None:
                    viewer = mujoco.viewer.launch_passive(model, data)
                if not viewer.is_running():
                    return
                viewer.sync()
                time.sleep(env.spec.dt)
            round_ += 1
    finally:
        if viewer is not None:
            viewer.close()
