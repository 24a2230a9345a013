"""A trained policy, seen: one rollout as an animation."""

from __future__ import annotations

import base64
import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lop.config import Config
from lop.experiment import build
from lop.rl.acting import ActingStream
from lop.rl.rollout import Rollouts
from lop.runs import checkpoint
from lop.utils.errors import UserError

FRAMES_PER_SECOND = 20


@dataclass
class Film:
    """frames: uint8 (height, width, 3) each; total: the undiscounted return; shows itself in a notebook."""

    frames: list[np.ndarray]
    total: float
    steps: int

    def gif(self) -> bytes:
        """An endless animation."""
        buffer = io.BytesIO()
        first, *rest = [Image.fromarray(frame) for frame in self.frames]
        first.save(buffer, format="GIF", save_all=True, append_images=rest, duration=1000 // FRAMES_PER_SECOND, loop=0)
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        source = f"data:image/gif;base64,{base64.b64encode(self.gif()).decode()}"
        return f'<img src="{source}" alt="rollout"><br>return {self.total:.0f} in {self.steps} steps'


def film(folder: str | Path, *, seconds: float = 4.0, size: int = 240, seed: int = 0) -> Film:
    """One episode, at most so many seconds of simulated time, of a run's policy as its checkpoint has it.

    Actions are the policy's means. Raises UserError where the folder has no checkpoint of a reinforcement learning
    run, and where nothing here can render.
    """
    path = Path(folder) / "checkpoint.pt"
    if not path.exists():
        raise UserError(f"{folder}: no checkpoint here; give the folder of a reinforcement learning run")
    config, state = Config.model_validate_json((Path(folder) / "config.json").read_text()), checkpoint.load(path)
    if "rollouts" not in state.get("stream", {}):
        raise UserError(f"{folder}: not a reinforcement learning run")
    config.run.device = "cpu"
    experiment = build(config)
    experiment.learner.net.load_state_dict(state["learner"]["net"])
    experiment.stream.load_state_dict(state["stream"])
    stream = experiment.stream
    assert isinstance(stream, ActingStream)  # its state has rollouts
    rollouts = stream.rollouts
    _choose_renderer()
    env = rollouts.pool.filmed(size)
    try:
        return _play(env, rollouts, seconds, seed)
    finally:
        env.close()


def _play(env, rollouts: Rollouts, seconds: float, seed: int) -> Film:
    rate = env.metadata["render_fps"]
    every = max(1, round(rate / FRAMES_PER_SECOND))
    observation, frames, total, steps = env.reset(seed=seed)[0], [], 0.0, 0
    rollouts.pool.make_alike(env)
    while steps < seconds * rate:
        if steps % every == 0:
            frames.append(_frame(env))
        observation, reward, terminated, truncated, _ = env.step(rollouts.best_action(observation))
        total, steps = total + float(reward), steps + 1
        if terminated or truncated:
            break
    return Film(frames, total, steps)


def _choose_renderer() -> None:
    """Without a screen, MuJoCo must be told to render off it; it reads the choice from the environment."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("MUJOCO_GL", "egl")


def _frame(env) -> np.ndarray:
    try:
        return env.render()
    except Exception as error:  # whatever a missing graphics driver raises
        reason = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        raise UserError(f"nothing here can render ({reason}); set MUJOCO_GL to egl or osmesa") from None
