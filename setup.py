"""What pyproject.toml cannot say: the notebooks travel inside the package, so that an installed `lop` has them."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class WithNotebooks(build_py):
    def run(self):
        super().run()
        if self.editable_mode:  # there they lie beside the sources
            return
        for path in [ROOT / "run-expr.ipynb", *sorted((ROOT / "notebooks").glob("*.ipynb"))]:
            if path.exists():
                target = Path(self.build_lib, "lop", "shipped", path.relative_to(ROOT))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)


setup(cmdclass={"build_py": WithNotebooks})
