"""The offline bundle, and environments that see what a service preinstalls: all of this one but for some packages."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from importlib import metadata
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
OFFLINE = Path(__file__).with_name("offline.py")
sys.path.insert(0, str(ROOT / "lop-packages"))

import build  # noqa: E402


@pytest.fixture(scope="session")
def preinstalled(tmp_path_factory) -> Path:
    """What Kaggle ships, but for one small package that this project needs."""
    path = tmp_path_factory.mktemp("preinstalled") / "freeze.txt"
    lines = build.PREINSTALLED.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith("filelock==")) + "\n")
    return path


@pytest.fixture(scope="session")
def wheels(tmp_path_factory, preinstalled) -> Path:
    """The bundle for the running Python, without the extras, which are large."""
    output = tmp_path_factory.mktemp("bundle") / "wheels"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    arguments = ["--python", version, "--extras", "", "--preinstalled", str(preinstalled), "--output", str(output)]
    assert build.main(arguments) == 0
    return output


class Session:
    """A fresh environment and a place to run notebooks in. without: distributions it does not see."""

    def __init__(self, folder: Path, without: set[str]):
        self.folder, self.home = folder, folder / "home"
        self.python = folder / "venv" / "bin" / "python"
        self.home.mkdir(parents=True)
        venv.create(folder / "venv", symlinks=True)
        own = sysconfig.get_paths(vars={"base": str(folder / "venv"), "platbase": str(folder / "venv")})
        self.site = Path(own["purelib"])
        seen = folder / "preinstalled"
        seen.mkdir()
        unseen = hidden(without) | {"__pycache__"}
        for package in Path(sysconfig.get_paths()["purelib"]).iterdir():
            if package.name not in unseen:
                (seen / package.name).symlink_to(package)
        (self.site / "preinstalled.pth").write_text(f"{seen}\n")

    def installed(self) -> set[str]:
        """What was installed here, not preinstalled."""
        return {build.normalised(found.metadata["Name"]) for found in metadata.distributions(path=[str(self.site)])}

    def run(self, notebook: Path, cwd: Path, environment: dict[str, str], read_only: Path, **parameters):
        """Execute offline; returns the executed notebook and the finished process."""
        output = self.folder / "out.ipynb"
        (self.folder / "parameters.json").write_text(json.dumps(parameters))  # JSON is YAML
        papermill = ["-m", "papermill", str(notebook), str(output), "-k", "python3"]
        papermill += ["-f", str(self.folder / "parameters.json")]
        command = [sys.executable, str(OFFLINE), str(read_only), "--", str(self.python), *papermill]
        finished = subprocess.run(
            command, cwd=cwd, env=self.environment() | environment, capture_output=True, text=True, timeout=500
        )
        return (nbformat.read(output, as_version=4) if output.exists() else None), finished

    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "OMP_NUM_THREADS") if name in os.environ}
        return kept | {"HOME": str(self.home), "MPLBACKEND": "Agg"}


def hidden(names: set[str]) -> set[str]:
    """Entries of site-packages that belong to these distributions."""
    entries = set()
    for found in metadata.distributions(path=[sysconfig.get_paths()["purelib"]]):
        if build.normalised(found.metadata["Name"]) in names:
            entries |= {file.parts[0] for file in found.files or [] if file.parts[0] != ".."}
    return entries


@pytest.fixture
def make_session():
    return Session


@pytest.fixture
def texts():
    """All plain-text outputs of an executed notebook."""

    def found(notebook) -> str:
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)

    return found
