"""Online SGD on nets with one hidden layer, many of them at once: the plain loop without its overhead.

One million updates of a 5-unit net are a million tiny steps that depend on each other. What costs is not the
arithmetic but the calls around it, so that the forward and backward passes are written out by hand over arrays that
are allocated once, and the nets of many seeds share each call (`online_sgd`). `OnlineLearner` does the same for
one learner in the general loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lop.algos import Intervention
from lop.data.stream import TaskStream
from lop.nets import MLP, Net
from lop.nets.layer_io import WeightLayer
from lop.optimizers import ClosureOptimizer
from lop.training.learner import Learner, StepResult
from lop.utils.errors import lookup

Array = np.ndarray


def _relu(z: Array, h: Array, slope: Array) -> None:
    np.maximum(z, 0, out=h)
    np.greater(z, 0, out=slope)


def _leaky_relu(z: Array, h: Array, slope: Array) -> None:
    np.greater(z, 0, out=slope)
    slope *= np.float32(0.99)
    slope += np.float32(0.01)
    np.multiply(z, slope, out=h)


def _tanh(z: Array, h: Array, slope: Array) -> None:
    np.tanh(z, out=h)
    np.multiply(h, h, out=slope)
    np.subtract(1, slope, out=slope)


def _logistic(z: Array, out: Array) -> None:
    # 1 / (1 + exp(-z)) by tanh, which does not overflow
    np.multiply(z, np.float32(0.5), out=out)
    np.tanh(out, out=out)
    out += 1
    out *= np.float32(0.5)


def _sigmoid(z: Array, h: Array, slope: Array) -> None:
    _logistic(z, h)
    np.subtract(1, h, out=slope)
    slope *= h


def _elu(z: Array, h: Array, slope: Array) -> None:
    np.minimum(z, 0, out=h)
    np.exp(h, out=slope)
    np.subtract(slope, 1, out=h)  # the negative part; where z > 0 it is 0 and the slope 1
    h += np.maximum(z, 0)


def _swish(z: Array, h: Array, slope: Array) -> None:
    _logistic(z, slope)
    np.multiply(z, slope, out=h)
    slope += h * (1 - slope)


def _linear(z: Array, h: Array, slope: Array) -> None:
    h[...] = z
    slope[...] = 1


# name -> f(z, h, slope): writes the activations h and their derivatives, all float32 (nets, units)
ACTIVATIONS: dict[str, Callable[[Array, Array, Array], None]] = {
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "elu": _elu,
    "swish": _swish,
    "linear": _linear,
}
_NAME_OF = {
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky_relu",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.ELU: "elu",
    nn.SiLU: "swish",
    nn.Identity: "linear",
}


@dataclass
class StackedNets:
    """Several nets with one hidden layer and one output, float32; each bias is the last column of its weights.

    hidden: (nets, units, inputs + 1). output: (nets, 1, units + 1). activation: a name in ACTIVATIONS.
    """

    hidden: Array
    output: Array
    activation: str

    @classmethod
    def of(cls, nets: Sequence[MLP]) -> StackedNets:
        """Copies of the nets' parameters. The nets must satisfy `is_supported` and be alike."""
        layers = [(net.hidden_layers()[0].incoming, net.output_layer()) for net in nets]
        hidden, output = (np.stack([with_bias(pair[i]) for pair in layers]) for i in (0, 1))
        return cls(hidden, output, _NAME_OF[type(nets[0].hidden_layers()[0].activation)])

    @torch.no_grad()
    def copy_to(self, nets: Sequence[MLP]) -> None:
        """Write the parameters back."""
        for i, net in enumerate(nets):
            rows = ((net.hidden_layers()[0].incoming, self.hidden[i]), (net.output_layer(), self.output[i]))
            for layer, values in rows:
                layer.weight.copy_(torch.from_numpy(values[:, :-1]))
                layer.get_parameter("bias").copy_(torch.from_numpy(values[:, -1]))


def with_bias(layer: WeightLayer) -> Array:
    """A copy of the weights, float32 (outputs, inputs + 1), the biases last."""
    weight, bias = (layer.get_parameter(name).detach().cpu() for name in ("weight", "bias"))
    return torch.cat((weight, bias[:, None]), dim=1).float().numpy()


def is_supported(net: nn.Module) -> bool:
    """Whether `online_sgd` can train the net: an MLP with one plain hidden layer and one output, in float32."""
    if not isinstance(net, MLP) or len(net.hidden_layers()) != 1:
        return False
    layer, head = net.hidden_layers()[0], net.output_layer()
    plain = layer.norm is None and type(layer.activation) in _NAME_OF
    return plain and head.weight.shape[0] == 1 and head.weight.dtype == torch.float32


