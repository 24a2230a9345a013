import pytest
from local_server import CONTENT, Server


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = Server()
    server.files["/data.bin"] = CONTENT
    yield server
    server.close()
