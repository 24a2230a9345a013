"""Running mean and variance, for observations and rewards on scales that a net does not like."""

import numpy as np
import torch

CLIP = 10.0


class RunningScale:
    """Mean and variance of all vectors seen so far, merged batch by batch (Chan 1979)."""

    def __init__(self, size: int):
        self.count, self.mean, self.variance = 0, np.zeros(size), np.ones(size)

    def update(self, batch: np.ndarray) -> None:
        """batch: (n, size)."""
        n = len(batch)
        mean, variance, total = batch.mean(0, dtype=np.float64), batch.var(0, dtype=np.float64), self.count + n
        difference = mean - self.mean
        spread = self.variance * self.count + variance * n + difference**2 * (self.count * n / total)
        self.mean, self.variance, self.count = self.mean + difference * (n / total), spread / total, total

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
        return {"count": self.count, **tensors}

    def load_state_dict(self, state: dict) -> None:
        self.count = state["count"]
        self.mean, self.variance = state["mean"].numpy().copy(), state["variance"].numpy().copy()
