"""What all optimizers share: the closure protocol, gradients, clipping, perturbed passes.

    loss = optimizer.step(closure)

`closure()` runs the forward pass and returns the scalar loss; the optimizer differentiates it itself
(`torch.autograd.grad`), as often and to the order it needs. Nothing goes through `.grad`, no graph outlives the step.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, Generic, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lop.nets.statistics import frozen_statistics
from lop.optimizers.derivatives import missing_derivative
from lop.optimizers.evaluation import Evaluation, Pass
from lop.optimizers.members import MEMBER, Members
from lop.optimizers.multi_tensor import Generators, Number, clip_by_global_norm, scratch_like
from lop.optimizers.objective import Objective
from lop.optimizers.options import check_group, check_values
from lop.optimizers.resetting import ResettableOptimizer
from lop.utils.errors import UserError
from lop.utils.seeding import make_generator
from lop.utils.signature import full_signature

Closure = Callable[[], Tensor]
E = TypeVar("E", bound=Evaluation)


def parameters_of(model_or_params: nn.Module | Iterable) -> list:
    """The net's parameters, or the given ones or groups. Raises UserError where there are none."""
    params = list(model_or_params.parameters() if isinstance(model_or_params, nn.Module) else model_or_params)
    if not params:
        raise UserError("params must hold at least one parameter, got an empty list: pass a net or its parameters")
    return params


