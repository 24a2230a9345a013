"""Environments for reinforcement learning: MuJoCo tasks of Gymnasium, their slippery variants, and discrete actions.

Needs the optional package gymnasium, with mujoco, box2d or minatar for what is theirs; importing this package does not.
Where Gymnasium is installed, `lop/SlipperyAnt-v5`, `lop/SlipperyHopper-v5`, `lop/SlipperyWalker2d-v5` (and -v4) are
registered with it, and MinAtar's games as `lop/SpaceInvaders-v0` and so on.
"""

from lop.envs import minatar, slippery

slippery.register_all()
minatar.register_all()
