"""Advantages of a rollout."""

import numpy as np


def advantages(
    rewards: np.ndarray,
    values: np.ndarray,
    next_values: np.ndarray,
    ended: np.ndarray,
    discount: float,
    gae_lambda: float,
) -> np.ndarray:
    """Generalised advantage estimation (Schulman 2016). All arrays (steps, envs); returns float64 of that shape.

    next_values: the value of the state that each step led to: 0 where it was terminal, that of the episode's last
    observation where the time limit cut it, that of the next observation acted on otherwise. ended: whether the
    episode ended with the step, for either reason; the sum of later errors stops there.
    """
    errors = rewards + discount * next_values.astype(np.float64) - values
    carry = discount * gae_lambda * ~ended
    found = np.empty_like(errors)
    following = np.zeros(errors.shape[1])
    for t in reversed(range(len(errors))):
        following = errors[t] + carry[t] * following
        found[t] = following
    return found
