from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.inference import models, server
from appliance.inference.client import InferClient
from appliance.settings import Settings, load


@pytest.fixture(scope="session")
def model_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The default models, unpacked once for the checkout."""
    settings = load(data=tmp_path_factory.mktemp("infer"))
    root = load({}).models
    models.unpack(root)
    return load(data=settings.data, models=root, context_tokens=2048, infer_queue=3)


@pytest.fixture(scope="session")
def served(model_settings: Settings) -> Iterator[server.Models]:
    loaded = server.load(model_settings)
    yield loaded
    loaded.llm.close()


@pytest.fixture(scope="session")
def at(served: server.Models, model_settings: Settings) -> Iterator[Path]:
    """The socket of a running server."""
    path = model_settings.infer_socket
    running = server.SocketServer(server.create_app(served), path)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    for _ in range(200):
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                break
        time.sleep(0.05)
    yield path
    running.should_exit = True
    thread.join(15)


@pytest.fixture
def client(at: Path) -> Iterator[InferClient]:
    client = InferClient(at)
    yield client
    client.close()
