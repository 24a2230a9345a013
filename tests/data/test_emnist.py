"""EMNIST's balanced split: the files of its archive, small, and in the layout that torchvision unpacks them to."""

import gzip
import hashlib
import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from generated_data import idx_bytes
from torchvision.datasets import EMNIST

import lop
from lop.data import DATASETS, RemoteFile, locate
from lop.data.download import download
from lop.data.sources import load_images
from lop.utils.errors import UserError

CLASSES, NUMBERS = 47, {"train": 94, "test": 47}


@pytest.fixture(autouse=True)
def _nothing_else_is_found(monkeypatch, tmp_path):
    monkeypatch.setattr(locate, "KAGGLE_INPUT", tmp_path / "kaggle")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def files() -> dict[str, bytes]:
    """{name: IDX content} of the balanced split, and of another one that lies beside it."""
    rng = np.random.default_rng(0)
    content = {}
    for kind in ("balanced", "letters"):
        for split, count in NUMBERS.items():
            images = rng.integers(0, 256, (count, 28, 28), np.uint8)
            labels = rng.permutation(np.arange(count) % CLASSES).astype(np.uint8)
            content[f"emnist-{kind}-{split}-images-idx3-ubyte"] = idx_bytes(images)
            content[f"emnist-{kind}-{split}-labels-idx1-ubyte"] = idx_bytes(labels)
    return content


@pytest.fixture
def small(monkeypatch):
    """The record with the small files' numbers: everything is verified."""
    record = replace(DATASETS["emnist"], images=tuple(NUMBERS.values()))
    monkeypatch.setitem(DATASETS, "emnist", record)
    return record


def write(folder, files, gz=False):
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / (name + ".gz" * gz)).write_bytes(gzip.compress(content) if gz else content)


def archive(files) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        target.mkdir("gzip") if hasattr(target, "mkdir") else None
        for name, content in files.items():
            target.writestr(f"gzip/{name}.gz", gzip.compress(content))
        target.writestr("gzip/emnist-balanced-mapping.txt", "0 48")
    return buffer.getvalue()


@pytest.mark.parametrize(("folder", "gz"), [("EMNIST/raw", False), ("emnist", True)])
@pytest.mark.usefixtures("small")
def test_it_is_what_torchvision_reads(folder, gz, files, tmp_path):
    write(tmp_path / "data" / folder, files, gz)
    data = load_images("emnist")
    assert (data.num_classes, data.image_shape) == (47, (1, 28, 28))
    write(tmp_path / "reference" / "EMNIST" / "raw", files)
    for split in NUMBERS:
        reference = EMNIST(tmp_path / "reference", "balanced", train=split == "train")
        images, labels = data.splits[split]
        assert torch.equal(images[:, 0], reference.data)
        assert torch.equal(labels, reference.targets)
        assert sorted(set(labels.tolist())) == list(range(47)) == [*range(len(reference.classes))]


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("emnist-balanced-train-labels-idx1-ubyte", lambda content: content[:-1] + b"\x2f", "of 48 classes instead of"),
        ("emnist-balanced-test-images-idx3-ubyte", lambda content: content[:-7], "is truncated or corrupt"),
        ("emnist-balanced-test-images-idx3-ubyte", None, "not found: run"),
    ],
)
@pytest.mark.usefixtures("small")
def test_damage_is_refused(name, change, words, files, tmp_path):
    files[name] = change(files[name]) if change else None
    write(tmp_path / "data" / "EMNIST" / "raw", {name: content for name, content in files.items() if content})
    with pytest.raises(UserError, match=words):
        load_images("emnist")


def test_the_published_numbers_are_required_when_verified(files, tmp_path):
    write(tmp_path / "data" / "EMNIST" / "raw", files)
    with pytest.raises(UserError, match=r"94 \+ 47 images .* instead of 112800 \+ 18800 images"):
        load_images("emnist")
    assert load_images("emnist", verify=False).num_classes == 47


def test_a_download_puts_the_four_files_in_place(server, small, files, tmp_path, monkeypatch):
    content = archive(files)
    server.files["/gzip.zip"] = content
    published = small.downloads[0]
    assert (published.md5, published.name) == ("58c8d27c78d21e728a6bc7b3cc06412e", "gzip.zip")
    assert (EMNIST.md5, EMNIST.url) == (published.md5, published.urls[0])
    served = RemoteFile("gzip.zip", (f"{server.url}/gzip.zip",), hashlib.md5(content).hexdigest(), len(content))
    monkeypatch.setitem(DATASETS, "emnist", replace(small, downloads=(served,)))
    where = download("emnist")
    assert where == tmp_path / "data" / "emnist" or where.resolve() == tmp_path / "data" / "emnist"
    assert sorted(path.name for path in where.iterdir()) == sorted(f"{name}.gz" for name in small.files)
    (where / "emnist-balanced-test-labels-idx1-ubyte.gz").write_bytes(b"bad")
    download("emnist")
    assert load_images("emnist").splits["test"][1].shape == (47,)
    monkeypatch.setitem(DATASETS, "emnist", replace(small, downloads=(replace(served, md5="0" * 32),)))
    (where / "emnist-balanced-test-labels-idx1-ubyte.gz").write_bytes(b"bad")
    with pytest.raises(UserError, match="wrong checksum"):
        download("emnist")


def test_an_archive_without_the_balanced_split(server, small, files, monkeypatch):
    content = archive({name: text for name, text in files.items() if "letters" in name})
    server.files["/gzip.zip"] = content
    served = RemoteFile("gzip.zip", (f"{server.url}/gzip.zip",), hashlib.md5(content).hexdigest(), len(content))
    monkeypatch.setitem(DATASETS, "emnist", replace(small, downloads=(served,)))
    with pytest.raises(UserError, match="does not hold gzip/emnist-balanced-test-images"):
        download("emnist")


@pytest.mark.parametrize(
    ("benchmark", "options"),
    [
        ("permuted_mnist", {"epochs": 1, "batch_size": 10}),
        ("random_label_mnist", {"epochs": 1, "num_examples": 40, "batch_size": 10}),
    ],
)
@pytest.mark.usefixtures("small")
def test_it_goes_wherever_mnist_goes(benchmark, options, files, tmp_path):
    write(tmp_path / "data" / "EMNIST" / "raw", files)
    overrides = {f"benchmark.{name}": value for name, value in options.items()}
    overrides |= {"benchmark.dataset": "emnist", "benchmark.num_tasks": 2, "net.hidden": [8], "run.threads": 1}
    config = lop.make_config(benchmark=benchmark, overrides={**overrides, "run.results_dir": str(tmp_path / "out")})
    result = lop.run(config, summaries=False)
    assert (result.status, len(result.tasks)) == ("finished", 2)
