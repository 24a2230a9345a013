"""run-expr as somebody uses it: in JupyterLab, in a browser."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
SMALL = {"num_tasks": 2, "results_dir": "results", "device": "cpu"}
OVERRIDES = {"benchmark.epochs": 1, "net.hidden": [8, 8], "run.threads": 1}
FORM = "nothing is trained yet"


@pytest.fixture
def notebook(lab) -> str:
    """run-expr with small defaults in its parameters cell, as somebody would edit it; its name."""
    _, _, folder = lab
    source = nbformat.read(ROOT / "run-expr.ipynb", as_version=4)
    (cell,) = [cell for cell in source.cells if "parameters" in cell.metadata.get("tags", [])]
    lines = [f"{name} = {value!r}" for name, value in {**SMALL, "overrides": OVERRIDES, "seeds": "0-1"}.items()]
    cell.source += "\n" + "\n".join(lines)
    nbformat.write(source, folder / "run-expr.ipynb")
    return "run-expr.ipynb"


class Page:
    def __init__(self, driver, lab, name, patiently):
        from selenium.webdriver.common.by import By

        self.driver, self.by, self.wait = driver, By, patiently
        address, token, _ = lab
        driver.get(f"{address}/lab/tree/{name}?reset&token={token}")
        self.wait(lambda: self.find(".jp-NotebookPanel"), "the notebook to open")
        self.wait(self.idle, "a kernel")

    def find(self, css: str) -> list:
        return self.driver.find_elements(self.by.CSS_SELECTOR, css)

    def text(self, css: str = ".jp-Notebook") -> str:
        return "\n".join(element.text for element in self.find(css))

    def command(self, name: str) -> None:
        """A command of JupyterLab, as its menu calls it."""
        script = "window.jupyterapp.commands.execute(arguments[0]).catch(() => null)"
        self.driver.execute_script(script, name)

    def idle(self) -> bool:
        """Whether the open notebook has a kernel that waits for work."""
        panel = "window.jupyterapp.shell.currentWidget"
        return bool(self.driver.execute_script(f"return {panel}?.sessionContext?.session?.kernel?.status === 'idle'"))

    def whole(self) -> str:
        """All outputs as text, also of cells that are not on the screen, from the notebook's model."""
        script = (
            "const panel = window.jupyterapp.shell.currentWidget; const cells = panel.content.model.cells;"
            "return JSON.stringify([...cells].filter(c => c.type === 'code').map(c => c.outputs.toJSON()))"
        )
        return self.driver.execute_script(script)

    def figure(self) -> str:
        """What the form for looking around shows, told apart by its content; empty where there is none yet."""
        found = [
            image.get_attribute("src") for image in self.find(".widget-output img, .jupyter-widgets-output-area img")
        ]
        return hashlib.sha256(found[-1].encode()).hexdigest() if found else ""

    def field(self, name: str):
        """The control that a form calls so."""
        labels = [label for label in self.find(".widget-label, label") if label.text.strip() == name]
        assert labels, f"no field {name!r}"
        return labels[-1].find_element(self.by.XPATH, "./..")


def test_run_all_change_a_control_and_the_figure_changes(driver, lab, notebook, patiently):
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import Select

    _, _, folder = lab
    page = Page(driver, lab, notebook, patiently)

    page.command("notebook:run-all-cells")
    page.wait(lambda: FORM in page.whole(), "the form to hold the notebook")
    assert not (folder / "results").exists()  # nothing was trained
    page.wait(lambda: "papermill run-expr.ipynb" in page.text(), "the form")

    optimizer = page.field("optimizer").find_element(page.by.TAG_NAME, "input")
    optimizer.clear()
    optimizer.send_keys("adam", Keys.ENTER)
    page.wait(lambda: "-p optimizer adam" in page.text(), "the command to follow the form")

    page.command("notebook:run-all-cells")
    page.wait(lambda: "finished:" in page.whole(), "the run to end")
    runs = sorted(path.parent.name for path in (folder / "results").glob("*/tasks.csv"))
    assert [name.rsplit("-", 1)[0] for name in runs] == [
        f"permuted_digits-{method}-s{seed}" for method in ("adam", "sgd") for seed in (0, 1)
    ]
    outputs = json.loads(page.whole())
    assert not [output for cell in outputs for output in cell if output["output_type"] == "error"]
    assert "What came out" in page.whole()

    page.driver.execute_script(
        "const n = window.jupyterapp.shell.currentWidget.content; n.activeCellIndex = n.widgets.length - 1"
    )
    page.command("notebook:scroll-cell-center")
    before = page.wait(page.figure, "the figure to look around in")
    Select(page.field("figure").find_element(page.by.TAG_NAME, "select")).select_by_visible_text("dormant units")
    page.wait(lambda: page.figure() not in ("", before), "another figure")
