"""The protocol of interventions: what is done to a learner beside its optimizer's update."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from lop.utils.registry import Registry

if TYPE_CHECKING:  # interventions are handed the learner; they never build one
    from lop.data.stream import Task
    from lop.training.learner import Learner


INTERVENTIONS: Registry[type[Intervention]] = Registry("intervention")
intervention = INTERVENTIONS.register
"""Decorator: `@intervention("name")` on an Intervention makes it known by that name."""


@intervention("bp")  # nothing: plain backprop
class Intervention:
    """Every method is optional. Keyword-only, annotated constructor parameters are its options in a config.

    Calls come in this order: `attach` once; per task `start_task`, per epoch `start_epoch`, per step `penalty`
    (inside the closure, so once per forward pass) and `after_step`, then `end_epoch`, `hand_in` before the task's last
    diagnostics and `end_task` after them. Interventions run in the order in which they are listed.
    """

    needs_features = False  # True: `after_step` gets the hidden activations of the step's first forward pass
    learner: Learner

    def attach(self, learner: Learner) -> None:
        """Sees the net's hidden layers and the optimizer; randomness comes from `learner.make_generator(*purpose)`."""
        self.learner = learner

    def start_task(self, task: Task) -> None:
        """Before the task's first diagnostics."""

    def start_epoch(self, task: Task, epoch: int) -> None:
        """Before each pass over the task's data."""

    def penalty(self) -> Tensor | None:
        """A scalar added to the loss, differentiable in the parameters."""

    def after_step(self, features: list[Tensor] | None) -> None:
        """After each update. features: one tensor per hidden layer, or None when no intervention needs them."""

    def end_epoch(self, task: Task, epoch: int) -> None:
        """After each pass over the task's data."""

    def hand_in(self, task: Task) -> None:
        """After the task's last step and before its last diagnostics: put the weights in place that are its result."""

    def on_weights_replaced(self) -> None:
        """Another intervention has put other weights into the whole net."""

    def end_task(self, task: Task) -> None:
        """After the task's last diagnostics: what it changes shows in the next task's first ones."""

    def evaluation_parameters(self) -> dict[str, Tensor] | None:
        """Weights to predict with instead of the trained ones, by parameter name; None: the trained ones."""

    def state_dict(self) -> dict:
        """All that changes during training, as tensors, numbers, strings, lists and dicts."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Continue from `state_dict()`, bit-identically. Called after `attach`."""
