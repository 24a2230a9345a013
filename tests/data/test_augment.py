"""Batched augmentation against torchvision's transforms of single images."""

import pytest
import torch
import torchvision.transforms as T
import torchvision.transforms.functional as F

from lop.data.augment import Augmentation, Transforms
from lop.utils.errors import UserError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("size", "padding", "degrees"), [((32, 32), 4, 15.0), ((9, 14), 3, 90.0), ((8, 8), 0, 0.0)])
def test_pixel_by_pixel_with_fixed_parameters(size, padding, degrees):
    augmentation = Augmentation(padding=padding, degrees=degrees)
    images = torch.rand(60, 3, *size, generator=generator())
    t = augmentation.draw(len(images), generator(1))
    result, inside = augmentation.apply(images, t)
    for i, image in enumerate(images):
        image = F.hflip(image) if t.flip[i] else image
        image = F.pad(image, padding, padding_mode="reflect") if padding else image
        image = F.crop(image, int(t.top[i]), int(t.left[i]), *size)
        expected = F.rotate(image, float(t.angle[i]))
        assert torch.equal(result[i] * inside[i], expected)


def test_an_identity():
    zero = torch.zeros(5, dtype=torch.int64)
    t = Transforms(zero.bool(), zero + 4, zero + 4, zero.float())
    images = torch.randint(256, (5, 3, 32, 32), generator=generator()).to(torch.uint8)
    result, inside = Augmentation().apply(images, t)
    assert torch.equal(result, images)
    assert inside.all()


def test_the_distribution_is_torchvisions():
    """Mean and standard deviation of every pixel over many draws, for one image."""
    image = torch.rand(1, 12, 12, generator=generator())
    reference = T.Compose(
        [T.RandomHorizontalFlip(), T.RandomCrop(12, 4, padding_mode="reflect"), T.RandomRotation((0, 15))]
    )
    count = 4000
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # torchvision draws from the global generator alone
        theirs = torch.stack([reference(image) for _ in range(count)])
    augmentation = Augmentation()
    ours, inside = augmentation.apply(image.expand(count, 1, 12, 12), augmentation.draw(count, generator()))
    ours = ours * inside
    error = (theirs.var(0) / count + ours.var(0) / count).sqrt() + 1e-6
    assert ((ours.mean(0) - theirs.mean(0)) / error).abs().max() < 5
    assert (ours.std(0) - theirs.std(0)).abs().max() < 0.03


def test_parameters_cover_their_ranges():
    t = Augmentation().draw(20_000, generator())
    assert abs(t.flip.float().mean() - 0.5) < 0.02
    for corner in (t.top, t.left):
        assert torch.bincount(corner, minlength=9).min() > 20_000 / 9 * 0.9
        assert corner.max() == 8
    assert 0 <= t.angle.min() < 0.1
    assert 14.9 < t.angle.max() < 15
    assert abs(t.angle.mean() - 7.5) < 0.15
    assert abs(torch.corrcoef(torch.stack((t.top.float(), t.left.float())))[0, 1]) < 0.03


def test_bad_options():
    with pytest.raises(UserError, match=r"^flip must be"):
        Augmentation(flip=2)
    with pytest.raises(UserError, match=r"^padding must be"):
        Augmentation(padding=-1)