class ClosureOptimizer(ResettableOptimizer, Generic[E]):
    """Base of all optimizers. A subclass implements `_apply(params, grads)`, and more where it needs more.

    A step is two halves: `_evaluate(closure)` differentiates the loss where the parameters are now, `_finish` moves
    them by what it found. Sharpness-aware methods make the first half at perturbed parameters. E: what is found; a
    `Pass`, whose parameters and gradients `_finish` hands to `_apply`, unless the subclass has both halves its own.

    Options are keyword-only annotated parameters of the constructor; a subclass names its own, and hands the others on
    by `**` (see `full_signature`).

    model_or_params: the net (then BatchNorm statistics are updated by the first forward pass of a step only), its
        parameters, or parameter groups.
    max_grad_norm: the gradients are scaled down to this global norm before they are used. None: never.
    seed: of the generator that draws the probes; it lives on the parameters' device and in the state_dict.

    The first call of the closure in a step is at the unperturbed parameters, and its loss is what `step` returns
    (detached, on the device; of an `Objective` it may be without the terms whose gradient is known). Parameters with
    `requires_grad=False` and parameters the loss did not reach are left alone. State has the dtype of its parameter.
    Raises UserError for bad options and for closures that break the protocol.
    """

    __signature__: ClassVar[inspect.Signature]

    needs_model: ClassVar[bool] = False
    """Whether parameters alone are not enough."""

    single_pass: bool = True
    """Whether a step is one `_evaluate` and one `_finish`, so that SAM can make the first at perturbed parameters."""

    @property
    def stackable(self) -> bool:
        """Whether, given stacked parameters (S, ...) and losses (S,), it does to each member what it does to a net.

        So whatever reduces over entries or draws asks whether it is `stacked`. A subclass says `stackable = True`.
        """
        return False

    @property
    def options_apart(self) -> bool:
        """Whether members of a stack may differ in the numbers of their groups: an update is made of what `_split`
        gives, and takes numbers from the group of each cohort. A subclass says `options_apart = True`."""
        return False

    member_options: tuple[str, ...] = ("max_grad_norm",)
    """Attributes in which members may differ then, as their value in a step is asked for by `_each`."""

    cohort_options: tuple[str, ...] = ()
    """Attributes in which members may differ then, as they are those of `_owner(group)`."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__signature__ = full_signature(cls)

    def __init__(
        self,
        model_or_params: nn.Module | Iterable,
        defaults: dict[str, Any],
        *,
        max_grad_norm: float | None = None,
        seed: int = 0,
    ):
        check_values({"max_grad_norm": max_grad_norm})
        self.model = model_or_params if isinstance(model_or_params, nn.Module) else None
        if self.needs_model and self.model is None:
            raise UserError(f"{type(self).__name__} needs the model: pass the net instead of its parameters")
        self.max_grad_norm = max_grad_norm
        self.steps = 0
        self._clock_restarts = 0
        self.young = False  # whether any parameter has entries whose age matters
        super().__init__(parameters_of(model_or_params), defaults)
        self.generator = make_generator(seed, "probes", device=self.param_groups[0]["params"][0].device)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        check_group(param_group, self.defaults)
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Closure) -> Tensor:  # type: ignore[override]  # needs a closure, gives a tensor
        """One update. Returns the loss of the first forward pass, detached."""
        if not callable(closure):
            raise UserError("closure must be a function that runs the forward pass and returns the scalar loss")
        try:
            loss = self._step(closure)
        except RuntimeError as error:
            problem = missing_derivative(error, type(self).__name__, self.model)
            if problem is None:
                raise
            raise problem from error
        self.steps += 1
        return loss

    def _step(self, closure: Closure) -> Tensor:
        found = self._evaluate(closure)
        self._finish(found)
        return found.loss

    @property
    def plain_gradient(self) -> bool:
        """Whether all that a step knows of the loss is its gradient at the parameters, so that `finish_step` can make a
        step of a gradient that somebody else has taken."""
        own = type(self)
        return own._step is ClosureOptimizer._step and own._evaluate is ClosureOptimizer._evaluate

    def finish_step(self, found: E) -> None:
        """The rest of a step whose first half was made elsewhere."""
        self._finish(found)
        self.steps += 1

    def _evaluate(self, closure: Closure) -> E:
        """The gradients, and whatever else the update wants to know, at the current parameters."""
        return cast("E", self._differentiate(closure))

    def _finish(self, found: E) -> None:
        """Update the parameters by what `_evaluate` found, here or where they were perturbed."""
        reached = cast("Pass", found)
        self._apply(reached.params, reached.grads)

    def _apply(self, params: list[Tensor], grads: list[Tensor]) -> None:
        """Update the parameters. `grads` must not be changed in place: autograd may share them."""
        raise NotImplementedError

    @property
    def stacked(self) -> bool:
        """Whether the parameters are of many nets, (S, ...), and the closure returns their losses (S,)."""
        return self.members is not None

    def for_members(self, members: Members) -> None:
        """From now on the parameters are stacked; each member's probes come from a generator of its own."""
        self.members = members

    @property
    def _probe_generators(self) -> Generators:
        return self.generator if self.members is None else self.members.generators

    def _each(self, number: Callable[[Any], float | None]) -> Number | None:
        """A number of an optimizer: this one's or, of a stack whose members differ, theirs (S,), inf for None."""
        if self.members is None:
            return number(self)
        values = [number(own) for own in self.members.optimizers]
        if all(value == values[0] for value in values):
            return values[0]
        like = self.members.params[0]
        return torch.tensor([math.inf if v is None else v for v in values], dtype=like.dtype, device=like.device)

    def _owner(self, group: dict[str, Any]) -> Any:
        """The optimizer whose options a group has: this one or, of a stack, a member's."""
        return self if self.members is None else self.members.optimizers[group.get(MEMBER, 0)]

    def _split(self, params: list[Tensor], *columns: list[Tensor]) -> Sequence[list[Tensor]]:
        """What is updated by one group's options each: the same lists or, of a stack whose members differ, pieces."""
        return (params, *columns) if self.members is None else self.members.split(params, *columns)

    def _trainable(self) -> list[Tensor]:
        if self.members is not None:
            return [p for p in self.members.params if p.requires_grad]
        return [p for group in self.param_groups for p in group["params"] if p.requires_grad]

    @property
    def _losses(self) -> int:
        return 1 if self.members is None else len(self.members.optimizers)

    def _forward(self, closure: Closure, params: Sequence[Tensor]) -> Tensor:
        """The loss with its graph, checked."""
        with torch.enable_grad():
            loss = closure()
        if not isinstance(loss, Tensor) or loss.numel() != self._losses:
            got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise UserError(f"closure must return a scalar loss, got {got}: reduce it, e.g. with .mean()")
        if any(p.grad is not None for p in params):
            raise UserError(
                "closure must not call backward(): .grad is set, but the optimizer differentiates the loss itself "
                "(if it is left from elsewhere, call zero_grad() first)"
            )
        if not loss.requires_grad:
            raise UserError("closure returned a loss without a graph: do not detach it or compute it under no_grad")
        return loss

    def _differentiate(self, closure: Closure, *, create_graph: bool = False, retain_graph: bool = False) -> Pass:
        """Forward pass and gradient. With `create_graph` the gradients can be differentiated again.

        Else of an `Objective` only the part is differentiated, and its loss is that part's.
        """
        params = self._trainable()
        objective = closure if isinstance(closure, Objective) and not create_graph else None
        loss = self._forward(objective.part if objective else closure, params)
        grads = self._gradients(loss, params, create_graph=create_graph, retain_graph=create_graph or retain_graph)
        if objective:
            grads = objective.completed(params, grads)
        reached = [(p, g) for p, g in zip(params, grads, strict=True) if g is not None]
        return Pass(loss.detach(), [p for p, _ in reached], [g for _, g in reached])

    @staticmethod
    def _gradients(loss: Tensor, inputs: Sequence, **options: bool) -> Sequence[Tensor | None]:
        ones = torch.ones_like(loss) if loss.dim() else None  # of a stack: each member's gradient is of its own loss
        return torch.autograd.grad(loss, inputs, ones, allow_unused=True, **options)

    def _clipped(self, params: Sequence[Tensor], grads: list[Tensor]) -> list[Tensor]:
        most = self._each(lambda own: own.max_grad_norm)
        if most is None or not grads:
            return grads
        clipped = self._workspace(params)
        clip_by_global_norm(grads, most, clipped, stacked=self.stacked)
        return clipped

    def _workspace(self, params: Sequence[Tensor]) -> list[Tensor]:
        """One tensor like each parameter, with undefined values, for use within the step; kept from step to step."""
        return scratch_like(tuple(params), self._kept("workspace"))

    @contextmanager
    def _perturbed(self, params: Sequence[Tensor], values: Sequence[Tensor]) -> Iterator[None]:
        """The parameters hold `values` inside, and exactly what they held before afterwards.

        The storage is exchanged, not added to and subtracted from: no rounding, no second pass over the memory.
        """
        before = [p.data for p in params]
        try:
            for p, value in zip(params, values, strict=True):
                p.data = value
            with self._frozen_statistics():
                yield
        finally:
            for p, value in zip(params, before, strict=True):
                p.data = value

    def _frozen_statistics(self) -> AbstractContextManager[None]:
        return frozen_statistics(self._batch_norms)

    @property
    def _batch_norms(self) -> list[_BatchNorm]:
        found = self.__dict__.get("_found_batch_norms")
        if found is None:
            modules = self.model.modules() if self.model is not None else ()
            found = self._found_batch_norms = [m for m in modules if isinstance(m, _BatchNorm)]
        return found

    def _cohorts(self, params: list[Tensor], *columns: list[Tensor]) -> Iterator[tuple]:
        """Split parallel lists so that all parameters of a piece share their group and their scalar state.

        Yields (group, scalars, params, *columns). Almost always one piece per group; more when some parameters got
        their first gradient later than others, as step counts are kept per parameter.
        """
        keys = [self._scalars(self.state[p]) for p in params]
        if len(self.param_groups) == 1 and len(set(keys)) == 1:
            yield self.param_groups[0], keys[0], params, *columns
            return
        key_of = dict(zip(params, keys, strict=True))
        place = {p: i for i, p in enumerate(params)}
        for group in self.param_groups:
            members = [p for p in group["params"] if p in place]
            for key in dict.fromkeys(key_of[p] for p in members):
                rows = [place[p] for p in members if key_of[p] == key]
                yield group, key, [params[i] for i in rows], *([column[i] for i in rows] for column in columns)

    def _scalars(self, state: dict[str, Any]) -> tuple:
        """The numbers in a parameter's state that its update depends on."""
        return (state["step"],)