def online_sgd(nets: StackedNets, x: Array, y: Array, lr: float) -> Array:
    """Plain SGD on the squared error, one example at a time, one update each; the nets are changed in place.

    x: (nets, examples, inputs), y: (nets, examples), float32: each net has its own stream. Returns the squared
    errors before each update, float32 (nets, examples). Equal to autograd and torch.optim.SGD(lr) within float32
    rounding. A net that diverges goes on with inf and NaN and leaves the others as they are.
    """
    activate = lookup(ACTIVATIONS, nets.activation, "activation")
    count, examples, inputs = x.shape
    units = nets.hidden.shape[1]
    hidden, output = nets.hidden, nets.output
    # example by example in memory, with the 1 that the biases read; columns for products, rows for outer products
    columns = np.ones((examples, count, inputs + 1, 1), np.float32)
    columns[:, :, :inputs, 0] = x.transpose(1, 0, 2)
    rows = columns.reshape(examples, count, 1, inputs + 1)
    targets = np.ascontiguousarray(y.T, dtype=np.float32).reshape(examples, count, 1, 1)
    errors = np.empty((examples, count, 1, 1), np.float32)

    z, slope = (np.empty((count, units, 1), np.float32) for _ in range(2))
    features = np.ones((count, units + 1, 1), np.float32)
    h, features_row = features[:, :units], features.reshape(count, 1, units + 1)
    reading = output[:, 0, :units, None]
    prediction, step = (np.empty((count, 1, 1), np.float32) for _ in range(2))
    hidden_step, output_step = np.empty_like(hidden), np.empty_like(output)
    rate = np.float32(-2 * lr)
    matmul, multiply, subtract = np.matmul, np.multiply, np.subtract
    with np.errstate(over="ignore", invalid="ignore"):
        for column, row, target, error in zip(columns, rows, targets, errors, strict=True):
            matmul(hidden, column, out=z)
            activate(z, h, slope)
            matmul(output, features, out=prediction)
            subtract(prediction, target, out=error)
            multiply(error, rate, out=step)
            slope *= reading
            slope *= step
            multiply(features_row, step, out=output_step)
            multiply(slope, row, out=hidden_step)
            output += output_step
            hidden += hidden_step
        return np.square(errors[:, :, 0, 0]).T


def online_lms(weights: Array, x: Array, y: Array, lr: float) -> Array:
    """`online_sgd` of linear learners (least mean squares, Widrow & Hoff 1960); the weights are changed in place.

    weights: (nets, inputs + 1), each bias last, float32. x, y and what is returned: as in `online_sgd`.
    """
    count, examples, inputs = x.shape
    rows = np.ones((examples, count, inputs + 1), np.float32)
    rows[:, :, :inputs] = x.transpose(1, 0, 2)
    targets = np.ascontiguousarray(y.T, dtype=np.float32)
    errors = np.empty((examples, count), np.float32)
    rate = np.float32(-2 * lr)
    with np.errstate(over="ignore", invalid="ignore"):
        for row, target, error in zip(rows, targets, errors, strict=True):
            np.subtract((weights * row).sum(1), target, out=error)
            weights += row * (rate * error)[:, None]
        return np.square(errors).T


class OnlineLearner(Learner):
    """A Learner whose updates on single examples are written out by hand; the same within float32 rounding.

    For plain SGD without interventions on a supported net on the CPU (`online_learner` decides). The updates go to
    the net's own parameters, so that diagnostics, checkpoints and resets see them as usual.
    """

    def __init__(self, net: Net, optimizer: ClosureOptimizer, interventions: Sequence[Intervention] = (), **options):
        super().__init__(net, optimizer, interventions, **options)
        layer, head = self.hidden_layers[0], net.output_layer()
        self._activate = ACTIVATIONS[_NAME_OF[type(layer.activation)]]
        # views: the parameters share this memory
        parameters = [module.get_parameter(name) for module in (layer.incoming, head) for name in ("weight", "bias")]
        self._arrays = [p.detach().numpy() for p in parameters]
        self._scratch = [np.empty_like(self._arrays[1]) for _ in range(4)]
        self._weight_step = np.empty_like(self._arrays[0])

    def learn(self, x: Tensor, y: Tensor) -> StepResult:
        if len(x) != 1:
            return super().learn(x, y)
        weight, bias, out_weight, out_bias = self._arrays
        z, h, slope, h_step = self._scratch
        reading, weight_step, row = out_weight[0], self._weight_step, x.numpy().reshape(-1)
        prediction = np.empty((1, 1), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            np.dot(weight, row, out=z)
            np.add(z, bias, out=z)
            self._activate(z, h, slope)
            prediction[0, 0] = reading.dot(h) + out_bias[0]
            error = prediction - y.numpy()
            # the step size is read each time: schedules change it
            step = error[0, 0] * np.float32(-2 * self.optimizer.param_groups[0]["lr"])
            np.multiply(h, step, out=h_step)
            np.multiply(slope, reading, out=slope)
            np.multiply(slope, step, out=slope)
            np.multiply(slope[:, None], row, out=weight_step)
            np.add(reading, h_step, out=reading)
            np.add(weight, weight_step, out=weight)
            np.add(bias, slope, out=bias)
            np.add(out_bias, step, out=out_bias)
            loss = np.square(error)
        return StepResult(torch.from_numpy(loss)[0, 0], torch.from_numpy(prediction))


def online_learner(
    net: Net, optimizer: ClosureOptimizer, interventions: Sequence[Intervention], stream: TaskStream, seed: int
) -> Learner:
    """An OnlineLearner where it can learn this, else a Learner."""
    plain = all(type(intervention) is Intervention for intervention in interventions)
    on_cpu = next(net.parameters()).device.type == "cpu"
    fast = plain and on_cpu and stream.loss == "mse" and is_supported(net) and _is_plain_sgd(optimizer)
    return (OnlineLearner if fast else Learner)(net, optimizer, interventions, loss=stream.loss, seed=seed)


def _is_plain_sgd(optimizer: torch.optim.Optimizer) -> bool:
    if type(getattr(optimizer, "base", None)) is not torch.optim.SGD or len(optimizer.param_groups) != 1:
        return False
    group = optimizer.param_groups[0]
    extras = ("momentum", "weight_decay", "dampening", "nesterov", "maximize", "max_grad_norm")
    return not any(group.get(name) for name in extras) and getattr(optimizer, "max_grad_norm", None) is None
