import pytest
import torch

from lop.data import image_task
from lop.data.augment import Augmentation
from lop.data.image_task import ImageTask
from lop.data.pixels import channel_values, resize_images, scale
from lop.utils.errors import UserError


def make_task(size=4, augment=None, count=50, **options):
    images = torch.arange(count)[:, None, None, None].expand(count, 1, 5, 5).to(torch.uint8)
    splits = {"train": (images, torch.arange(count)), "validation": (images[:7], torch.arange(7))}
    return ImageTask(
        index=2,
        active=None,
        epochs=3,
        steps_per_epoch=count // size,
        batch_size=size,
        seed=5,
        splits=splits,
        prepare=scale,
        augment=augment,
        **options,
    )


@pytest.mark.parametrize("chunk", [1, 10, 4096])
@pytest.mark.parametrize("augment", [None, Augmentation(padding=2)])
def test_an_epoch_can_be_entered_at_any_batch(chunk, augment, monkeypatch):
    whole = list(make_task(augment=augment).batches(1))
    monkeypatch.setattr(image_task, "CHUNK", chunk)
    for start in (0, 3, 11, 12):
        rest = list(make_task(augment=augment).batches(1, start))
        assert len(rest) == 12 - start
        for (x, y), (x0, y0) in zip(rest, whole[start:], strict=True):
            assert torch.equal(x, x0)
            assert torch.equal(y, y0)


def test_an_epoch_shows_every_image_at_most_once_with_its_label_in_an_order_of_its_own():
    orders = []
    for epoch in (0, 1):
        x, y = (torch.cat(parts) for parts in zip(*make_task().batches(epoch), strict=True))
        assert len(set(y.tolist())) == 48
        assert torch.equal((x[:, 0, 0, 0] * 255).round().long(), y)
        orders.append(y.tolist())
    assert orders[0] != orders[1]


def test_augmentation_differs_between_epochs_and_leaves_evaluation_alone():
    pattern = torch.arange(25).view(1, 1, 5, 5).repeat(8, 1, 1, 1).to(torch.uint8)
    plain = make_task(count=8)
    task = ImageTask(**{**vars(plain), "splits": {"train": (pattern, torch.arange(8))}, "augment": Augmentation()})
    first, second = (torch.cat([x for x, _ in task.batches(epoch)]) for epoch in (0, 1))
    assert not torch.equal(first, second)
    for x in (task.reference(4)[0], next(task.evaluation("train"))[0]):
        assert torch.equal(x[0], pattern[0] / 255)


def test_evaluation_has_a_limit_and_absent_splits_yield_nothing(monkeypatch):
    monkeypatch.setattr(image_task, "EVALUATION_BATCH", 3)
    task = make_task()
    assert torch.cat([y for _, y in task.evaluation("validation")]).tolist() == list(range(7))
    sample = torch.cat([y for _, y in task.evaluation("train", 20)]).tolist()
    assert len(set(sample)) == 20
    assert sample == torch.cat([y for _, y in task.evaluation("train", 20)]).tolist()
    assert max(sample) > 20  # not the first ones: splits may be sorted by class
    assert list(task.evaluation("test")) == []


def test_scaling_and_resizing():
    images = torch.randint(256, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    mean, std = (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)
    expected = (images / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(scale(images, channel_values(mean, "cpu"), channel_values(std, "cpu")), expected)
    assert resize_images(images, 4).shape == (2, 3, 4, 4)
    assert resize_images(images, 4).dtype == torch.uint8
    constant = torch.full((1, 1, 8, 8), 77, dtype=torch.uint8)
    assert (resize_images(constant, 5) == 77).all()
    with pytest.raises(UserError, match=r"^resize"):
        resize_images(images.float(), 4)
