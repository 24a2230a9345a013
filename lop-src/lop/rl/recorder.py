"""Online performance of a policy: returns, losses, and how far the policy moved from where its task began."""

from __future__ import annotations

import torch
from torch import Tensor

from lop.data.stream import Task
from lop.nets.policies import Policy
from lop.rl.episodes import EpisodeRecorder
from lop.rl.ppo import PPOLearner, Rollout, UpdateResult
from lop.training.online import OnlineRecorder


class PolicyRecorder(OnlineRecorder):
    """A batch is a rollout with all its minibatch steps; losses and examples are those of the minibatches.

    reference_size: observations, of the task's first rollout, on which policies are compared.
    """

    def __init__(self, learner: PPOLearner, stream, reference_size: int):
        super().__init__(classification=False)
        self.net, self._stream, self._reference_size = learner.net, stream, reference_size
        self.episodes = EpisodeRecorder()
        self._updates = 0  # since the last bin
        self._start: dict[str, Tensor] = {}  # of the current task

    def start_task(self, task: Task) -> None:
        reference, _ = task.reference(self._reference_size)
        self._start = {"reference": reference, **self._snapshot(reference)}

    @torch.no_grad()
    def _snapshot(self, reference: Tensor) -> dict[str, Tensor]:
        """The policy on the reference observations, and all parameters in one vector."""
        policy = self.net.distribution(self.net.split(self.net(reference))[0])
        fields = {name: tensor.detach().clone() for name, tensor in policy._asdict().items()}
        return {**fields, "parameters": torch.cat([p.detach().flatten() for p in self.net.parameters()])}

    def _policy(self, snapshot: dict[str, Tensor]) -> Policy:
        kind = self.net.policy_kind
        return kind(**{name: snapshot[name] for name in kind._fields})

    def _policy_kl(self, now: dict[str, Tensor]) -> float:
        """How far the policy moved since the task's start: the mean KL divergence on its reference observations."""
        return self._policy(self._start).kl(self._policy(now)).item()

    def record(self, result: UpdateResult, y: Rollout) -> None:
        for step, actions in zip(result.steps, result.actions, strict=True):
            super().record(step, actions)
        self.episodes.record(y.episodes)
        self._updates += 1

    @property
    def pending(self) -> int:
        return self._updates

    def close_bin(self) -> tuple[dict[str, float], int | None]:
        summary, bad = super().close_bin()
        updates, self._updates = self._updates, 0
        summary |= {**self.episodes.close_bin(), "policy_kl": self._policy_kl(self._snapshot(self._start["reference"]))}
        self.performance = "return", summary["return"]
        return summary, None if bad is None else updates  # which of the bin's updates it was is not looked for

    def close_task(self) -> dict[str, float]:
        episodes, now = self.episodes.close_task(), self._snapshot(self._start["reference"])
        return {
            **super().close_task(),
            "online_return": episodes["return"],
            "online_length": episodes["length"],
            "episodes": episodes["episodes"],
            "policy_kl": self._policy_kl(now),
            "weight_change": (now["parameters"] - self._start["parameters"]).abs().mean().item(),
            **{name: value.item() for name, value in self._policy(now).spread().items()},
            **self._stream.world(),
        }

    def state_dict(self) -> dict:
        own = {"episodes": self.episodes.state_dict(), "updates": self._updates, "start": dict(self._start)}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state)
        self.episodes.load_state_dict(state["episodes"])
        self._updates = state["updates"]
        device = next(self.net.parameters()).device
        self._start = {name: tensor.to(device) for name, tensor in state["start"].items()}
