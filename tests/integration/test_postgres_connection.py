"""How the PostgreSQL source gets to its server: passwords that programs and files give, TLS in all
its modes, client certificates, poolers; and what each refusal is called."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.postgres import CONNECTOR
from connectors.postgres.config import PostgresConfig
from ensign_core.errors import EnsignError
from tests.services.certificates import Authority
from tests.services.pooler import Pooler
from tests.services.postgres import PostgresServer, free_port, speaking_tls
from tests.services.postgres_capture import Capture, Told
from tests.services.ready import wait_until

PASSWORD = "correct-horse"
ACCESS = """
local all all trust
hostssl all certified 127.0.0.1/32 cert
hostssl all encrypted 127.0.0.1/32 scram-sha-256
hostssl all signed 127.0.0.1/32 scram-sha-256 clientcert=verify-ca
hostnossl all encrypted,certified,signed 127.0.0.1/32 reject
host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
"""


class Guarded:
    """A server with TLS, its authority, and users that must come in different ways."""

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.authority = Authority(folder, "ours")
        self.other = Authority(folder, "theirs")
        with server.connect() as db:
            for user in ("plain", "encrypted", "certified", "signed"):
                db.execute(f"CREATE ROLE {user} LOGIN REPLICATION PASSWORD '{PASSWORD}'".encode())
            db.execute("CREATE TABLE t (id int PRIMARY KEY)")
            db.execute("GRANT SELECT ON t TO PUBLIC")
            db.execute("CREATE PUBLICATION ensign_test FOR TABLE t")
            db.execute("SELECT pg_create_logical_replication_slot('ensign_test', 'pgoutput')")
        server.allow(ACCESS)
        self.serve("127.0.0.1", "server")

    def serve(
        self, name: str, file: str, *, valid: bool = True, by: Authority | None = None
    ) -> None:
        """Have the server show a certificate for ``name``."""
        certificate, key = (by or self.authority).sign(name, file, valid=valid)
        owner = (self.server.folder / "data").stat()
        taken = []
        for path in (certificate, key, self.authority.path):
            copy = self.server.folder / path.name
            shutil.copy(path, copy)
            shutil.chown(copy, owner.st_uid, owner.st_gid)
            copy.chmod(0o600)
            taken.append(str(copy))
        self.server.configure(
            ssl="on", ssl_cert_file=taken[0], ssl_key_file=taken[1], ssl_ca_file=taken[2]
        )

    def dsn(self, user: str = "plain", password: str = PASSWORD, **options: object) -> str:
        asked = "&".join(f"{name}={value}" for name, value in options.items())
        return f"{self.server.dsn(user=user, password=password)}?{asked}"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Of the first version that was built with TLS; without any, its tests are skipped."""
    programs = speaking_tls()
    if programs is None:
        pytest.skip("no PostgreSQL with TLS found")
    with PostgresServer(programs, auth="scram-sha-256") as server:
        yield Guarded(server, tmp_path_factory.mktemp("certificates"))


def opens(dsn: str, **options: Any) -> None:
    one = Capture(dsn, tables=["public.t"], **options)
    one.open()
    one.caught_up()
    one.close()


