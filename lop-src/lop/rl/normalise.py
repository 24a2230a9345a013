"""Running mean and variance, for observations and rewards on scales that a net does not like."""

import numpy as np
import torch

CLIP = 10.0


class RunningScale:
    """Mean and variance of all vectors seen so far, by Gymnasium's RunningMeanStd, in float64.

    That one begins with a made-up observation of weight 1e-4, which is left out here.
    """

    def __init__(self, size: int):
        from gymnasium.wrappers.utils import RunningMeanStd

        self._running = RunningMeanStd(epsilon=0, shape=(size,))

    def update(self, batch: np.ndarray) -> None:
        """batch: (n, size)."""
        self._running.update(np.asarray(batch, np.float64))  # whose own means would be in the batch's precision

    @property
    def mean(self) -> np.ndarray:
        return self._running.mean

    @property
    def variance(self) -> np.ndarray:
        return self._running.var

    @property
    def deviation(self) -> np.ndarray:
        return np.sqrt(self.variance + 1e-8)

    def normalise(self, values: np.ndarray) -> np.ndarray:
        """To mean 0, variance 1, clipped to +-10; float32."""
        return np.clip((values - self.mean) / self.deviation, -CLIP, CLIP).astype(np.float32)

    def rescale(self, values: np.ndarray) -> np.ndarray:
        """To variance 1, the mean left alone, clipped to +-10; for size 1."""
        return np.clip(values / self.deviation[0], -CLIP, CLIP)

    def state_dict(self) -> dict:
        tensors = {"mean": torch.from_numpy(self.mean.copy()), "variance": torch.from_numpy(self.variance.copy())}
        return {"count": self._running.count, **tensors}

    def load_state_dict(self, state: dict) -> None:
        self._running.count = state["count"]
        self._running.mean, self._running.var = state["mean"].numpy().copy(), state["variance"].numpy().copy()
