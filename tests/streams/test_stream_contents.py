"""What the tasks of each stream are made of."""

import pytest
import torch

from lop.utils.errors import UserError


def test_train_and_test_go_through_one_permutation(make):
    stream = make("permuted_mnist")
    original = make("permuted_mnist", permute_first=False).task(0)
    for k in (0, 1, 4):
        permutation = stream.permutation(k)
        assert sorted(permutation.tolist()) == list(range(784))
        for split in ("train", "test"):
            x, y = next(original.evaluation(split))
            px, py = next(stream.task(k).evaluation(split))
            assert torch.equal(px.flatten(1), x.flatten(1)[:, permutation])
            assert torch.equal(py, y)
    assert not torch.equal(stream.permutation(0), stream.permutation(1))


def test_examples_per_task_are_the_same_in_every_task(make):
    stream = make("permuted_mnist", examples_per_task=20, permute_first=False)
    labels = [torch.cat([y for _, y in stream.task(k).evaluation("train")]) for k in (0, 3)]
    assert torch.equal(*labels)
    assert len(labels[0]) == 20
    with pytest.raises(UserError, match=r"^examples_per_task must be 1\.\.60"):
        make("permuted_mnist", examples_per_task=61)


def rows_of(task, split="train"):
    """All images and labels of a split."""
    return tuple(torch.cat(parts) for parts in zip(*task.evaluation(split), strict=True))


def test_redrawn_examples_are_other_images_in_every_task_and_still_pure(make):
    def drawn(stream, k):
        return labelled(*rows_of(stream.task(k)))

    options = {"examples_per_task": 20, "permute_first": False, "redraw": True}
    stream = make("permuted_mnist", **options)
    images = [rows_of(stream.task(k)) for k in range(4)]
    inverse = [None if k == 0 else stream.permutation(k).argsort() for k in range(4)]
    plain = [
        labelled(x if i is None else x.flatten(1)[:, i].view(x.shape), y)
        for (x, y), i in zip(images, inverse, strict=True)
    ]
    available = labelled(*rows_of(make("permuted_mnist", permute_first=False).task(0)))
    assert all(len(y) == 20 for _, y in images)
    assert all(part <= available for part in plain)
    assert all(plain[i] != plain[j] for i in range(4) for j in range(i))
    other = make("permuted_mnist", **options)
    for k in (3, 1, 0, 2):
        assert drawn(other, k) == drawn(stream, k)
    assert stream.task(2).steps_per_epoch == 20 // 7


@pytest.mark.parametrize(
    "name", ["permuted_mnist", "random_label_mnist", "label_permuted", "random_label_cifar", "five_plus_one_cifar"]
)
def test_mean_and_std_normalise_every_split_and_batch_alike(name, make):
    raw_stream, stream = make(name), make(name, mean=[0.5], std=[0.25])
    for k in (0, 1):
        raw_task, task = raw_stream.task(k), stream.task(k)
        pairs = [(next(raw_task.batches(0)), next(task.batches(0))), (raw_task.reference(5), task.reference(5))]
        pairs += [(rows_of(raw_task, s), rows_of(task, s)) for s in ("train", "test") if s in task.splits]
        for (x, y), (normalised, labels) in pairs:
            assert torch.equal(y, labels)
            assert 0 <= x.min() < x.max() <= 1
            assert torch.allclose(normalised, (x - 0.5) / 0.25, atol=1e-6)
    channels = stream.input_shape[0]
    if channels == 3:
        mean, std = [0.1, 0.2, 0.3], [0.5, 1.0, 2.0]
        x, normalised = rows_of(raw_stream.task(0))[0], rows_of(make(name, mean=mean, std=std).task(0))[0]
        for c in range(3):
            assert torch.allclose(normalised[:, c], (x[:, c] - mean[c]) / std[c], atol=1e-6)
    for options, message in (
        ({"mean": [0.5]}, "mean and std must be given together"),
        ({"mean": [0.5, 0.5], "std": [0.5]}, r"mean must have 1 number or \d, one per channel"),
        ({"mean": [0.5], "std": [0.0]}, r"std\[0\] must be > 0"),
        ({"mean": [float("nan")], "std": [1.0]}, r"mean\[0\] must be finite"),
    ):
        with pytest.raises(UserError, match=f"^{message}"):
            make(name, **options)


def raw(x, mean, std):
    """uint8 values of normalised images."""
    return (x * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1)).mul(255).round().to(torch.uint8)


def labelled(images, labels):
    """Hashable pairs."""
    return set(labelled_rows(images, labels))


def test_incremental_cifar_splits_each_class_and_adds_five(make, folder):
    from lop.data import DATASETS
    from lop.data.sources import load_images

    mean, std = DATASETS["cifar100"].mean, DATASETS["cifar100"].std
    stream = make("incremental_cifar")
    assert stream.num_tasks == 20
    data = load_images("cifar100", str(folder), False).splits
    seen = set()
    for k in (0, 1, 19):
        task = stream.task(k)
        active = set(task.active.tolist())
        assert len(active) == 5 * (k + 1)
        assert seen < active
        seen = active
        images = {}
        for split, count in (("train", 4), ("validation", 2), ("test", 2)):
            x, y = (torch.cat(parts) for parts in zip(*task.evaluation(split), strict=True))
            assert sorted(y.tolist()) == sorted(list(active) * count)
            images[split] = labelled(raw(x, mean, std), y)
        assert not images["train"] & images["validation"]
        for split, source in (("train", "train"), ("validation", "train"), ("test", "test")):
            assert images[split] <= labelled(*data[source])