def refusal(dsn: str, **options: Any) -> EnsignError:
    config = PostgresConfig(type="postgres", dsn=dsn, tables=["public.t"], **options)
    source = CONNECTOR.make(config, Told())
    with pytest.raises(EnsignError) as caught:
        source.open(None)
    source.close()
    assert PASSWORD not in str(caught.value)
    assert "(unknown)" not in str(caught.value)
    found = CONNECTOR.check(config, "test")
    assert [f.code for f in found] == [caught.value.code]
    return caught.value


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_password_of_a_program(guarded: Guarded, tmp_path: Path) -> None:
    dsn = guarded.server.dsn(user="plain")
    count = tmp_path / "count"
    counted = f"open({str(count)!r}, 'a').write('x'); print({PASSWORD!r})"
    opens(dsn, password_command=program(counted))
    assert len(count.read_text()) >= 2, "once for each connection"
    opens(f"{guarded.server.dsn(user='plain', password='stale')}",
          password_command=program(counted))  # fmt: skip
    error = refusal(dsn, password_command=program("print('wrong')"))
    assert error.code == "postgres.password_rejected"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["/nowhere/token"], "password_command_invalid"),
        (["/tmp"], "password_command_invalid"),
        (program(f"import sys; print({PASSWORD!r}); sys.exit(3)"), "password_command.unreachable"),
        (program("pass"), "password_command.unreachable"),
        (program(r"import sys; sys.stdout.buffer.write(b'\xff')"), "password_command.unreachable"),
        (program("import time; time.sleep(60)"), "password_command.timeout"),
    ],
)
def test_program_that_gives_no_password(guarded: Guarded, command: list[str], code: str) -> None:
    dsn = guarded.server.dsn(user="plain")
    error = refusal(dsn, password_command=command, connect_timeout_s=0.5)
    assert error.code == f"postgres.{code}"
    assert command[0] in error.sentence
    if "exit(3)" in command[-1]:
        assert "exit status 3" in error.sentence


def test_passfile(guarded: Guarded, tmp_path: Path) -> None:
    file = tmp_path / "pass"
    file.write_text(f"127.0.0.1:{guarded.server.port}:*:plain:{PASSWORD}\n")
    file.chmod(0o600)
    dsn = f"{guarded.server.dsn(user='plain')}?passfile={file}"
    opens(dsn)
    file.write_text("127.0.0.1:*:*:plain:wrong\n")
    assert refusal(dsn).code == "postgres.password_rejected"
    file.write_text("127.0.0.1:*:*:someone:else\n")
    assert refusal(dsn).code == "postgres.password_missing"


def test_tls_modes(guarded: Guarded) -> None:
    root = guarded.authority.path
    opens(guarded.dsn(sslmode="require"))
    opens(guarded.dsn(sslmode="verify-ca", sslrootcert=root))
    opens(guarded.dsn(sslmode="verify-full", sslrootcert=root))
    opens(guarded.dsn("encrypted", sslmode="require"))
    error = refusal(guarded.dsn("encrypted", sslmode="disable"))
    assert (error.code, "sslmode=require" in error.remedy) == ("postgres.login_refused", True)


def test_certificate_of_another_authority(guarded: Guarded) -> None:
    theirs = guarded.other.path
    for mode in ("verify-ca", "verify-full", "require"):
        error = refusal(guarded.dsn(sslmode=mode, sslrootcert=theirs))
        assert error.code == "postgres.certificate_untrusted"
        assert str(theirs) in error.sentence


def test_certificate_files(guarded: Guarded, tmp_path: Path) -> None:
    missing = tmp_path / "missing.crt"
    error = refusal(guarded.dsn(sslmode="verify-full", sslrootcert=missing))
    assert (error.code, str(missing) in error.sentence) == ("postgres.tls_file", True)
    damaged = tmp_path / "damaged.crt"
    damaged.write_text("no certificate\n")
    error = refusal(guarded.dsn(sslmode="verify-full", sslrootcert=damaged))
    assert (error.code, str(damaged) in error.sentence) == ("postgres.tls_file", True)
    certificate, key = guarded.authority.sign("certified", "open")
    key.chmod(0o644)
    asked: dict[str, Any] = {"sslmode": "require", "sslcert": certificate, "sslkey": key}
    error = refusal(guarded.dsn("certified", **asked))
    assert (error.code, "others may read" in error.sentence) == ("postgres.tls_file", True)


def test_client_certificates(guarded: Guarded) -> None:
    certificate, key = guarded.authority.sign("certified", "certified")
    root = guarded.authority.path
    asked: dict[str, Any] = {
        "sslmode": "verify-full",
        "sslrootcert": root,
        "sslcert": certificate,
        "sslkey": key,
    }
    opens(guarded.dsn("certified", password="", **asked))
    # Of another user: the server says so itself.
    assert refusal(guarded.dsn("signed", password="wrong", **asked)).code == (
        "postgres.password_rejected"
    )
    certificate, key = guarded.authority.sign("somebody", "somebody")
    asked |= {"sslcert": certificate, "sslkey": key}
    assert refusal(guarded.dsn("certified", **asked)).code == "postgres.login_refused"
    error = refusal(guarded.dsn("certified", sslmode="require"))
    assert (error.code, "sslcert" in error.remedy) == ("postgres.login_refused", True)


