"""What the MySQL source gives to whoever stands where its server should: nothing secret."""

from __future__ import annotations

import random
import ssl
from pathlib import Path

import pytest

from connectors.mysql.config import MysqlConfig
from connectors.mysql.connecting import connect
from connectors.mysql.errors import ERRORS, NUMBERS, by_number, error
from ensign_core.errors import EnsignError
from tests.services.certificates import Authority
from tests.services.rogue import OK, Rogue, greeting, switch

PASSWORD = "correct-horse"


def attempt(rogue: Rogue, mode: str) -> str:
    """The last part of the code with which a connection to ``rogue`` fails."""
    config = MysqlConfig.model_validate(
        {
            "type": "mysql", "databases": ["*"], "host": "127.0.0.1", "port": rogue.port,
            "user": "somebody", "password": PASSWORD, "tls": {"mode": mode}, "connect_timeout_s": 5,
        }
    )  # fmt: skip
    with pytest.raises(EnsignError) as caught:
        connect(config, pipeline="shop")
    assert PASSWORD not in str(caught.value)
    return caught.value.code.removeprefix("mysql.")


@pytest.mark.parametrize("mode", ["required", "verify_ca", "verify_identity"])
@pytest.mark.parametrize("plugin", ["mysql_native_password", "mysql_clear_password"])
def test_nothing_is_sent_without_the_tls_that_is_demanded(mode: str, plugin: str) -> None:
    with Rogue([greeting(plugin, tls=False)]) as rogue:
        assert attempt(rogue, mode) == "tls_refused"
    assert rogue.received == b""


@pytest.mark.parametrize("plugin", ["mysql_clear_password", "dialog"])
@pytest.mark.parametrize("first", ["mysql_native_password", "mysql_clear_password"])
def test_no_password_in_clear(plugin: str, first: str) -> None:
    asking = switch(plugin) if plugin != "dialog" else b"\xfedialog\x00\x04Password: "
    with Rogue([greeting(first, tls=False), asking, OK]) as rogue:
        assert attempt(rogue, "preferred") == "password_in_clear"
    assert PASSWORD.encode() not in rogue.received


def test_the_password_in_clear_over_tls(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(tmp_path, "ours").sign("127.0.0.1", "server"))
    packets = [greeting("mysql_native_password", tls=True), switch("mysql_clear_password"), b"\xff"]
    with Rogue(packets, context) as rogue:
        attempt(rogue, "required")
    assert PASSWORD.encode() in rogue.received
    assert b"somebody" not in rogue.in_clear


@pytest.mark.parametrize("packet", [switch("authentication_ldap_sasl"), b"\xfe", b"\x01more"])
def test_a_login_that_is_not_spoken(packet: bytes) -> None:
    with Rogue([greeting("mysql_native_password", tls=False), packet]) as rogue:
        assert attempt(rogue, "preferred") == "auth_unsupported"
    assert PASSWORD.encode() not in rogue.received


@pytest.mark.parametrize("rounds", [11, 255])
def test_parsec_has_a_limit_of_rounds(rounds: int) -> None:
    packets = [greeting("mysql_native_password", tls=False), switch("parsec"), b"\x01P%c" % rounds]
    with Rogue(packets) as rogue:
        assert attempt(rogue, "preferred") == "auth_unsupported"


def test_who_is_not_a_server() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    whole = greeting("mysql_native_password", tls=False)
    heard = [b"SSH-2.0-OpenSSH_9.2\r\n", b"", b"\x0a", b"\xff", b"\x0a9\x00"]
    heard += [whole[: chance.randrange(len(whole))] for _ in range(20)]
    heard += [chance.randbytes(chance.randrange(1, 60)) for _ in range(40)]
    for packet in heard:
        with Rogue([packet]) as rogue:
            word = attempt(rogue, "required")
        assert word in (
            "protocol_damaged",
            "tls_refused",
            "refused",
            "unreachable",
            "tls_failed",
        ), packet
        assert PASSWORD.encode() not in rogue.received


def test_every_number_has_its_sentence() -> None:
    assert set(NUMBERS.values()) <= set(ERRORS)
    assert by_number(4711, doing="x").code == "mysql.refused"
    assert "4711" in by_number(4711, doing="x").sentence
    named = error("unreachable", where="a\nb:1", reason="no")
    assert "a\\nb:1" in named.sentence
