"""A net, its optimizer and the interventions, as one thing that learns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lop.algos import Intervention
from lop.data.stream import Task
from lop.metrics.numerics import all_finite
from lop.nets import FeatureRecorder, HiddenLayer, Net
from lop.nets.gradients import GradientRecorder
from lop.nets.init import initialise_
from lop.optimizers import ClosureOptimizer
from lop.optimizers.objective import make_objective
from lop.utils.errors import UserError, lookup
from lop.utils.seeding import make_generator

LOSSES: dict[str, Callable[[Tensor, Any], Tensor]] = {"cross_entropy": F.cross_entropy, "mse": F.mse_loss}
OWN = "own"  # a learner's loss that is no name but a function


@dataclass(frozen=True, slots=True)
class StepResult:
    """Of a step's first, unperturbed forward pass, before the update: mean loss without penalties, and outputs.

    logits: a tensor is detached; other outputs (a tuple, a dict) are as the net returned them.
    """

    loss: Tensor
    logits: Tensor


class FirstUpdateError(UserError):
    """A run that its first update ruins."""


class Learner:
    """Learns from batches with one line; knows no method's name and no benchmark's name.

    loss: "cross_entropy" (y: class indices), "mse" (y: (batch, outputs)), or a function (outputs, y) -> mean loss ()
    for any outputs and targets. Logits of outputs that are not active in the current task are -inf. seed: of the
    generators handed to interventions. Raises UserError for another name.
    """

    data_ahead = True  # a task's data can be read before they are learned

    def __init__(
        self,
        net: Net,
        optimizer: ClosureOptimizer,
        interventions: Sequence[Intervention] = (),
        *,
        loss: str | Callable[[Any, Any], Tensor] = "cross_entropy",
        seed: int = 0,
    ):
        self.net, self.optimizer, self.seed = net, optimizer, seed
        self.loss = loss if isinstance(loss, str) else OWN
        self.interventions = list(interventions)
        self._generators_made: Counter[tuple[object, ...]] = Counter()
        self.hidden_layers = net.hidden_layers()
        self._loss_function = lookup(LOSSES, loss, "loss") if isinstance(loss, str) else loss
        self.task: Task | None = None
        self.ruined_by_first_update = False
        self._has_learned = False  # in this process
        self.mask: Tensor | None = None
        self._unused: Tensor | None = None  # outputs that the last task started did not use; None: there was none
        penalties = self._overriding("penalty")
        self.known_penalties = [i for i in penalties if i.knows_gradient()]
        self.differentiated_penalties = [i for i in penalties if not i.knows_gradient()]
        self._before_step = self._overriding("before_step")
        self._after_step = self._overriding("after_step", "on_gradients")
        self.needs_features = any(i.needs_features for i in self.interventions)
        self._recorder = FeatureRecorder(self.hidden_layers) if self.needs_features else None
        self._gradients = GradientRecorder(net.parameters())
        for intervention in self.interventions:
            intervention.attach(self)
            intervention.restart()

    def _overriding(self, *methods: str) -> list[Intervention]:
        """Those that have a method of their own by one of these names."""
        return [
            i for i in self.interventions if any(getattr(type(i), m) is not getattr(Intervention, m) for m in methods)
        ]

    @property
    def needs_gradients(self) -> bool:
        """Whether an intervention looks at the coming update's gradients."""
        return any(i.needs_gradients for i in self._after_step)

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    def make_generator(self, *purpose: str, device: torch.device | str | None = None) -> torch.Generator:
        """A generator, on the net's device unless another is given, seeded from the run's seed and the purpose.

        Whoever asks second for the same purpose (an intervention that is listed twice) gets other numbers.
        """
        earlier = self._generators_made[purpose]
        self._generators_made[purpose] += 1
        keys = purpose if earlier == 0 else (*purpose, earlier)
        return make_generator(self.seed, "algos", *keys, device=device or self.device)

    def learn(self, x: Tensor, y: Any) -> Any:
        """One update on the batch (x, y), a StepResult."""
        is_start = not self._has_learned and self.starts()
        first: list[StepResult] = []

        def part() -> Tensor:
            if first:
                logits = self._forward(x)
                loss = self._loss_function(logits, y)
            else:
                logits = self._forward_recorded(x)
                loss = self._loss_function(logits, y)
                first.append(StepResult(loss.detach(), logits.detach() if isinstance(logits, Tensor) else logits))
            for intervention in self.differentiated_penalties:
                penalty = intervention.penalty()
                if penalty is not None:
                    loss = loss + penalty
            return loss

        self.before_step(x)
        watched = self.needs_gradients
        with self._gradients if watched else nullcontext():
            self.optimizer.step(make_objective(part, self.known_penalties, watched=watched))
        self.after_step(
            self._recorder.features if self._recorder else [], self._gradients.gradients if watched else None
        )
        if is_start:
            self.started(first[0].loss)
        return first[0]

    def starts(self) -> bool:
        """Whether the update about to be made is the first in this process, and of finite weights."""
        new, self._has_learned = not self._has_learned, True
        return new and bool(all_finite(self.net.parameters()))

    def started(self, loss: Tensor) -> None:
        """Keeps, as `ruined_by_first_update`, whether that update could not be made. loss: of its first pass."""
        self.ruined_by_first_update = bool(torch.isfinite(loss).all()) and not all_finite(self.net.parameters())

    def before_step(self, x: Tensor) -> None:
        """What the interventions do before an update. x: the inputs of its batch."""
        for intervention in self._before_step:
            intervention.before_step(x)

    def after_step(self, features: Sequence[Tensor], gradients: Mapping[Tensor, Tensor] | None = None) -> None:
        """What the interventions do after an update.

        features: the hidden activations of its first forward pass, or none when no intervention needs them. gradients:
        of its first backward pass, by the net's parameter; None when no intervention needs them.
        """
        for intervention in self._after_step:
            if gradients is not None and intervention.needs_gradients:
                intervention.on_gradients(gradients)
            intervention.after_step(features)

    def first_update_error(self) -> FirstUpdateError:
        """A net that diverges later is data; a first update that cannot be made is a mistake in the options."""
        given = self.optimizer.param_groups[0]
        settings = ", ".join(f"{name} = {given[name]}" for name in ("lr", "eps") if name in given)
        return FirstUpdateError(
            f"the run's first step made the weights NaN or inf ({settings}): choose other options of the optimizer, "
            "or smaller weights in algos",
            option="optimizer",
            joint=": ",
        )

    def loss_of(self, outputs: Tensor, y: Any) -> Tensor:
        """Mean loss of the net's outputs, without penalties; outputs that the task does not use are masked."""
        return self._loss_function(self._masked(outputs), y)

    def rollout(self) -> Tensor | None:
        """The inputs of all that the update in progress learns from, where a batch is a part of it."""
        return None

    def policy_loss(self) -> Tensor | None:
        """Of the last forward pass, where there is a policy."""
        return None

    def labelled_batch(self, size: int) -> tuple[Tensor, Any]:
        """About `size` training examples of the current task, with what `loss_of` needs beside the outputs."""
        assert self.task is not None  # there is one from `set_task` on
        return self.task.reference(size)

    def _masked(self, logits: Tensor) -> Tensor:
        return logits if self.mask is None else logits.masked_fill(self.mask, float("-inf"))

    def _forward(self, x: Tensor) -> Tensor:
        return self._masked(self.net(x))

    def _forward_recorded(self, x: Tensor) -> Tensor:
        if self._recorder is None:
            return self._forward(x)
        with self._recorder:
            return self._forward(x)

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """Outputs (batch, num_outputs) of the evaluation weights, in evaluation mode; inactive ones are -inf."""
        parameters = self.evaluation_parameters()
        training = self.net.training
        self.net.eval()
        logits = torch.func.functional_call(self.net, parameters, (x,)) if parameters else self.net(x)
        self.net.train(training)
        return self._masked(logits)

    def evaluation_parameters(self) -> dict[str, Tensor]:
        """The weights to predict with where these are not the trained ones, by parameter name; the last say counts."""
        parameters: dict[str, Tensor] = {}
        for intervention in self.interventions:
            parameters = intervention.evaluation_parameters() or parameters
        return parameters

    def weights_replaced(self, by: Intervention) -> None:
        """An intervention has put other weights into the whole net: the others hear of it."""
        for intervention in self.interventions:
            if intervention is not by:
                intervention.on_weights_replaced()

    def units_replaced(self, layer: HiddenLayer, mask: Tensor, by: Intervention) -> None:
        """An intervention has given some units of a layer fresh weights: the others hear of it."""
        for intervention in self.interventions:
            if intervention is not by:
                intervention.on_units_replaced(layer, mask)

    def set_task(self, task: Task) -> None:
        """Mask the outputs that the task does not use. `start_task` does it; a resume in mid-task calls it alone."""
        self.task, self.mask = task, None
        if task.active is not None:
            self.mask = torch.ones(self.net.output_layer().weight.shape[0], dtype=torch.bool, device=self.device)
            self.mask[task.active] = False

    def start_task(self, task: Task) -> None:
        self.set_task(task)
        self._renew_outputs()
        for intervention in self.interventions:
            intervention.start_task(task)

    def _renew_outputs(self) -> None:
        """Outputs that become active start as the optimizer's new entries: while they were masked, their gradients
        of 0 wore their moments off, but not their bias corrections."""
        head = self.net.output_layer()
        unused = torch.zeros(len(head.weight), dtype=torch.bool, device=self.device)
        if self.mask is not None:
            unused |= self.mask
        before, self._unused = self._unused, unused
        if before is not None and (renewed := before & ~unused).any():
            for p in head.parameters():
                self.optimizer.reset_entries(p, renewed.view(-1, *[1] * (p.dim() - 1)))

    def restart(self, generator: torch.Generator) -> None:
        """A newly drawn net, an optimizer and interventions that have gathered nothing: the one meaning of reset."""
        initialise_(self.net, generator)
        self.optimizer.forget()
        for intervention in self.interventions:
            intervention.restart()

    def start_epoch(self, task: Task, epoch: int) -> None:
        for intervention in self.interventions:
            intervention.start_epoch(task, epoch)

    def end_epoch(self, task: Task, epoch: int) -> None:
        for intervention in self.interventions:
            intervention.end_epoch(task, epoch)

    def hand_in(self, task: Task) -> None:
        """After the task's last step: the weights that count as its result are put in place."""
        for intervention in self.interventions:
            intervention.hand_in(task)

    def end_task(self, task: Task) -> None:
        for intervention in self.interventions:
            intervention.end_task(task)

    def state_dict(self) -> dict:
        return {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "unused": self._unused,
            "interventions": [i.state_dict() for i in self.interventions],
        }

    def load_state_dict(self, state: dict) -> None:
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._unused = None if state["unused"] is None else state["unused"].to(self.device)
        for intervention, saved in zip(self.interventions, state["interventions"], strict=True):
            intervention.load_state_dict(saved)
