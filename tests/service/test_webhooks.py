"""Webhooks: signed, repeated, and no way into the network of whoever runs the service."""

import base64
import hashlib
import hmac
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import trustme
from pydantic import ValidationError
from sqlalchemy import update

from service.config import Settings
from service.models import Webhook
from service.webhooks.address import AddressRefusedError, destination_of, is_public, resolved
from service.webhooks.delivery import WebhookDelivery
from service.webhooks.repository import MOST_WEBHOOKS
from service.webhooks.sending import CallFailedError, post
from tests.service.conftest import Api, serve, settings_for
from tests.service.test_problems import is_problem
from tests.service.test_security import key_of

LONG_LABEL = "a" * 70 + ".example.org"
SECRET = "a secret of thirty-two characters or more"


@dataclass
class Receiver:
    """An HTTP server that keeps what it was sent, and answers as ``answers`` says, the last one for ever."""

    port: int = 0
    answers: list[int] = field(default_factory=lambda: [204])
    received: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    drips: bool = False

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"


@pytest.fixture
def new_receiver() -> Iterator[Callable[..., Receiver]]:
    servers: list[ThreadingHTTPServer] = []

    def make(context=None) -> Receiver:
        receiver = Receiver()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append((self.path, dict(self.headers), body))
                status = receiver.answers.pop(0) if len(receiver.answers) > 1 else receiver.answers[0]
                if receiver.drips:
                    stopped = threading.Event()
                    while not stopped.wait(0.05):
                        try:
                            self.wfile.write(b"H")
                        except OSError:
                            return
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", f"http://127.0.0.1:{receiver.port}/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None
        receiver.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        return receiver

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def receiver(new_receiver) -> Receiver:
    return new_receiver()


@pytest.fixture
def calling(receiver, database_url, tmp_path) -> Iterator[Api]:
    """A deployment that may call the receiver and every public address."""
    yield from serve(
        settings_for(
            database_url,
            tmp_path,
            auth="keys",
            webhook_allow=f"*, {receiver.host}",
            webhook_secret=SECRET,
            webhook_timeout=timedelta(seconds=5),
            webhook_retry_first=timedelta(hours=1),
        )
    )


def hooked(api: Api, receiver: Receiver, headers: dict[str, str]) -> tuple[str, dict]:
    """An experiment with a webhook, not ended yet: its path, and the webhook as created."""
    path = api.post(headers=headers).json()["links"]["self"]
    answer = api.client.post(
        f"{path}/webhooks", json={"url": f"http://{receiver.host}/hook?token=1"}, headers=headers
    )
    assert answer.status_code == 201, answer.text
    return path, answer.json()


