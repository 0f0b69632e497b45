import socket
import threading

import pytest

from trimtab.core.request_log import FAILED, SERVED
from trimtab.errors import FleetError, UsageError
from trimtab.fleets import client as module
from trimtab.fleets.client import ServerClient, check_url, server_timing_s


@pytest.fixture
def connected(stub):
    client = ServerClient([stub.url], connections=4)
    yield client
    client.close()


@pytest.fixture
def nobody():
    """The address of a port that is bound and does not listen: connections are refused."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("queue;dur=12.5, work;dur=30", {"queue": 0.0125, "work": 0.03}),
        ('db;desc="a b";dur=5 , cache', {"db": 0.005}),
        ('work;dur="7"', {"work": 0.007}),
        ("", {}),
        ("work;dur=soon, queue;dur=nan, x;dur=-1, y;dur=", {}),
    ],
)
def test_server_timing_in_seconds(header, expected):
    assert server_timing_s(header) == pytest.approx(expected)


def test_urls_lose_their_trailing_slash():
    assert check_url("http://localhost:8081/") == "http://localhost:8081"
    assert check_url("https://example.test/api") == "https://example.test/api"


@pytest.mark.parametrize(
    "url", ["localhost:8081", "ftp://localhost", "http://", "", "8081", "http://[::1", "http://localhost:port", "http://localhost:70000"]
)
def test_a_wrong_url_is_a_usage_error_that_names_it(url):
    with pytest.raises(UsageError, match="allowed are addresses such as") as caught:
        ServerClient([url], connections=1)
    assert repr(url) in str(caught.value)


def test_a_served_request_carries_the_servers_own_times(stub, connected):
    stub.release.set()
    answer = connected.send(0, "/job/a", {})
    assert (answer.status, answer.queue_s, answer.service_s) == (SERVED, 0.0015, 0.0025)


@pytest.mark.parametrize("status", [503, 500, 404, 302])
def test_any_other_status_is_a_failed_answer(stub, connected, status):
    stub.release.set()
    stub.status = status
    answer = connected.send(0, "/job/a", {})
    assert (answer.status, answer.service_s) == (FAILED, 0.0)


def test_a_header_that_makes_no_sense_is_no_exception(stub, connected):
    stub.release.set()
    stub.timing = "work;dur=banana"
    assert connected.send(0, "/job/a", {}).status == SERVED


def test_a_refused_connection_is_a_failed_answer(nobody):
    client = ServerClient([nobody], connections=1)
    assert client.send(0, "/job/a", {}).status == FAILED
    client.close()


def test_a_server_that_hangs_up_is_a_failed_answer():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        rude = threading.Thread(target=lambda: listener.accept()[0].close(), daemon=True)
        rude.start()
        client = ServerClient([f"http://127.0.0.1:{listener.getsockname()[1]}"], connections=1)
        assert client.send(0, "/job/a", {}).status == FAILED
        client.close()
        rude.join()


def test_a_server_that_never_answers_is_a_failed_answer(monkeypatch):
    monkeypatch.setattr(module, "READ_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = ServerClient([f"http://127.0.0.1:{silent.getsockname()[1]}"], connections=1)
        answer = client.send(0, "/job/a", {})
        assert (answer.status, answer.service_s, answer.queue_s) == (FAILED, 0.0, 0.0)
        client.close()


def test_state_of_nobody_is_one_line_with_the_next_step(nobody):
    client = ServerClient([nobody], connections=1)
    with pytest.raises(FleetError, match=r"no Trimtab server answers at http://.*docker compose up") as caught:
        client.states()
    assert "\n" not in str(caught.value)
    client.close()


def test_something_else_on_the_port_is_an_error_too():
    def answer_with_text(listener):
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        other = threading.Thread(target=answer_with_text, args=(listener,), daemon=True)
        other.start()
        client = ServerClient([f"http://127.0.0.1:{listener.getsockname()[1]}"], connections=1)
        with pytest.raises(FleetError, match="no Trimtab server answers"):
            client.state(0)
        client.close()
        other.join()


def test_faults_are_posted_and_deleted(stub, connected):
    connected.set_fault(0, {"kind": "slowdown", "factor": 3.0})
    connected.clear_faults(0)
    assert stub.calls == [("POST", "/faults", {"kind": "slowdown", "factor": 3.0}), ("DELETE", "/faults")]
