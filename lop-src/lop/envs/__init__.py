"""Environments for reinforcement learning: MuJoCo tasks of Gymnasium, and their slippery variants.

Needs the optional packages gymnasium and mujoco; importing this package does not. Where Gymnasium is installed,
`lop/SlipperyAnt-v5`, `lop/SlipperyHopper-v5`, `lop/SlipperyWalker2d-v5` (and -v4) are registered with it.
"""

from lop.envs.slippery import register_all

register_all()
