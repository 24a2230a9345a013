"""MinAtar's games (Young & Tian 2019) as Gymnasium environments whose chance is Gymnasium's generator.

Those that the package registers by itself keep a generator of their own, out of reach of a checkpoint.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np

from lop.envs.slippery import gymnasium
from lop.utils.errors import UserError

GAMES = {
    "Asterix": "asterix",
    "Breakout": "breakout",
    "Freeway": "freeway",
    "Seaquest": "seaquest",
    "SpaceInvaders": "space_invaders",
}
PIXEL = 16  # of the rendered image, per cell of the game

_Env: Any = gymnasium.Env if gymnasium else object


class MinAtarGame(_Env):
    """Observations: (10, 10, channels) of 0 and 1; actions: all six, in every game.

    sticky_action_prob: with it the last action is done again instead (0.1, as published); difficulty_ramping: as the
    package has it. Each episode is a function of the generator at its reset and of the actions.

    Raises UserError where the package minatar is not installed.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012 (Gymnasium's own declaration)

    def __init__(
        self,
        game: str,
        *,
        sticky_action_prob: float = 0.1,
        difficulty_ramping: bool = True,
        render_mode: str | None = None,
    ):
        try:
            minatar = sys.modules.get("minatar") or importlib.import_module("minatar")
        except ImportError:
            raise UserError('MinAtar\'s games need the package minatar: pip install "lop[minatar]"') from None
        self.render_mode = render_mode
        self._game = minatar.Environment(game, sticky_action_prob, difficulty_ramping)
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, tuple(self._game.state_shape()), np.float32)
        self.action_space = gymnasium.spaces.Discrete(self._game.num_actions())

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self._game.seed(int(self.np_random.integers(2**31)))
        self._game.last_action = 0
        self._game.reset()
        return self._game.state().astype(np.float32), {}

    def step(self, action):
        reward, done = self._game.act(int(action))
        return self._game.state().astype(np.float32), float(reward), bool(done), False, {}

    def render(self) -> np.ndarray:
        """The cells in a colour per channel, the last channel on top: uint8 (160, 160, 3)."""
        from matplotlib import colormaps

        state = self._game.state()
        shown = (state * (1 + np.arange(state.shape[-1]))).max(-1)
        colours = np.vstack([np.zeros(3), colormaps["tab10"](np.arange(state.shape[-1]))[:, :3]])
        return (255 * colours[shown]).astype(np.uint8).repeat(PIXEL, 0).repeat(PIXEL, 1)


def register_all() -> None:
    """Register the games with Gymnasium as lop/<Game>-v0, where it is installed."""
    for name, game in GAMES.items():
        if gymnasium is not None and f"lop/{name}-v0" not in gymnasium.registry:
            gymnasium.register(f"lop/{name}-v0", entry_point=MinAtarGame, kwargs={"game": game})
