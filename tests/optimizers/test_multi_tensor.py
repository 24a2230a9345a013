import copy
import math

import pytest
import torch

from lop.optimizers import get_optimizer
from lop.optimizers.multi_tensor import BLOCK, add_root_quotient, blocks, can_fuse, scratch_like
from lop.utils.seeding import make_generator

TINY = [0.0, 1e-45, 1e-40, 1e-30, 1e-12, 1.0, 1e12, 1e30]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_root_quotient_and_what_it_leaves_alone(dtype):
    generator = make_generator(0, "test")
    squares = [torch.tensor(TINY, dtype=dtype).repeat(9), torch.rand(7, 3, generator=generator).to(dtype)]
    numerators = [torch.randn(s.shape, generator=generator).to(dtype) for s in squares]
    params = [torch.randn(s.shape, generator=generator).to(dtype) for s in squares]
    expected = [
        p.double() - 0.3 * n.double() / (s.double().sqrt() + 1e-4)
        for p, n, s in zip(params, numerators, squares, strict=True)
    ]
    before = copy.deepcopy((numerators, squares))
    for _ in range(3):
        moved = copy.deepcopy(params)
        scratch = [torch.full_like(p, math.nan) for p in params]
        add_root_quotient(moved, numerators, squares, -0.3, 1e-4, scratch)
    for found, right in zip(moved, expected, strict=True):
        torch.testing.assert_close(
            found.double(), right, rtol=4 * torch.finfo(dtype).eps, atol=1e-6 if dtype == torch.float32 else 1e-15
        )
    for now, then in zip((*numerators, *squares), (*before[0], *before[1]), strict=True):
        torch.testing.assert_close(now, then, rtol=torch.finfo(torch.float64).eps * 4, atol=0)


def test_fused_only_where_the_kernel_reads_what_is_meant():
    plain = [torch.zeros(3, 4)]
    assert can_fuse(plain, plain)
    assert not can_fuse(plain, [torch.zeros(4, 3).T])
    assert not can_fuse([torch.zeros(3, dtype=torch.bfloat16)])


@pytest.mark.parametrize("name", ["adahessian", "sassha", "sophiah"])
def test_memory_layout_does_not_matter(name):
    def trained(layout: torch.memory_format) -> torch.Tensor:
        generator = make_generator(0, "test")
        weight = torch.randn(5, 4, 3, 3, generator=generator, dtype=torch.float64)
        p = torch.nn.Parameter(weight.contiguous(memory_format=layout))
        optimizer = get_optimizer(name, [p], lr=0.01)
        for _ in range(12):
            optimizer.step(lambda: (p**4).sum() + p.prod())
        return p.detach().contiguous()

    torch.testing.assert_close(trained(torch.channels_last), trained(torch.contiguous_format), rtol=1e-12, atol=0)


def test_blocks_cover_every_entry_once():
    columns = [[torch.zeros(2 * BLOCK + 5), torch.zeros(3, 7), torch.zeros(BLOCK + 1, 2).T] for _ in range(2)]
    for first, second in blocks(*columns):
        for t, other in zip(first, second, strict=True):
            assert t.shape == other.shape
            t.add_(1)
            other.add_(2)
    assert all((t == 1).all() for t in columns[0])
    assert all((t == 2).all() for t in columns[1])


def test_scratch_is_kept_and_of_the_right_type():
    kept: dict = {}
    like = [torch.zeros(3, 4), torch.zeros(3, 4), torch.zeros(2, dtype=torch.float64)]
    first, second = scratch_like(like, kept), scratch_like(like, kept)
    assert all(a is b for a, b in zip(first, second, strict=True))
    assert first[0] is not first[1]
    assert [(t.shape, t.dtype) for t in first] == [(t.shape, t.dtype) for t in like]
    assert scratch_like([like[0].double()], kept)[0].dtype == torch.float64


def _group(optimizer):
    return optimizer.param_groups[0]


CHANGES = {
    "reset": lambda o, p: o.reset_entries(p, torch.tensor([True, False, True])),
    "fade": lambda o, p: o.fade(0.5),
    "eps": lambda o, p: _group(o).update(eps=0.5),
    "clip_threshold": lambda o, p: _group(o).update(clip_threshold=3.0),
    "load": lambda o, p: o.load_state_dict(_other_state()),
}


def _cubic(p: torch.Tensor) -> torch.Tensor:
    return (p**3).sum()


def _other_state() -> dict:
    p = torch.nn.Parameter(torch.tensor([3.0, 1.0, 2.0]))
    other = get_optimizer("sophiah", [p], lazy_hessian=5)
    for _ in range(6):
        other.step(lambda: _cubic(p))
    return other.state_dict()


@pytest.mark.parametrize("change", CHANGES)
def test_sophias_kept_divisors_follow_every_change(change):
    p = torch.nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
    optimizer = get_optimizer("sophiah", [p], lr=0.01, lazy_hessian=100)
    for _ in range(3):
        optimizer.step(lambda: _cubic(p))
    CHANGES[change](optimizer, p)
    group, state = _group(optimizer), copy.deepcopy(optimizer.state[p])
    gradient = 3 * p.detach() ** 2
    average = state["exp_avg"] + (1 - group["betas"][0]) * (gradient - state["exp_avg"])
    divisor = group["clip_threshold"] * state["hessian"].clamp(min=0) + group["eps"]
    expected = p.detach() - group["lr"] * (average / divisor).clamp(-1, 1)
    waiting = torch.tensor([True, False, True]) & (change == "reset")  # for their first curvature
    expected = torch.where(waiting, p.detach(), expected)
    optimizer.step(lambda: _cubic(p))
    torch.testing.assert_close(p.detach(), expected)


@pytest.mark.parametrize("name", ["adahessian", "sassha", "sophiah"])
def test_an_eps_of_zero_moves_no_dead_entry(name):
    p = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = get_optimizer(name, [p], eps=0.0, lr=0.01)
    for _ in range(3):
        optimizer.step(lambda: (p[0] ** 4) + 0 * p[1])
    assert p[1] == 2
    assert p.isfinite().all()
