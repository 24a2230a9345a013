"""JupyterLab and a headless Chromium in front of it. Skipped, with the reason, only where one of them is not there."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SWITCHES = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1400,1600"),
)


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    """A browser of its own, driven by selenium."""
    selenium = pytest.importorskip(
        "selenium.webdriver", reason="selenium is not installed: pip install -e '.[browser]'"
    )
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    chromedriver = shutil.which("chromedriver")
    if browser is None or chromedriver is None:
        pytest.skip("no Chromium with its driver here: apt-get install chromium chromium-driver")
    options = selenium.ChromeOptions()
    options.binary_location = browser
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(switch)
    one = selenium.Chrome(options=options, service=selenium.ChromeService(chromedriver))
    # what JupyterLab calls its current notebook is where the focus is, and a page that nobody looks at may have none
    one.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})
    yield one
    one.quit()


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """(address, token, folder) of a JupyterLab that serves a folder."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed: pip install -e '.[browser]'")
    folder, token = tmp_path_factory.mktemp("lab"), secrets.token_hex(8)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += [
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={folder}",
        "--ServerApp.port_retries=0",
        "--expose-app-in-browser",
    ]
    home = tmp_path_factory.mktemp("home")  # nobody's settings
    places = {f"JUPYTER_{name}_DIR": str(home / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    places |= {"IPYTHONDIR": str(home / "ipython"), "JUPYTERLAB_SETTINGS_DIR": str(home / "settings")}
    path = os.pathsep.join(filter(None, [str(ROOT / "lop-src"), os.environ.get("PYTHONPATH")]))
    environment = os.environ | places | {"PYTHONPATH": path, "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces")}
    log = (home / "log").open("w")
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    address = f"http://127.0.0.1:{port}"
    try:
        wait(lambda: answers(f"{address}/api?token={token}") or process.poll() is not None, "JupyterLab to answer")
        assert process.poll() is None, (home / "log").read_text()[-2000:]
        yield address, token, folder
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def wait(condition, what: str, seconds: float = 600.0):
    """What `condition` returns as soon as that is true; fails after so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.3)
    pytest.fail(f"waited {seconds:.0f} s for {what}")


@pytest.fixture
def patiently():
    return wait
