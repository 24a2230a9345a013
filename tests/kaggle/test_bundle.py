"""The offline bundle and the folders for Kaggle, checked by pip's and Kaggle's own rules."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import build
import kaggle_bundle
import numpy as np
import pytest
import requests
from generated_data import idx_bytes, write_cifar

from lop.data import DATASETS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folders(wheels, tmp_path_factory) -> Path:
    data = tmp_path_factory.mktemp("data")
    (data / "mnist").mkdir()
    (data / "mnist" / "images.gz").write_bytes(b"images")
    output = tmp_path_factory.mktemp("kaggle") / "bundle"
    assert kaggle_bundle.main(["someone", "--output", str(output), "--wheels", str(wheels), "--data", str(data)]) == 0
    return output


def test_hashes_are_those_of_the_wheels(wheels):
    lines = (wheels / "SHA256SUMS").read_text().splitlines()
    expected = {line.split("  ")[1]: line.split("  ")[0] for line in lines}
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in wheels.glob("*.whl")}
    assert found == expected


def test_the_bundle_holds_what_is_missing_and_nothing_that_is_there(wheels, preinstalled):
    names = {build.normalised(path.name.split("-")[0]) for path in wheels.glob("*.whl")}
    assert {"lop", "filelock"} <= names
    assert not names & set(build.read_preinstalled(preinstalled))
    assert not [name for name in names if name.startswith(("torch", "nvidia", "triton", "numpy"))]


def test_the_projects_wheel_holds_the_package_and_its_configs(wheels):
    (wheel,) = wheels.glob("lop-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "lop-src" / "lop"
    sources = {f"lop/{path.relative_to(package)}" for path in package.rglob("*.py")}
    configs = {f"lop/{path.relative_to(package)}" for path in package.rglob("cfg/**/*") if path.is_file()}
    assert len(configs) > 50
    assert sources | configs <= names


def test_a_list_without_torch_is_refused(tmp_path, capsys):
    path = tmp_path / "freeze.txt"
    path.write_text("numpy==1.26.4\n")
    assert build.main(["--preinstalled", str(path), "--output", str(tmp_path / "wheels")]) == 1
    assert "torch" in capsys.readouterr().err


def test_a_frozen_list_is_read_as_pip_writes_it(tmp_path):
    path = tmp_path / "freeze.txt"
    path.write_text("# x\ntorch==2.6.0+cu124\ntorchvision==0.21.0\nJinja2==3.1.6\nmine @ file:///x\nzope.a_b==1\n")
    expected = {"torch": "2.6.0", "torchvision": "0.21.0", "jinja2": "3.1.6", "zope-a-b": "1"}
    assert build.read_preinstalled(path) == expected


def test_stand_ins_are_wheels_that_pip_takes(tmp_path):
    build.write_stand_in(tmp_path, "some-name", "1.2" + build.LOCAL)
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-index", "--find-links", str(tmp_path)]
    subprocess.run([*command, "-d", str(tmp_path / "got"), "some-name==1.2"], check=True)
    assert [path.name for path in (tmp_path / "got").iterdir()] == ["some_name-1.2+preinstalled-py3-none-any.whl"]


def write_wheel(folder: Path, name: str, *requires: str) -> None:
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n" + "".join(f"Requires-Dist: {r}\n" for r in requires)
    with zipfile.ZipFile(folder / f"{name}-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}-1.dist-info/METADATA", text)


def test_what_only_the_target_needs_is_asked_for(tmp_path):
    write_wheel(tmp_path, "lop", "a", 'b[fast]; extra == "rl"', 'c; extra == "docs"')
    write_wheel(tmp_path, "a", 'new>=3; python_version == "3.99"', 'here; python_version < "3.99"')
    write_wheel(tmp_path, "b", 'quick; extra == "fast"', 'mac; sys_platform == "darwin"', "A")

    def asked(wanted: str, python: str, platform: str) -> list[str]:
        return build.missing(tmp_path.glob("*.whl"), wanted, python, [platform])

    assert asked("lop", "3.99", "manylinux_2_28_x86_64") == ["new>=3"]
    assert asked("lop", "3.12", "manylinux_2_28_x86_64") == ["here"]
    assert asked("lop[rl]", "3.99", "manylinux_2_28_x86_64") == ["new>=3", "quick"]
    assert asked("lop[rl]", "3.99", "macosx_11_0_arm64") == ["mac", "new>=3", "quick"]
    write_wheel(tmp_path, "new")
    assert asked("lop", "3.99", "manylinux_2_28_x86_64") == []


class Client:
    """Stands where the kaggle package talks to its service; keeps what would have been sent."""

    def __init__(self):
        self.sent = []
        self.kernels = SimpleNamespace(kernels_api_client=self)
        self.datasets = SimpleNamespace(dataset_api_client=self)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    def save_kernel(self, request):
        self.sent.append(request)
        return request

    def create_dataset(self, request):
        self.sent.append(request)
        return SimpleNamespace(error=None)


@pytest.fixture
def api(monkeypatch, tmp_path):
    """The real package, without a login and without a network."""
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("KAGGLE_USERNAME", "someone")
    monkeypatch.setenv("KAGGLE_KEY", "0" * 32)
    from kaggle.api.kaggle_api_extended import KaggleApi

    one, client = KaggleApi(), Client()
    one.config_values = {one.CONFIG_NAME_USER: "someone"}
    monkeypatch.setattr(one, "build_kaggle_client", lambda *args, **options: client)

    def status(*args, **options):
        raise requests.HTTPError("404")

    monkeypatch.setattr(one, "dataset_status", status)
    monkeypatch.setattr(
        one, "upload_files", lambda request, resources, folder, *rest, **options: uploads.append(folder)
    )
    monkeypatch.setattr(one, "with_retry", lambda function, *args, **options: function)
    uploads = []
    return SimpleNamespace(api=one, client=client, uploads=uploads)


def test_kaggle_takes_the_kernel(api, folders, capsys):
    api.api.kernels_push(str(folders / "kernel"))
    (request,) = api.client.sent
    assert request.slug == "someone/loss-of-plasticity"
    assert "does not resolve" not in capsys.readouterr().out  # of a title and an id that differ
    assert (request.enable_gpu, request.enable_internet, request.is_private) == (True, False, True)
    assert request.dataset_data_sources == ["someone/lop-source", "someone/lop-packages", "someone/lop-data"]
    assert "loss of plasticity" in request.text


def test_kaggle_takes_the_data_sets(api, folders):
    made = sorted((folders / "datasets").iterdir())
    for folder in made:
        api.api.dataset_create_new(str(folder), dir_mode="zip", quiet=True)
    assert [request.slug for request in api.client.sent] == ["lop-data", "lop-packages", "lop-source"]
    assert api.uploads == [str(folder) for folder in made]
    attached = json.loads((folders / "kernel" / "kernel-metadata.json").read_text())["dataset_sources"]
    assert sorted(attached) == [f"someone/{request.slug}" for request in api.client.sent]


@pytest.mark.parametrize("change", [{"title": "abc"}, {"language": "cobol"}, {"code_file": "gone.ipynb"}])
def test_the_check_would_see_a_mistake(api, folders, tmp_path, change):
    source = folders / "kernel"
    metadata = json.loads((source / "kernel-metadata.json").read_text()) | change
    (tmp_path / "kernel-metadata.json").write_text(json.dumps(metadata))
    (tmp_path / "run-expr.ipynb").write_bytes((source / "run-expr.ipynb").read_bytes())
    with pytest.raises(ValueError, match=r"Title|language|Source"):
        api.api.kernels_push(str(tmp_path))


def test_folders_hold_what_they_say(folders, wheels):
    source, packages = folders / "datasets" / "source", folders / "datasets" / "packages"
    assert (source / "lop-src" / "lop" / "runner.py").exists()
    assert not list(source.rglob("__pycache__"))
    assert {path.name for path in packages.glob("*.whl")} == {path.name for path in wheels.glob("*.whl")}
    assert (folders / "datasets" / "data" / "mnist" / "images.gz").read_bytes() == b"images"
    for folder in (source, packages):  # whichever of them is attached, a notebook finds it
        assert (folder / "install_lop.py").read_bytes() == (ROOT / "lop-packages" / "install_lop.py").read_bytes()


def test_the_data_sets_in_the_folder_are_described(tmp_path):
    (tmp_path / "emnist").mkdir()
    for name in DATASETS["emnist"].files:
        (tmp_path / "emnist" / name).write_bytes(idx_bytes(np.zeros(3, np.uint8)))
    write_cifar(tmp_path / "cifar-100-python")
    lines = kaggle_bundle.contents(tmp_path)["description"].splitlines()
    assert [line.split(":")[0] for line in lines] == ["- `cifar100`", "- `emnist`"]
    assert lines[1].endswith("(Cohen 2017), 131,600 images")
    assert kaggle_bundle.contents(tmp_path / "nothing") == {}


def test_without_data_there_is_no_data_set_of_it(wheels, tmp_path):
    arguments = ["someone", "--output", str(tmp_path / "out"), "--wheels", str(wheels), "--data", str(tmp_path / "no")]
    assert kaggle_bundle.main(arguments) == 0
    metadata = json.loads((tmp_path / "out" / "kernel" / "kernel-metadata.json").read_text())
    assert metadata["dataset_sources"] == ["someone/lop-source", "someone/lop-packages"]


@pytest.mark.parametrize(("user", "wheels_in"), [("Some One", True), ("", True), ("someone", False)])
def test_what_cannot_be_uploaded_is_one_line(wheels, tmp_path, capsys, user, wheels_in):
    folder = wheels if wheels_in else tmp_path
    assert kaggle_bundle.main([user, "--output", str(tmp_path / "out"), "--wheels", str(folder)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_make_asks_for_the_name_and_does_not_take_the_shells(tmp_path):
    command = ["make", "-n", "-C", str(ROOT), "kaggle"]
    asked = subprocess.run(command, env=os.environ | {"USER": "root"}, capture_output=True, text=True)
    assert asked.returncode != 0
    assert "make kaggle USER=name" in asked.stderr
    given = subprocess.run([*command, "USER=someone"], capture_output=True, text=True)
    assert "kaggle_bundle.py someone" in given.stdout
