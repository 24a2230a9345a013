"""The protocol of interventions: what is done to a learner beside its optimizer's update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar, cast

import torch
from torch import Tensor

from lop.algos.layout import UnitLayout
from lop.data.stream import Task
from lop.nets import HiddenLayer, Net
from lop.optimizers import ClosureOptimizer
from lop.utils.registry import Registry
from lop.utils.state import State, load_state, renew_units, saved_state, start_state


class Host(Protocol):
    """What an intervention sees of the learner it belongs to.

    loss: "cross_entropy" or "mse". hidden_layers: those of the net, in its order. data_ahead: whether a task's data
    can be read before they are learned; not so where they are collected on the way.
    """

    net: Net
    optimizer: ClosureOptimizer
    loss: str
    hidden_layers: list[HiddenLayer]
    data_ahead: bool

    @property
    def device(self) -> torch.device:
        """The net's."""

    def make_generator(self, *purpose: str, device: torch.device | str | None = None) -> torch.Generator:
        """Of its own for every purpose and for every one who asks, on the net's device unless another is given."""

    def predict(self, x: Tensor) -> Tensor:
        """Outputs (batch, num_outputs) of the evaluation weights, in evaluation mode."""

    def evaluation_parameters(self) -> dict[str, Tensor]:
        """The weights to predict with where these are not the trained ones, by parameter name."""

    def loss_of(self, outputs: Tensor, y: Any) -> Tensor:
        """Mean loss of the net's outputs, without penalties."""

    def labelled_batch(self, size: int) -> tuple[Tensor, Any]:
        """About `size` training examples of the current task, with what `loss_of` needs beside the outputs."""

    def rollout(self) -> Tensor | None:
        """The inputs of all that the update in progress learns from, in PPO; None where a batch is all."""

    def policy_loss(self) -> Tensor | None:
        """In PPO, of the last forward pass; None elsewhere."""

    def restart(self, generator: torch.Generator) -> None:
        """A newly drawn net, a forgotten optimizer, pristine interventions (the one that asks among them)."""

    def weights_replaced(self, by: Intervention) -> None:
        """An intervention has put other weights into the whole net: the others hear of it."""

    def units_replaced(self, layer: HiddenLayer, mask: Tensor, by: Intervention) -> None:
        """An intervention has given some units of a layer fresh weights: the others hear of it."""


Own = TypeVar("Own", bound="Intervention")

INTERVENTIONS: Registry[type[Intervention]] = Registry("intervention")
intervention = INTERVENTIONS.register
"""Decorator: `@intervention("name")` on an Intervention makes it known by that name."""

PENALTY = ("penalty", "add_penalty_gradient")  # its value, and its gradient where that is known