@pytest.mark.parametrize("wrong", ["authority", "expired"])
def test_client_certificate_that_the_server_does_not_accept(guarded: Guarded, wrong: str) -> None:
    authority = guarded.other if wrong == "authority" else guarded.authority
    certificate, key = authority.sign("certified", wrong, valid=wrong != "expired")
    asked: dict[str, Any] = {"sslmode": "require", "sslcert": certificate, "sslkey": key}
    error = refusal(guarded.dsn("certified", **asked))
    assert error.code == "postgres.client_certificate_refused"
    assert str(certificate) in error.sentence


def test_certificate_that_is_not_the_servers(guarded: Guarded) -> None:
    root = guarded.authority.path
    try:
        guarded.serve("db.example.com", "elsewhere")
        wait_for(guarded, "postgres.certificate_name", sslmode="verify-full", sslrootcert=root)
        opens(guarded.dsn(sslmode="verify-ca", sslrootcert=root))
        guarded.serve("127.0.0.1", "late", valid=False)
        wait_for(guarded, "postgres.certificate_expired", sslmode="verify-full", sslrootcert=root)
        guarded.server.configure(ssl="off")
        wait_for(guarded, "postgres.tls_refused", sslmode="require")
        opens(guarded.dsn(sslmode="prefer"))
    finally:
        guarded.serve("127.0.0.1", "again")
        wait_for(guarded, "", sslmode="verify-full", sslrootcert=root)


def wait_for(guarded: Guarded, code: str, **options: Any) -> None:
    """Until the server has taken its settings over; ``code`` is of the refusal, empty for none."""
    config = PostgresConfig(type="postgres", dsn=guarded.dsn(**options), tables=["public.t"])

    def seen() -> bool:
        errors = [f.code for f in CONNECTOR.check(config, "test") if f.level == "error"]
        return errors == ([code] if code else [])

    wait_until(seen, 20.0, 0.05)
    if code:
        assert refusal(guarded.dsn(**options)).code == code


def test_nobody_listens(guarded: Guarded) -> None:
    dsn = f"postgresql://plain@127.0.0.1:{free_port()}/x?sslmode=verify-full"
    error = refusal(f"{dsn}&sslrootcert={guarded.authority.path}")
    assert error.code == "postgres.unreachable"


@pytest.mark.parametrize("parameter", [b"replication", b"options"])
def test_pooler_that_refuses_replication(postgres: PostgresServer, parameter: bytes) -> None:
    with Pooler("127.0.0.1", postgres.port, refused=(parameter,)) as pooler:
        dsn = postgres.dsn().replace(f":{postgres.port}/", f":{pooler.port}/")
        with postgres.connect() as db:
            db.execute("CREATE TABLE IF NOT EXISTS t (id int PRIMARY KEY)")
        config = PostgresConfig(type="postgres", dsn=dsn, tables=["public.t"])
        source = CONNECTOR.make(config, Told())
        with pytest.raises(EnsignError, match=r"postgres\.pooler"):
            source.open(None)
        source.close()
        found = {f.code: f.level for f in CONNECTOR.check(config, "test")}
        assert found["postgres.pooler"] in ("error", "warning")
        with postgres.connect() as db:
            db.execute("DROP TABLE t")


def test_pooler_that_hands_all_on_is_told_of(postgres: PostgresServer) -> None:
    with Pooler("127.0.0.1", postgres.port) as pooler:
        dsn = postgres.dsn().replace(f":{postgres.port}/", f":{pooler.port}/")
        config = PostgresConfig(type="postgres", dsn=dsn)
        found = [f for f in CONNECTOR.check(config, "test") if f.code == "postgres.pooler"]
    assert [f.level for f in found] == ["warning"]