def test_incremental_cifar_trains_on_augmented_images(make):
    plain, augmented = make("incremental_cifar", augment=False).task(1), make("incremental_cifar").task(1)
    (x, y), (ax, ay) = next(plain.batches(0)), next(augmented.batches(0))
    assert torch.equal(y, ay)
    assert not torch.equal(x, ax)
    with pytest.raises(UserError, match=r"^num_tasks must be <= 20"):
        make("incremental_cifar", num_tasks=21)
    with pytest.raises(UserError, match=r"^validation_per_class must be"):
        make("incremental_cifar", validation_per_class=6)


@pytest.mark.parametrize(("name", "total", "each"), [("imagenet", 10, 2), ("tiny_imagenet", 8, 3)])
def test_class_subsets_use_every_class_before_one_comes_again(name, total, each, make):
    stream = make(name)
    turns = total // each
    for turn in (0, 1):
        classes = [c for k in range(turn * turns, (turn + 1) * turns) for c in stream.classes(k)]
        assert len(set(classes)) == len(classes) == each * turns
    assert stream.classes(0) != stream.classes(turns)
    assert stream.num_outputs == each


def test_imagenet_images_carry_their_class(make):
    stream = make("imagenet")
    task = stream.task(3)
    for split, per_class in (("train", 12), ("test", 2)):
        x, y = next(task.evaluation(split))
        assert len(y) == 2 * per_class
        value = ((x[:, 0, 0, 0] + 1) * 255 / 2).round().long()
        first = torch.tensor(stream.classes(3))[y] * 10
        assert ((value - first >= 0) & (value - first < 14)).all()
    assert len(next(make("imagenet", train_per_class=3).task(0).evaluation("train"))[1]) == 6


def test_tiny_imagenet_is_resized(make):
    assert make("tiny_imagenet").input_shape == (3, 32, 32)
    assert make("tiny_imagenet", resize=None).task(0).reference(2)[0].shape == (2, 3, 64, 64)


def test_random_labels_keep_the_images_and_change_the_labels(make):
    stream = make("random_label_mnist")
    pairs = [next(stream.task(k).evaluation("train")) for k in (0, 1)]
    assert torch.equal(pairs[0][0], pairs[1][0])
    assert 0.5 < (pairs[0][1] != pairs[1][1]).float().mean() < 1
    with pytest.raises(UserError, match=r"^num_examples must be 1\.\.60"):
        make("random_label_mnist", num_examples=61)


def test_permuted_labels_keep_the_number_of_images_per_class(make, folder):
    from lop.data.sources import load_images

    stream = make("random_label_mnist", labels="permuted")
    true = dict(labelled_rows(*load_images("mnist", str(folder), False).splits["train"]))
    images, first = rows_of(stream.task(0))
    own = torch.tensor([true[image.mul(255).round().to(torch.uint8).numpy().tobytes()] for image in images])
    for k in range(4):
        x, labels = rows_of(stream.task(k))
        assert torch.equal(x, images)
        assert torch.equal(labels.bincount(minlength=10), own.bincount(minlength=10))
        assert not torch.equal(labels, own)
    assert not torch.equal(rows_of(stream.task(1))[1], first)
    counts = rows_of(make("random_label_mnist").task(0))[1].bincount(minlength=10)
    assert not torch.equal(counts, own.bincount(minlength=10))


def labelled_rows(images, labels):
    """Pairs of an image's bytes and its label."""
    return [(image.numpy().tobytes(), label) for image, label in zip(images, labels.tolist(), strict=True)]


def test_five_plus_one_alternates_and_repeats_no_class(make):
    stream = make("five_plus_one_cifar")
    classes = [stream.classes(k) for k in range(30)]
    assert [len(c) for c in classes] == [5, 1] * 15
    assert len({c for part in classes for c in part}) == 90
    for k in (2, 3):
        task = stream.task(k)
        assert set(next(task.evaluation("test"))[1].tolist()) == set(classes[k])
        assert task.epochs * task.steps_per_epoch == 14
    with pytest.raises(UserError, match=r"^num_tasks needs 107 classes"):
        make("five_plus_one_cifar", num_tasks=35)


@pytest.mark.parametrize("flip", ["all", "one"])
def test_slow_bits_change_between_tasks_alone(flip, make):
    stream = make("slowly_changing_regression", flip=flip, num_tasks=40)
    x = [next(stream.task(k).evaluation("train"))[0] for k in range(40)]
    changed = []
    for k, rows in enumerate(x):
        assert (rows[:, :15] == rows[0, :15]).all()
        assert torch.equal(rows[0, :15], stream.slow(k))
        assert 0.3 < rows[:, 15:].mean() < 0.7
        if k:
            changed.append(int((rows[0, :15] != x[k - 1][0, :15]).sum()))
    assert changed == [1] * 39 if flip == "one" else 6 < sum(changed) / 39 < 9
    rows, y = next(stream.task(3).evaluation("train"))
    assert torch.equal(y, stream.target(rows))
    assert y.std() > 0
