"""Without a network the Hub is not asked six times for each file: it is known at once that it is out of reach."""

from __future__ import annotations

import socket

import pytest

from palimpsest.data.read.hub import how_to_pin, is_reachable
from palimpsest.errors import ModelError
from palimpsest.models.load import load


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub(monkeypatch) -> socket.socket:
    """A place that answers a connection, in the place of the Hub."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        yield server


def test_a_host_that_answers_is_reachable_and_one_that_does_not_is_not(hub):
    assert is_reachable()
    hub.close()
    assert not is_reachable()


@pytest.mark.parametrize(("value", "reachable"), [("1", False), ("true", False), ("0", True), ("", True)])
def test_offline_by_wish(hub, monkeypatch, value, reachable):
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert is_reachable() is reachable


def test_behind_a_proxy_the_client_itself_must_find_out(hub, monkeypatch):
    hub.close()
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert is_reachable()


def test_a_model_that_is_not_there_and_cannot_be_fetched_is_refused_at_once(hub, capfd):
    hub.close()
    with pytest.raises(ModelError, match=r"^model no-one/no-model: the Hub cannot be reached .*HF_HUB_OFFLINE=1"):
        load("no-one/no-model", revision="0" * 40)
    assert "Retrying" not in "".join(capfd.readouterr())


def test_a_commit_can_be_found():
    assert "https://huggingface.co/someone/model/commits/main" in how_to_pin("someone/model")