def test_a_call_at_the_end_is_signed_and_repeated_until_it_is_taken(calling, receiver) -> None:
    ada = key_of(calling, "ada")
    receiver.answers = [500, 302, 200]
    path, made = hooked(calling, receiver, ada)
    delivery = WebhookDelivery(calling.database, calling.settings)
    assert delivery.tick() == 0, "it has not ended"
    calling.finish_all()
    states = []
    for _ in range(3):
        assert delivery.tick() == 1
        assert delivery.tick() == 0, "not before its time"
        (hook,) = calling.get(f"{path}/webhooks", headers=ada).json()["items"]
        states.append((hook["status"], hook["attempts"], hook["error"]))
        with calling.database.writing() as session:
            due = Webhook.next_at.is_not(None)
            session.execute(update(Webhook).where(due).values(next_at=Webhook.created_at))
    assert states == [
        ("waiting", 1, "the answer is 500"),
        ("waiting", 2, "the answer is 302, a redirect"),
        ("delivered", 3, None),
    ]
    assert delivery.tick() == 0
    assert [target for target, _, _ in receiver.received] == ["/hook?token=1"] * 3, (
        "redirects are not followed"
    )
    _, headers, body = receiver.received[-1]
    document = json.loads(body)
    assert document["type"] == "experiment.ended"
    assert (document["data"]["path"], document["data"]["status"]) == (path, "succeeded")
    assert len({sent["webhook-id"] for _, sent, _ in receiver.received}) == 1, (
        "by this a receiver tells repeats"
    )
    key = base64.b64decode(made["secret"].removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


def test_an_end_that_a_retry_led_to_is_told_of_as_another(calling, receiver) -> None:
    ada = key_of(calling, "ada")
    path, _ = hooked(calling, receiver, ada)
    delivery = WebhookDelivery(calling.database, calling.settings)
    run = calling.get(f"{path}/runs", headers=ada).json()["items"][0]["id"]
    assert calling.client.post(f"/v1/runs/{run}/cancel", headers=ada).status_code == 202
    calling.finish_all()
    assert delivery.tick() == 1
    assert calling.client.post(f"/v1/runs/{run}/retry", headers=ada).status_code == 202
    (hook,) = calling.get(f"{path}/webhooks", headers=ada).json()["items"]
    assert (hook["status"], hook["attempts"]) == ("waiting", 0)
    assert delivery.tick() == 0, "it goes on again"
    calling.finish_all()
    assert (delivery.tick(), delivery.tick()) == (1, 0)
    ends = [json.loads(body)["data"]["status"] for _, _, body in receiver.received]
    assert ends == ["partially_succeeded", "succeeded"]
    assert len({sent["webhook-id"] for _, sent, _ in receiver.received}) == 2


def test_it_is_given_up_after_some_attempts_and_at_once_where_refused(calling, receiver, monkeypatch) -> None:
    monkeypatch.setattr("service.webhooks.delivery.MOST_ATTEMPTS", 1)
    ada = key_of(calling, "ada")
    receiver.answers = [503]
    path, _ = hooked(calling, receiver, ada)
    # A name that was public when it was given and leads inside now.
    calling.client.post(f"{path}/webhooks", json={"url": "https://localhost/"}, headers=ada)
    calling.finish_all()
    assert WebhookDelivery(calling.database, calling.settings).tick() == 2
    hooks = calling.get(f"{path}/webhooks", headers=ada).json()["items"]
    assert {(hook["status"], hook["error"]) for hook in hooks} == {
        ("given_up", "the answer is 503"),
        ("given_up", "the address is not public"),
    }


def test_webhooks_are_their_owner_s_and_few(calling, receiver) -> None:
    ada, bob = key_of(calling, "ada"), key_of(calling, "bob")
    path, made = hooked(calling, receiver, ada)
    hook = f"{path}/webhooks/{made['id']}"
    assert "secret" not in calling.get(f"{path}/webhooks", headers=ada).json()["items"][0]
    for method, where, body in (
        ("GET", f"{path}/webhooks", None),
        ("POST", f"{path}/webhooks", {"url": f"http://{receiver.host}/"}),
        ("DELETE", hook, None),
    ):
        refused = calling.client.request(method, where, headers=bob, json=body)
        assert is_problem(refused, 403)["code"] == "not_the_owner"
    for _ in range(MOST_WEBHOOKS - 1):
        calling.client.post(f"{path}/webhooks", json={"url": "https://lab.example.org/bfc"}, headers=ada)
    full = calling.client.post(f"{path}/webhooks", json={"url": "https://lab.example.org/"}, headers=ada)
    assert is_problem(full, 409)["code"] == "webhooks_full"
    assert calling.client.delete(hook, headers=ada).status_code == 204
    assert is_problem(calling.client.delete(hook, headers=ada), 404)["code"] == "webhook_not_found"


@pytest.mark.parametrize(
    "url",
    [
        "http://lab.example.org/", "ftp://lab.example.org/", "https://", "//x", "https://u:p@lab.example.org/",
        "https://127.0.0.1/", "https://[::1]/", "https://10.0.0.1/", "https://169.254.169.254/latest/meta-data/",
        "https://[::ffff:127.0.0.1]/", "https://[64:ff9b::a00:1]/", "https://[fe80::1]/", "https://0.0.0.0/",
        "https://lab.example.org:99999/", "https://lab.example.org/\r\nX: y", "https://é.example.org/",
        "https://[::1", "https://224.0.0.1/",
    ],
)  # fmt: skip
def test_other_addresses_are_refused_when_they_are_given(calling, url) -> None:
    ada = key_of(calling, "ada")
    path = calling.post(headers=ada).json()["links"]["self"]
    answer = calling.client.post(f"{path}/webhooks", json={"url": url}, headers=ada)
    problem = is_problem(answer, 422)
    assert (problem["code"], problem["errors"][0]["pointer"]) == ("webhook_refused", "#/url")
    assert calling.get(f"{path}/webhooks", headers=ada).json() == {"items": []}


@pytest.mark.parametrize(
    "host", ["localhost", "127.1", "0x7f.1", "2130706433", "0", "ip6-localhost", "a" * 70 + ".example.org"]
)
def test_a_name_is_judged_by_what_it_resolves_to(host) -> None:
    destination = destination_of(f"https://{host}/", "*")
    with pytest.raises((AddressRefusedError, OSError, UnicodeError)):
        resolved(destination)
    with pytest.raises((AddressRefusedError, CallFailedError), match=r"not public|does not resolve"):
        post(destination, b"", {}, 5)


def test_a_name_with_one_private_address_among_its_own_is_refused(monkeypatch) -> None:
    def both(host, port, **_):
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ("93.184.216.34", "10.1.2.3")
        ]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with pytest.raises(AddressRefusedError):
        resolved(destination_of("https://lab.example.org/", "*"))


