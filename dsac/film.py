"""Films of a policy and a live view of it: MuJoCo's own renderer on the worlds that evaluation runs.

Without a display a film needs EGL or OSMesa; MuJoCo reads MUJOCO_GL once, when it is first imported, so
`choose_renderer` comes before anything that imports it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dsac.data import derived_seed
from dsac.policy import Policy
from envs.contract import UnsuitableEnvironment, VecEnv

RENDERERS = ("egl", "osmesa")
FRAMES_PER_SECOND = 30
PROBE = "import mujoco; mujoco.GLContext(8, 8).make_current()"


class NoRenderer(RuntimeError):
    """Nothing on this machine can draw; the message names what to install."""


def choose_renderer() -> str:
    """Set MUJOCO_GL to the first of EGL and OSMesa that draws, unless it is set. Raises NoRenderer.

    Each is tried in a process of its own: a renderer that fails may take the process with it.
    """
    for name in [os.environ["MUJOCO_GL"]] if "MUJOCO_GL" in os.environ else RENDERERS:
        environment = {**os.environ, "MUJOCO_GL": name}
        probe = subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True, check=False)
        if probe.returncode == 0:
            os.environ["MUJOCO_GL"] = name
            return name
    raise NoRenderer(
        "no film: neither EGL nor OSMesa draws here; on Debian or Ubuntu install libegl1 (GPU) or libosmesa6"
    )


@torch.no_grad()
def episode(policy: Policy, env: VecEnv, seed: int) -> Iterator[tuple[Any, Any]]:
    """Play one episode in world 0 of `env` (actions in the task's units), from the reset that `seed` decides.

    Yields the simulator's (model, data) before the first step and after each, the last one excepted where the world
    was already reset. Raises UnsuitableEnvironment where the task has no MuJoCo simulator.
    """
    obs = env.reset(derived_seed(seed, "evaluation"))
    while True:
        yield env.simulator(0)
        step = env.step(policy(torch.from_numpy(obs)).numpy())
        if step.terminated[0] or step.truncated[0]:
            return
        obs = step.obs


def frames(policy: Policy, env: VecEnv, seed: int, width: int = 640, height: int = 480) -> Iterator[np.ndarray]:
    """Pictures (height, width, 3) uint8 of one episode, FRAMES_PER_SECOND a second of simulated time."""
    import mujoco

    renderer, drawn = None, -np.inf
    try:
        for model, data in episode(policy, env, seed):
            if renderer is None:
                model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
                model.vis.global_.offheight = max(model.vis.global_.offheight, height)
                renderer, camera = mujoco.Renderer(model, height, width), view(model)
            if data.time - drawn < 1 / FRAMES_PER_SECOND - 1e-9:
                continue
            drawn = data.time
            renderer.update_scene(data, camera)
            yield renderer.render()
    finally:
        if renderer is not None:
            renderer.close()


def view(model: Any) -> Any:
    """The model's camera "track" where it has one, else one that follows its first body from the side."""
    import mujoco

    if mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, "track") >= 0:
        return "track"
    camera = mujoco.MjvCamera()
    mujoco.mjv_defaultFreeCamera(model, camera)
    moves = model.nbody > 1 and model.body_dofnum[1] >= 2
    if moves:
        camera.type, camera.trackbodyid = mujoco.mjtCamera.mjCAMERA_TRACKING, 1
        camera.distance, camera.elevation, camera.azimuth = 1.2 * model.stat.extent, -15, 90
    return camera


def write_mp4(path: Path, pictures: Iterator[np.ndarray]) -> int:
    """Write pictures as an H.264 film; the number of frames. Raises NoRenderer without the extra `video`."""
    try:
        import av
    except ImportError as error:
        raise NoRenderer("no film: the extra is missing; pip install -e '.[video]'") from error
    count = 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            stream.height, stream.width = picture.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            count += 1
        container.mux(stream.encode())
    return count


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


def supports_films(env: VecEnv) -> bool:
    """Whether the task has a MuJoCo simulator to draw."""
    try:
        env.simulator(0)
    except UnsuitableEnvironment:
        return False
    return True
