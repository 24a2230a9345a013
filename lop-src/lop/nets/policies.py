"""What a policy's outputs mean: a distribution over actions in each state of a batch."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

from torch import Tensor
from torch.nn import functional as F


class Policy(Protocol):
    """A named tuple of tensors: one distribution per state of a batch."""

    def log_prob(self, actions: Tensor) -> Tensor: ...

    def entropy(self) -> Tensor: ...

    def kl(self, other: Any) -> Tensor: ...

    def spread(self) -> dict[str, Tensor]: ...

    def _asdict(self) -> dict[str, Any]: ...


class Gaussian(NamedTuple):
    """Independent Gaussians for vectors of n real actions. mean: (batch, n); log_std: (n,), the same in every state."""

    mean: Tensor
    log_std: Tensor

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-density of actions (batch, n). -> (batch,)."""
        return gaussian_log_prob(actions, self.mean, self.log_std)

    def entropy(self) -> Tensor:
        """Without its constant, n (1 + log 2 pi) / 2, which has no gradient. -> ()."""
        return self.log_std.sum()

    def kl(self, other: Gaussian) -> Tensor:
        """Mean over the batch of KL(self, other). -> ()."""
        return gaussian_kl(*self, *other)

    def spread(self) -> dict[str, Tensor]:
        """How much it explores, by its column in the tables."""
        return {"action_std": self.log_std.exp().mean()}


class Categorical(NamedTuple):
    """One of n actions. log_p: normalised log-probabilities (batch, n)."""

    log_p: Tensor

    @classmethod
    def of_logits(cls, logits: Tensor) -> Categorical:
        """logits: (batch, n), any number added to a row makes no difference."""
        return cls(F.log_softmax(logits, dim=1))

    def log_prob(self, actions: Tensor) -> Tensor:
        """actions: (batch,), int64. -> (batch,)."""
        return self.log_p.gather(1, actions[:, None])[:, 0]

    def entropy(self) -> Tensor:
        """Mean over the batch, in nats. -> ()."""
        return -(self.log_p.exp() * self.log_p).sum(1).mean()

    def kl(self, other: Categorical) -> Tensor:
        """Mean over the batch of KL(self, other), in nats. -> ()."""
        return (self.log_p.exp() * (self.log_p - other.log_p)).sum(1).mean()

    def spread(self) -> dict[str, Tensor]:
        return {"policy_entropy": self.entropy()}


def gaussian_log_prob(actions: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log-density of actions (batch, n) under independent Gaussians; mean (batch, n), log_std (n,). -> (batch,)."""
    z = (actions - mean) * (-log_std).exp()
    return -0.5 * z.square().sum(1) - log_std.sum() - 0.5 * math.log(2 * math.pi) * actions.shape[1]


def gaussian_kl(mean_p: Tensor, log_std_p: Tensor, mean_q: Tensor, log_std_q: Tensor) -> Tensor:
    """Mean over the batch of KL(p, q) of two diagonal Gaussian policies; means (batch, n), log_stds (n,). -> ()."""
    ratio = (2 * (log_std_p - log_std_q)).exp()
    distance = ((mean_p - mean_q) * (-log_std_q).exp()).square()
    return (0.5 * (ratio + distance - 1) - (log_std_p - log_std_q)).sum(1).mean()
