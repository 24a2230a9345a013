"""The offline bundle: wheels of this project and of what the place it goes to does not ship, with their hashes.

    python lop-packages/build.py                     # for Kaggle -> lop-packages/wheels
    python lop-packages/build.py --all               # everything but torch
    python lop-packages/build.py --python 3.10 --platform macosx_11_0_arm64 --output build/mac

pip resolves against stand-ins for the packages that are there already (`kaggle-preinstalled.txt`), of the same name
and version and without content, so that nothing is bundled twice and nothing asks for a newer numpy or torch. It takes
conditions like `python_version == "3.12"` to be about the Python it runs on; what is needed on the other one only is
asked for as well.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from email.parser import HeaderParser
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PREINSTALLED = HERE / "kaggle-preinstalled.txt"
HASHES = "SHA256SUMS"
INSTALLER = HERE / "install_lop.py"  # what a notebook runs where lop is not there yet: it travels with the wheels
PYTHONS = ("3.11", "3.12")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
LOCAL = "+preinstalled"  # makes a stand-in win against the real wheel of the same version
SYSTEMS = {
    "manylinux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
    "macosx": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
    "win": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"},
}
TORCH = {"torch", "torchvision"}  # a pair, and as large as everything else together


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        present = read_preinstalled(options.preinstalled)
        if options.all:
            present = {name: version for name, version in present.items() if name in TORCH}
        wheels = build(
            options.output,
            pythons=options.python,
            platforms=options.platform,
            present=present,
            extras=options.extras,
        )
    except (subprocess.CalledProcessError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in wheels) / 2**20
    print(f"{options.output}: {len(wheels)} wheels, {size:.1f} MiB, hashes in {HASHES}")
    return 0


def parser() -> argparse.ArgumentParser:
    described = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    described.add_argument("--python", nargs="+", default=PYTHONS, metavar="X.Y", help="default: 3.11 3.12")
    described.add_argument("--platform", nargs="+", default=PLATFORMS, help="wheel platforms, any of which will do")
    described.add_argument("--output", type=Path, default=HERE / "wheels", help="default: lop-packages/wheels")
    described.add_argument("--extras", default="rl,optimizers", help="of this project; default: rl,optimizers")
    described.add_argument("--preinstalled", type=Path, default=PREINSTALLED, help="a list as `pip freeze` prints it")
    described.add_argument("--all", action="store_true", help="leave out nothing but torch and torchvision")
    return described


def read_preinstalled(path: Path) -> dict[str, str]:
    """{normalised name: version} of the `name==version` lines; a local version (+cu124) is dropped."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.match(r"([A-Za-z0-9][\w.-]*)==([^\s+;]+)", line)
        if match:
            found[normalised(match[1])] = match[2]
    if not set(found) >= TORCH:
        raise ValueError(f"{path}: no line torch== or torchvision==, so the bundle would hold torch; add them")
    return found


def normalised(name: str) -> str:
    """As package indexes compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def build(
    output: Path, *, pythons: list[str], platforms: list[str], present: dict[str, str], extras: str = ""
) -> list[Path]:
    """Make the bundle in a new folder that takes the old one's place. Returns its wheels."""
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        stand_ins, wheels = scratch / "stand-ins", scratch / "wheels"
        stand_ins.mkdir()
        wheels.mkdir()
        for name, version in present.items():
            write_stand_in(stand_ins, name, version + LOCAL)
        own = project_wheel(scratch)
        constraints = scratch / "constraints.txt"
        constraints.write_text("".join(f"{name}=={version}{LOCAL}\n" for name, version in present.items()))
        for python in pythons:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
            command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
            command += [f"--platform={name}" for name in platforms]
            command += ["--find-links", str(stand_ins), "-c", str(constraints), "-d", str(scratch / python)]
            wanted = [f"{own}[{extras}]" if extras else str(own)]
            while True:
                subprocess.run([*command, *wanted], check=True)
                more = missing((scratch / python).glob("*.whl"), f"lop[{extras}]", python, platforms)
                if not more:
                    break
                if not set(more) - set(wanted):
                    raise ValueError(f"pip does not bring {', '.join(more)} for Python {python}")
                wanted += more
            for path in (scratch / python).glob("*.whl"):
                if LOCAL not in path.name:
                    shutil.copy(path, wheels)
        found = sorted(wheels.glob("*.whl"))
        sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in found]
        (wheels / HASHES).write_text("".join(sums))
        shutil.copy(INSTALLER, wheels)
        if output.exists():
            shutil.rmtree(output)
        shutil.copytree(wheels, output)
    return sorted(output.glob("*.whl"))


def missing(wheels: Iterable[Path], wanted: str, python: str, platforms: Iterable[str]) -> list[str]:
    """What `wanted` needs on that Python and platform, directly or not, of which there is no wheel."""
    metadata = {}
    for path in wheels:
        with zipfile.ZipFile(path) as wheel:
            (name,) = [name for name in wheel.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
            described = HeaderParser().parsestr(wheel.read(name).decode())
        metadata[normalised(described["Name"])] = described.get_all("Requires-Dist", [])
    system = next((values for start, values in SYSTEMS.items() if next(iter(platforms)).startswith(start)), {})
    there = default_environment() | {"python_version": python, "python_full_version": f"{python}.0"} | system
    queue, seen, lacking = [Requirement(wanted)], set(), set()
    while queue:
        one = queue.pop()
        key = normalised(one.name), frozenset(one.extras)
        if key in seen:
            continue
        seen.add(key)
        if key[0] not in metadata:
            one.marker = None
            lacking.add(str(one))
            continue
        for text in metadata[key[0]]:
            needed = Requirement(text)
            contexts = [there | {"extra": extra} for extra in ("", *one.extras)]
            if needed.marker is None or any(needed.marker.evaluate(context) for context in contexts):
                queue.append(needed)
    return sorted(lacking)


def write_stand_in(folder: Path, name: str, version: str) -> None:
    """A wheel that installs nothing and depends on nothing."""
    stem = f"{name.replace('-', '_')}-{version}"
    files = {
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: lop\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)
        record = "".join(f"{path},,\n" for path in [*files, f"{stem}.dist-info/RECORD"])
        wheel.writestr(f"{stem}.dist-info/RECORD", record)


def project_wheel(scratch: Path) -> Path:
    """This project's wheel, built from a copy: nothing that an earlier build left behind gets into it."""
    source = scratch / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "lop-src" / "lop", source / "lop-src" / "lop", ignore=ignored)
    shutil.copytree(ROOT / "notebooks", source / "notebooks")
    for name in ("pyproject.toml", "setup.py", "README.md", "run-expr.ipynb"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*command, "-w", str(scratch / "own"), str(source)], check=True)
    (wheel,) = (scratch / "own").glob("lop-*.whl")
    return wheel


if __name__ == "__main__":
    sys.exit(main())