@intervention("bp")  # nothing: plain backprop
class Intervention:
    """Every method is optional. Keyword-only, annotated constructor parameters are its options in a config.

    Calls come in this order: `attach` once and `restart`; per task `start_task`, per epoch `start_epoch`, per step
    `before_step`, `penalty` or `add_penalty_gradient` (once per forward pass), `on_gradients` where they are needed and
    `after_step`, then `end_epoch`, `hand_in` before the task's last diagnostics and `end_task` after them.
    Interventions run in the order in which they are listed.
    """

    needs_features = False  # True: `after_step` gets the hidden activations of the step's first forward pass
    stackable = True  # False: it watches the net's own forward passes, which a stack of nets does not make
    stacks: ClassVar[bool] = False
    """Whether one can stand for those of many nets (`lop.algos.stacking`): its parameters, features and state are then
    (S, ...), and `penalty` (S,) and `after_step` do to each member what they do to a net. What is done member by member
    goes through `each`. It has no `on_gradients`."""

    varying: ClassVar[tuple[str, ...]] = ()
    """Names of the options that may differ between these members: they are (S,) then. See `per_member`."""

    members: Sequence[Intervention] = ()
    """Whom it stands for; none: itself."""

    state: ClassVar[State] = {}
    """The attributes that change during training, each with its kind: `restart` makes them, they are saved and loaded,
    and what is per unit begins anew with its unit."""

    host: Host
    parameters: dict[str, Tensor]
    """Those of the net that are trained, by name: what is per entry is of these."""
    units: UnitLayout
    """Of the layers whose units may be reset: what is per unit is of these."""

    @property
    def stacked(self) -> bool:
        """Whether it stands for those of many nets."""
        return bool(self.members)

    def each(self: Own) -> Sequence[Own]:
        """Itself, or all it stands for."""
        return cast("Sequence[Own]", self.members) or (self,)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = [name for name, value in vars(cls).items() if callable(value) and not name.startswith("__")]
        if own and "stacks" not in vars(cls):
            cls.stacks = False  # what a subclass writes anew need not be written for a stack
        value, gradient = PENALTY
        if value in own and gradient not in own:
            setattr(cls, gradient, getattr(Intervention, gradient))  # the one inherited is another penalty's

    def attach(self, host: Host) -> None:
        """Sees the net's hidden layers and the optimizer; randomness comes from `host.make_generator(*purpose)`."""
        self.host = host
        self.parameters = {name: p for name, p in host.net.named_parameters() if p.requires_grad}
        self.units = UnitLayout(host.hidden_layers, next(host.net.parameters()))

    def restart(self) -> None:
        """Everything gathered is as at the start, with the net as it is now; generators go on.

        Called after `attach`, and whenever the host restarts: so this is where state is made.
        """
        start_state(self)

    def start_task(self, task: Task) -> None:
        """Before the task's first diagnostics."""

    def start_epoch(self, task: Task, epoch: int) -> None:
        """Before each pass over the task's data."""

    def before_step(self, x: Tensor) -> None:
        """Before each update. x: the inputs of its batch, (batch, ...)."""

    def penalty(self) -> Tensor | None:
        """A scalar added to the loss, differentiable in the parameters."""

    def add_penalty_gradient(self, gradients: Mapping[Tensor, Tensor]) -> None:
        """Add the penalty's gradient at the present values to `gradients`, by parameter, in place: in closed form.

        Who has this beside `penalty` is asked for it alone where a step wants nothing else of the penalty. A subclass
        with another `penalty` is not, unless it writes this anew, too.
        """

    @classmethod
    def knows_gradient(cls) -> bool:
        """Whether it has `add_penalty_gradient`."""
        return cls.add_penalty_gradient is not Intervention.add_penalty_gradient

    @property
    def needs_gradients(self) -> bool:
        """Whether `on_gradients` is to be called after the coming update; seeing them costs a copy."""
        return False

    def on_gradients(self, gradients: Mapping[Tensor, Tensor]) -> None:
        """After an update, just before this one's `after_step`: what came to the net's parameters in its first backward
        pass, penalties included and before any clipping. Only those the loss reached. Valid during the call alone."""

    def after_step(self, features: Sequence[Tensor]) -> None:
        """After each update. features: one tensor per hidden layer, or none when no intervention needs them."""

    def end_epoch(self, task: Task, epoch: int) -> None:
        """After each pass over the task's data."""

    def hand_in(self, task: Task) -> None:
        """After the task's last step and before its last diagnostics: put the weights in place that are its result."""

    def on_units_replaced(self, layer: HiddenLayer, mask: Tensor) -> None:
        """Another intervention gave these units fresh weights: what is known of them is of their predecessors.

        layer: of `host.hidden_layers`. mask: bool (units,).
        """
        if layer in self.units:
            renew_units(self, layer, mask)

    def on_weights_replaced(self) -> None:
        """Another intervention has put other weights into the whole net."""

    def end_task(self, task: Task) -> None:
        """After the task's last diagnostics: what it changes shows in the next task's first ones."""

    def evaluation_parameters(self) -> dict[str, Tensor] | None:
        """Weights to predict with instead of the trained ones, by parameter name; None: the trained ones."""

    def state_dict(self) -> dict[str, Any]:
        """All that changes during training, as `state` declares it."""
        return saved_state(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`, bit-identically. Called after `attach` and `restart`."""
        load_state(self, state, self.host.device)
