"""A role that is assumed: the source asks AWS' token service, here a server that answers as it
does, and uses what it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from urllib.parse import parse_qs

import pytest

from ensign_core.errors import EnsignError
from tests.services.kinesis import KinesisServer
from tests.services.kinesis_capture import Capture

ROLE = "arn:aws:iam::000000000000:role/reader"
GIVEN = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
<Credentials><AccessKeyId>ASIATEST</AccessKeyId><SecretAccessKey>s</SecretAccessKey>
<SessionToken>t</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration></Credentials>
</AssumeRoleResult></AssumeRoleResponse>"""
DENIED = """<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error>
<Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"""


class Tokens(HTTPServer):
    """Remembers what it was asked; gives the role to those who know the external id."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.asked: list[dict[str, list[str]]] = []


class Answers(BaseHTTPRequestHandler):
    server: Tokens

    def do_POST(self) -> None:
        asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.server.asked.append(asked)
        known = asked.get("ExternalId") == ["known"]
        self.send_response(200 if known else 403)
        self.send_header("Content-Type", "text/xml")
        self.end_headers()
        self.wfile.write((GIVEN if known else DENIED).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tokens]:
    with Tokens() as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", address)
        yield server
        server.shutdown()
        thread.join()


def test_a_role_is_assumed(
    kinesis: KinesisServer, read_stream: Callable[..., Capture], tokens: Tokens
) -> None:
    stream = kinesis.new_stream(1)
    kinesis.put(stream, [("k", b"1")])
    capture = read_stream(stream, role_arn=ROLE, external_id="known")
    capture.caught_up()
    assert capture.data() == [b"1"]
    assert [asked["RoleArn"] for asked in tokens.asked] == [[ROLE]]


def test_a_role_that_is_refused(
    kinesis: KinesisServer, read_stream: Callable[..., Capture], tokens: Tokens
) -> None:
    with pytest.raises(EnsignError) as caught:
        read_stream("any", role_arn=ROLE, external_id="wrong").open()
    assert caught.value.code == "kinesis.role_refused"
    assert len(tokens.asked) == 1
    assert "wrong" not in str(caught.value)
