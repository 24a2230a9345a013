"""Every supervised stream, on generated data in the real formats: pure in (seed, k), one layout for all splits."""

import pytest
import torch
from small_streams import NAMES, content, same

from lop.experiment import make_stream
from lop.plan import make_config
from lop.utils.errors import UserError


@pytest.mark.parametrize("name", NAMES)
def test_a_task_is_a_pure_function_of_seed_and_index(name, make):
    one, other = make(name), make(name)
    in_order = [content(one.task(k)) for k in range(4)]
    for k in (3, 0, 2, 1):
        assert same(content(other.task(k)), in_order[k])
        assert same(content(one.task(k)), in_order[k])
    assert not same(in_order[1], in_order[2])
    assert not same(content(make(name, seed=1).task(1)), in_order[1])


@pytest.mark.parametrize("name", NAMES)
def test_the_protocol(name, make):
    stream = make(name)
    assert stream.data_description
    task = stream.task(stream.num_tasks - 1)
    assert task.index == stream.num_tasks - 1
    whole = list(task.batches(task.epochs - 1))
    assert len(whole) == task.steps_per_epoch >= 1
    for x, y in whole:
        assert x.shape == (task.batch_size, *stream.input_shape)
        assert x.dtype == torch.float32
        if stream.loss == "mse":
            assert y.shape == (task.batch_size, stream.num_outputs)
        else:
            assert y.dtype == torch.int64
            assert 0 <= y.min() <= y.max() < stream.num_outputs
            if task.active is not None:
                assert set(y.tolist()) <= set(task.active.tolist())
    start = task.steps_per_epoch // 2
    assert same([t for b in task.batches(0, start) for t in b], [t for b in list(task.batches(0))[start:] for t in b])
    assert len(task.reference(6)[0]) == 6


@pytest.mark.parametrize("name", NAMES)
def test_impossible_options_are_refused_by_name(name, make):
    for option, value in (("num_tasks", 0), ("batch_size", 0), ("batch_size", 10**9)):
        with pytest.raises(UserError, match=rf"^(benchmark\.)?{option} must be"):
            make(name, **{option: value}).task(0)


@pytest.mark.parametrize(
    ("name", "option"),
    [("permuted_digits", "examples_per_task"), ("growing", "examples"), ("random_label_mnist", "num_examples")],
)
def test_more_or_fewer_examples_than_there_are_is_refused_by_name(name, option, make):
    for value in (0, 10**6):
        with pytest.raises(UserError, match=rf"^{option} must be 1\.\.\d+ with .+, got {value}$"):
            make(name, **{option: value})


@pytest.mark.parametrize("name", ["permuted_digits", "incremental_cifar", "imagenet"])
def test_no_data_set_is_the_folder_here(name):
    with pytest.raises(UserError, match=r"^dataset is empty: give a folder of images, or one of .*digits"):
        make_stream(name, {"dataset": ""}, 0, None, "cpu")


def test_what_every_image_stream_takes_has_its_types():
    with pytest.raises(UserError, match=r"^benchmark\.mean: .* list, got 'x'"):
        make_config(benchmark="random_label_mnist", overrides={"benchmark.mean": "x"})
    with pytest.raises(UserError, match=r"^benchmark\.verfy: unknown key; did you mean 'verify'"):
        make_config(benchmark="permuted_digits", overrides={"benchmark.verfy": False})


def test_unknown_names_have_near_matches():
    with pytest.raises(UserError, match="did you mean 'permuted_mnist'"):
        make_stream("permuted_mnst", {}, 0, None, "cpu")
