"""Whether the hub can be asked is known within seconds, whatever the network does."""

import http.server
import socket
import threading
import time

import pytest
from huggingface_hub import constants

from tsds_jax.runtime import hub
from tsds_jax.runtime.hub import hub_answers


@pytest.fixture
def listening():
    """A socket that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def online(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def test_a_hub_that_refuses_the_connection_does_not_answer(online, listening, monkeypatch, capfd):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    start = time.monotonic()
    assert not hub_answers()
    assert time.monotonic() - start < 2
    assert capfd.readouterr() == ("", "")


def test_a_hub_that_says_nothing_is_waited_for_no_longer_than_its_time(online, listening, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", listening)
    monkeypatch.setattr(hub, "PATIENCE", 0.3)
    start = time.monotonic()
    assert not hub_answers()
    assert time.monotonic() - start < 2


def test_a_name_server_that_says_nothing_is_waited_for_no_longer_than_its_time(online, monkeypatch):
    released = threading.Event()

    def resolve(*_, **__):
        released.wait(10)
        raise socket.gaierror("no such host")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(hub, "PATIENCE", 0.3)
    start = time.monotonic()
    assert not hub_answers()
    assert time.monotonic() - start < 2
    released.set()


def test_the_time_is_within_the_five_seconds_that_a_typo_may_take():
    assert hub.PATIENCE < 5


@pytest.mark.parametrize("status", [200, 404, 503])
def test_any_answer_counts(online, monkeypatch, status):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        try:
            assert hub_answers()
        finally:
            server.shutdown()
            thread.join()