def test_what_is_public_and_what_is_not() -> None:
    assert is_public("93.184.216.34")
    assert is_public("2606:2800:220:1:248:1893:25c8:1946")
    for address in ("100.64.0.1", "192.168.1.1", "172.16.0.1", "fd00::1", "fec0::1", "2002:7f00:1::", "fe80::1%eth0",
                    "ff02::1", "255.255.255.255", "::", "::ffff:10.0.0.1", "2001:db8::1", "192.0.2.1"):  # fmt: skip
        assert not is_public(address), address


def test_nobody_is_called_unless_the_deployment_says_whom(api, receiver) -> None:
    path = api.submitted()["links"]["self"]
    refused = api.client.post(f"{path}/webhooks", json={"url": "https://lab.example.org/bfc"})
    assert is_problem(refused, 409)["code"] == "webhooks_off"
    with pytest.raises(AddressRefusedError, match="calls no webhook at lab"):
        destination_of("https://lab.example.org/", "other.example.org")
    with pytest.raises(AddressRefusedError):
        destination_of(f"http://127.0.0.1:{receiver.port + 1}/", receiver.host)
    for wrong in ({"webhook_allow": "*"}, {"webhook_allow": "*", "webhook_secret": "short"}):
        with pytest.raises(ValidationError):
            Settings.model_validate(wrong)
    assert SECRET not in repr(Settings.model_validate({"webhook_secret": SECRET}))


def test_the_call_goes_to_the_address_that_was_checked_under_the_name_s_certificate(
    new_receiver, monkeypatch, tmp_path
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("receiver.example.org").configure_cert(context)
    receiver = new_receiver(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    real, asked = socket.getaddrinfo, []

    def once(host, port, *arguments, **named):
        if not str(host).endswith(".example.org"):
            return real(host, port, *arguments, **named)
        asked.append(host)
        assert asked.count(host) == 1, "a second look could find another address"
        return real("127.0.0.1", port, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", once)
    allow = f"receiver.example.org:{receiver.port}, other.example.org:{receiver.port}"

    def call(name: str) -> None:
        post(destination_of(f"https://{name}.example.org:{receiver.port}/x", allow), b"{}", {}, 10)

    with pytest.raises(CallFailedError, match="certificate"):
        call("receiver")
    asked.clear()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    call("receiver")
    ((target, headers, body),) = receiver.received
    assert (target, headers["Host"], body) == ("/x", f"receiver.example.org:{receiver.port}", b"{}")
    with pytest.raises(CallFailedError, match="certificate"):
        call("other")


def test_an_answer_that_never_ends_is_cut_off(receiver) -> None:
    receiver.drips = True
    with pytest.raises(CallFailedError, match="in time"):
        post(destination_of(f"http://{receiver.host}/", receiver.host), b"{}", {}, 1)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(CallFailedError):
            post(destination_of(f"http://{closed}/", closed), b"{}", {}, 5)
