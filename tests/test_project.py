"""What surrounds the package: dependencies, the installed command, what contributors and hosted machines call."""

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import lop

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "lop-src").rglob("*.py"))
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
IMPORT_NAMES = {"scikit-learn": "sklearn", "pillow": "PIL", "PyYAML": "yaml", "ipython": "IPython"}
NOT_IMPORTED = {"ipykernel"}  # papermill starts it


def requirements(table: str) -> set[str]:
    """Names in the list `table = [...]` of pyproject.toml."""
    block = re.search(rf"^{table} = \[(.*?)^\]", PROJECT, re.M | re.S)[1]
    return {re.match(r"[\w-]+", text)[0] for text in re.findall(r'"([^"]+)"', block)}


def extras() -> set[str]:
    """What the extras of users need, by name: all but those of contributors, which are lists of many lines."""
    block = PROJECT.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    texts = [text for line in re.findall(r"^\w+ = \[(.+)\]", block, re.M) for text in re.findall(r'"([^"]+)"', line)]
    return {re.match(r"[\w-]+", text)[0] for text in texts}


def imported(*paths: Path) -> set[str]:
    """First names of what the sources below these paths import, at any depth in a file."""
    names = set()
    for path in paths:
        for source in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    names.add(node.module.partition(".")[0])
    return names


def test_dependencies_are_what_the_package_imports():
    used = imported(ROOT / "lop-src", ROOT / "notebooks", ROOT / "run-expr.py", ROOT / "download_data.py")
    wanted = {IMPORT_NAMES.get(name, name) for name in requirements("dependencies") - NOT_IMPORTED}
    assert wanted == used - set(sys.stdlib_module_names) - extras() - {"lop"}


def test_the_tests_imports_are_in_the_tests_extra():
    here = {path.stem for path in (ROOT / "tests").rglob("*.py")} | {"lop", "gymnasium", "mujoco"}
    here |= {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    here |= {"build", "kaggle_bundle", "download_data"}  # scripts of this repository
    used = imported(ROOT / "tests", ROOT / "lop-packages") - set(sys.stdlib_module_names) - here
    named = requirements("dependencies") | requirements("dev") | requirements("browser") | extras()
    assert used - {IMPORT_NAMES.get(name, name) for name in named} == set()


def test_the_citation_and_the_changes_name_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == lop.__version__
    headings = re.findall(r"^## (.*)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert lop.__version__ in headings[0]


def test_hooks_and_the_hosted_workflow_call_make():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    entries = [hook["entry"] for repository in hooks["repos"] for hook in repository["hooks"]]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    steps = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    for calls in (entries, steps):
        assert [re.match(r"make (\w+)( [A-Z]+=\w+)?$", call)[1] for call in calls][:2] == ["lint", "test"]
        assert {call.split()[1] for call in calls} <= targets


def test_make_test_prints_what_no_test_ran_on_request():
    def commands(*arguments: str) -> str:
        return subprocess.run(["make", "-n", "test", *arguments], cwd=ROOT, capture_output=True, text=True).stdout

    if not shutil.which("make"):
        pytest.skip("no make here")
    assert "--cov" not in commands()
    assert "pytest -n auto --cov=lop --cov-report=term" in commands("COVERAGE=1")


def test_lint_checks_the_types_of_every_module():
    commands = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)[1]
    assert [line.split()[0] for line in commands.splitlines()] == ["ruff", "ruff", "mypy"]
    settings = PROJECT.partition("[tool.mypy]")[2]
    assert 'packages = ["lop"]' in settings
    assert "ignore_errors" not in settings
    lines = [line for path in SOURCES for line in path.read_text(encoding="utf-8").splitlines()]
    ignored = [line for line in lines if "type: ignore" in line]
    assert len(ignored) < 5
    assert [line for line in ignored if not re.search(r"# type: ignore\[[\w-]+\]  # \w", line)] == []


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder of an environment into which the project's wheel alone was installed, beside this one's packages."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    shutil.copytree(ROOT / "lop-src", source / "lop-src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copytree(ROOT / "notebooks", source / "notebooks")
    for name in ("pyproject.toml", "setup.py", "README.md", "run-expr.ipynb"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source], check=True)
    (wheel,) = folder.glob("*.whl")
    assert {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist() if "dist-info" not in name} == {"lop"}
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    subprocess.run([*pip, "--python", folder / "venv", "install", "--no-deps", "--no-index", wheel], check=True)
    (site / "beside.pth").write_text(str(Path(yaml.__file__).parents[1]))  # after the wheel's own on the path
    return folder


def test_an_installed_wheel_has_the_command(installed):
    def command(*arguments: str) -> subprocess.CompletedProcess:
        words = [installed / "venv" / "bin" / "lop", *arguments]
        return subprocess.run(words, cwd=installed, capture_output=True, text=True, env={"MPLBACKEND": "Agg"})

    shown = command("mnist", "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("usage: lop mnist")
    small = ["--set", "benchmark.num_tasks=1", "--set", "benchmark.epochs=1", "--quiet"]
    trained = command("run", "--benchmark", "permuted_digits", "--optimizer", "sassha", *small)
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.startswith("finished: 1 tasks")
    assert len(list((installed / "results").rglob("tasks.csv"))) == 1


def test_an_installed_wheel_has_the_notebooks_and_configs(installed):
    command = [installed / "venv" / "bin" / "lop", "notebook", "copies"]
    copied = subprocess.run(command, cwd=installed, capture_output=True, text=True, env={"MPLBACKEND": "Agg"})
    assert copied.returncode == 0, copied.stderr
    originals = [ROOT / "run-expr.ipynb", *sorted((ROOT / "notebooks").glob("*.ipynb"))]
    for path in originals:
        assert (installed / "copies" / path.relative_to(ROOT)).read_bytes() == path.read_bytes()
    (wheel,) = installed.glob("*.whl")
    package = ROOT / "lop-src" / "lop"
    configs = {f"lop/{path.relative_to(package)}" for path in package.rglob("cfg/**/*") if path.is_file()}
    assert configs <= set(zipfile.ZipFile(wheel).namelist())
