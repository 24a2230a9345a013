"""Without a GPU: every step takes a GPU's paths on a pretended one, and neither mixes devices nor waits."""

import cases
import pytest
import torch
from pretended import DeviceMixError, Pretended, WaitError, no_waiting, pretended_gpu

from lop.algos import INTERVENTIONS
from lop.nets import NETS
from lop.training.stacked import StackedPopulation
from lop.utils.seeding import make_generator


def agreement(waits: bool = False, **case) -> float:
    shape, found = cases.SHAPES[case.get("net", "mlp")], {}
    for name in ("cpu", cases.PRETENDED):
        with cases.on_device(name) as device, cases.as_on_a_gpu():
            learner = cases.make_learner(device, torch.float64, **case)

            def task_of(k, device=device):
                return cases.SmallTask(shape, k, device, torch.float64)

            guard = None if waits else lambda name=name: cases.never_waiting(name)
            cases.train(learner, task_of, epochs=1, guard=guard)
            found[name] = cases.numbers(learner)
    return cases.distance(found[cases.PRETENDED], found["cpu"])


@pytest.mark.parametrize("name", [name for name in cases.OPTIMIZERS if name != "muon"])
def test_every_optimizer(name):
    assert agreement(optimizer=name, waits=name in cases.WAITING) < 1e-9


@pytest.mark.parametrize("name", INTERVENTIONS)
def test_every_intervention(name):
    assert agreement(optimizer="adam", algos=[name], waits=name in cases.DECIDING) < 1e-9


@pytest.mark.parametrize("optimizer", ["sgd", "adahessian", "kfac"])
@pytest.mark.parametrize("net", NETS)
def test_every_net(net, optimizer):
    """Sassha is left out: its perturbed point is rounded otherwise on a GPU, and the second derivatives of a batch norm
    whose variance is nearly 0 make much of that."""
    assert agreement(net=net, optimizer=optimizer) < 1e-9


@pytest.mark.parametrize("name", cases.WAITING)
def test_what_is_said_to_wait_does(name):
    """So that the list grows short when torch no longer does."""
    with pytest.raises(WaitError):
        agreement(optimizer=name)


@pytest.mark.parametrize(("optimizer", "algo"), [("adam", "cbp"), ("sassha", "l2_init"), ("sophiag", "ema")])
def test_a_population(optimizer, algo):
    with pretended_gpu() as device:
        case = {"optimizer": optimizer, "algos": [algo]}
        learners = [cases.make_learner(device, torch.float64, seed=seed, **case) for seed in range(3)]
        population = StackedPopulation(learners)
        tasks = [cases.SmallTask(cases.SHAPES["mlp"], 0, device, torch.float64, seed=s) for s in range(3)]
        population.start_task(tasks)
        blocks = []
        for step, batches in enumerate(zip(*(task.batches() for task in tasks), strict=True)):
            with cases.never_waiting(cases.PRETENDED if step > 1 else "cpu"):
                population.learn(batches)
            blocks.append(len(population.blocks))
        assert blocks[0] == 1  # later a member whose units were reset is trained alone for a while
        found = [cases.numbers(learner) for learner in learners]
    for seed, theirs in enumerate(found):
        alone = cases.make_learner("cpu", torch.float64, seed=seed, **case)
        task = cases.SmallTask(cases.SHAPES["mlp"], 0, "cpu", torch.float64, seed=seed)
        cases.train(alone, lambda k, task=task: task, tasks=1, epochs=1)
        assert cases.distance(theirs, cases.numbers(alone)) < 1e-9


READS = {
    "item": lambda t: t.sum().item(),
    "bool": lambda t: bool((t > 0).any()),
    "float": lambda t: float(t[0]),
    "list": lambda t: t.tolist(),
    "numpy": lambda t: t.numpy(),
    "cpu": lambda t: t.cpu(),
    "to the CPU": lambda t: t.to("cpu"),
    "from the CPU": lambda t: t + torch.ones(3).to(t.device),
    "a list to the GPU": lambda t: t + torch.tensor([1.0, 2.0, 3.0], device=t.device),
    "new_tensor": lambda t: t.new_tensor([1.0]),
    "nonzero": lambda t: t.nonzero(),
    "by a mask": lambda t: t[t > 0],
    "equal": lambda t: torch.equal(t, t + 1),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_what_makes_a_gpu_wait_is_found(read):
    with pretended_gpu() as device:
        t = torch.tensor([-1.0, 0.5, 2.0], device=device)
        read(t)  # allowed between the steps
        with no_waiting(), pytest.raises(WaitError):
            read(t)


def test_two_devices_do_not_mix_and_numbers_may_be_on_the_host():
    with pretended_gpu() as device, no_waiting():
        t = torch.zeros(3, device=device)
        t[0] = 2.0
        t[t < -1] = 7.0
        t += torch.tensor(1.0)
        draws = torch.rand(3, device=device, generator=make_generator(0, "a", device=device))
        with pytest.raises(DeviceMixError):
            t + torch.ones(3)
        with pytest.raises(DeviceMixError):
            torch.rand(3, generator=make_generator(0, "a", device=device))
    assert isinstance(draws, Pretended)
    assert t.inner.tolist() == [3.0, 1.0, 1.0]
    assert torch.equal(draws.inner, torch.rand(3, generator=make_generator(0, "a")))
