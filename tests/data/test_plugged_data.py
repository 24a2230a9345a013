"""A data set from outside the package: one file, one record, and every door knows it."""

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lop
from lop.data import DATASETS
from lop.utils.errors import MissingDataError, UserError

ROOT = Path(__file__).parents[2]
PLUGIN = """
import numpy as np
import lop


@lop.dataset(
    "plugged_stripes",
    description="Stripes at three heights",
    images=(48, 12),
    classes=3,
    image_shape=(1, 6, 6),
    files={{"stripes.npz": "{md5}"}},
    downloads=(lop.RemoteFile("stripes.npz", ("{url}/stripes.npz",), "{md5}", {size}),),
)
def stripes(found):
    with np.load(found.file("stripes.npz")) as arrays:
        return {{split: (arrays[split], arrays[split + "_labels"]) for split in ("train", "test")}}
"""


def stripes() -> bytes:
    arrays = {}
    for split, count in (("train", 48), ("test", 12)):
        labels = np.arange(count) % 3
        arrays[split] = np.zeros((count, 6, 6), np.uint8)
        arrays[split][np.arange(count), 2 * labels] = 255
        arrays[f"{split}_labels"] = labels
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.fixture
def plugin(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = stripes()
    server.files["/stripes.npz"] = content
    path = tmp_path / "plugged_data.py"
    path.write_text(PLUGIN.format(md5=hashlib.md5(content).hexdigest(), url=server.url, size=len(content)))
    yield path
    DATASETS.pop("plugged_stripes", None)
    sys.modules.pop("plugged_data", None)


def settings(plugin):
    chosen = {"dataset": "plugged_stripes", "num_tasks": 2, "batch_size": 4, "epochs": 20}
    return {
        **{f"benchmark.{name}": value for name, value in chosen.items()},
        "net.hidden": [16],
        "run.plugins": [str(plugin)],
        "run.threads": 1,
        "run.results_dir": "out",
    }


def download_data(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "download_data.py"), *map(str, arguments)]
    return subprocess.run(command, text=True, capture_output=True, env={**os.environ, "no_proxy": "*"})


def test_it_is_downloaded_listed_verified_and_learned(plugin):
    config = lop.make_config(benchmark="permuted_mnist", overrides=settings(plugin))
    with pytest.raises(MissingDataError) as missing:
        lop.run(config)
    assert missing.value.dataset == "plugged_stripes"
    assert f"python download_data.py plugged_stripes --plugin {plugin}" in str(missing.value)

    assert "plugged_stripes Stripes at three heights, 60 images 1x6x6  [to fetch" in (
        download_data("--plugin", plugin).stdout
    )
    done = download_data("plugged_stripes", "--plugin", plugin)
    assert (done.returncode, done.stdout.strip()) == (0, "plugged_stripes: ready in data/plugged_stripes")

    result = lop.run(config, summaries=False)
    assert result.status == "finished"
    assert result.tasks["test_acc_after"].tolist() == [1.0, 1.0]
    assert lop.load("out").runs["data"].tolist() == [
        "plugged_stripes from data/plugged_stripes: 48 training images per task"
    ]

    Path("data/plugged_stripes/stripes.npz").write_bytes(stripes() + b"x")
    with pytest.raises(UserError, match=r"stripes.npz is not the published file \(MD5"):
        DATASETS["plugged_stripes"].load()


def test_a_loader_that_gives_something_else_is_refused(plugin):
    Path("data/plugged_stripes").mkdir(parents=True)
    Path("data/plugged_stripes/stripes.npz").write_bytes(stripes())
    text = plugin.read_text().replace("images=(48, 12)", "images=(50, 12)")
    plugin.write_text(text)
    lop.make_config(benchmark="permuted_mnist", overrides=settings(plugin))
    with pytest.raises(UserError, match=r"holds 48 \+ 12 images .* instead of 50 \+ 12 images"):
        DATASETS["plugged_stripes"].load()
    assert DATASETS["plugged_stripes"].load(verify=False).num_classes == 3


def test_a_name_that_is_taken(plugin):
    plugin.write_text(plugin.read_text().replace('"plugged_stripes"', '"mnist"'))
    with pytest.raises(UserError, match=r"dataset 'mnist' is taken \(by lop.data.mnist\)"):
        lop.make_config(benchmark="permuted_mnist", overrides=settings(plugin))
