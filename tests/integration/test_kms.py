"""Keys of AWS KMS: how often it is asked, rotation, and what is said when it refuses."""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ensign_core.broker import Broker, Event
from ensign_core.crypto import FileProvider, KeyRing, KmsProvider, RotatingProvider
from ensign_core.crypto.kms import ATTEMPTS_MAX, CONTEXT
from ensign_core.errors import EnsignError
from ensign_core.run.retry import waits
from tests.services.kms import KmsServer
from tests.services.moto import CREDENTIALS
from tests.services.postgres import free_port

Provide = Callable[..., KmsProvider]


@pytest.fixture
def provider(kms: KmsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provide]:
    """Makes providers of one file and one new KMS key, unless told otherwise."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    key = kms.new_key()
    kms.asked()

    def make(
        key_id: str = key, region: str | None = None, endpoint_url: str = kms.endpoint_url
    ) -> KmsProvider:
        return KmsProvider(key_id, tmp_path / "keys", region, endpoint_url)

    yield make
    kms.proxy.heal()


def refusal(call: Callable[..., object], **options: object) -> EnsignError:
    with pytest.raises(EnsignError) as caught:
        call(**options)
    error = caught.value
    assert error.remedy
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in str(error)
    assert "{" not in error.sentence + error.remedy
    assert "(unknown)" not in error.sentence + error.remedy
    return error


def test_a_start_asks_once(kms: KmsServer, provider: Provide, tmp_path: Path) -> None:
    made = provider()
    with Broker.open(tmp_path / "b", made) as broker:
        broker.publish("t", [Event(b"x")])
        assert str(made.path) in str(broker.notice)
    assert kms.asked() == {"GenerateDataKey": 1}
    assert made.path.stat().st_mode & 0o777 == 0o600
    again = provider()
    with Broker.open(tmp_path / "b", again) as broker, broker.reader(["t"]) as reader:
        assert len(reader.fetch()) == 1
        assert broker.notice is None
    assert kms.asked() == {"Decrypt": 1}


def test_what_lies_on_the_disk_opens_with_kms_and_our_context_only(
    kms: KmsServer, provider: Provide
) -> None:
    made = provider()
    (kek,) = made.keys(create=True)
    label, _, encoded = made.path.read_text().strip().partition(" ")
    assert (label, len(kek)) == ("ensign-kms-v1", 32)
    blob = base64.b64decode(encoded)
    assert kek not in blob
    opened = kms.own.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)
    assert opened["Plaintext"] == kek
    with pytest.raises(kms.own.exceptions.InvalidCiphertextException):
        kms.own.decrypt(CiphertextBlob=blob)


def test_a_new_key_stands_above_the_old_until_all_is_wrapped_under_it(
    kms: KmsServer, provider: Provide
) -> None:
    made = provider()
    assert isinstance(made, RotatingProvider)
    (old,) = made.keys(create=True)
    kms.asked()
    new = made.begin()
    assert kms.asked() == {"GenerateDataKey": 1}
    again = provider()
    assert again.keys(create=False) == [new, old]
    assert KeyRing(again, create=False, check=KeyRing.of(old).check).check == KeyRing.of(old).check
    assert again.begin() == new, "an interrupted rotation goes on with its key"
    assert len(made.path.read_text().splitlines()) == 2
    again.finish()
    kms.asked()
    assert provider().keys(create=False) == [new]
    assert kms.asked() == {"Decrypt": 1}


def test_a_rotation_goes_over_to_another_kms_key(kms: KmsServer, provider: Provide) -> None:
    (old,) = provider().keys(create=True)
    other = kms.new_key()
    later = provider(other)
    assert later.keys(create=False) == [old]
    new = later.begin()
    later.finish()
    (line,) = later.path.read_text().splitlines()
    blob = base64.b64decode(line.partition(" ")[2])
    assert kms.own.decrypt(CiphertextBlob=blob, EncryptionContext=CONTEXT)["KeyId"] == other
    assert provider().keys(create=False) == [new]


def test_a_file_that_is_lost_or_no_such_file_is_told(kms: KmsServer, provider: Provide) -> None:
    assert refusal(provider().keys, create=False).code == "key.missing"
    assert kms.asked() == {}
    FileProvider(provider().path).keys(create=True)
    error = refusal(provider().keys, create=True)
    assert (error.code, "ensign-kms-v1" in error.sentence) == ("key.malformed", True)
    assert kms.asked() == {}


def test_a_changed_ciphertext_is_told(kms: KmsServer, provider: Provide) -> None:
    made = provider()
    made.keys(create=True)
    label, _, encoded = made.path.read_text().strip().partition(" ")
    blob = bytearray(base64.b64decode(encoded))
    blob[-1] ^= 1
    made.path.write_text(f"{label} {base64.b64encode(blob).decode()}\n")
    kept = made.path.read_bytes()
    error = refusal(made.keys, create=False)
    assert (error.code, str(made.path) in error.sentence) == ("kms.ciphertext_wrong", True)
    assert made.path.read_bytes() == kept


def test_a_kms_key_that_there_is_not_is_told(provider: Provide) -> None:
    gone = provider("arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000")
    error = refusal(gone.keys, create=True)
    assert (error.code, "00000000" in error.sentence) == ("kms.key_missing", True)
    assert not gone.path.exists()


@pytest.mark.parametrize(
    ("answer", "code", "waited"),
    [
        ("AccessDeniedException", "kms.access_denied", False),
        ("DisabledException", "kms.key_disabled", False),
        ("KMSInvalidStateException", "kms.key_unusable", False),
        ("NotFoundException", "kms.key_missing", False),
        ("InvalidCiphertextException", "kms.ciphertext_wrong", False),
        ("IncorrectKeyException", "kms.ciphertext_wrong", False),
        ("UnrecognizedClientException", "kms.credentials_rejected", False),
        ("ExpiredTokenException", "kms.credentials_expired", False),
        ("ThrottlingException", "kms.throttled", True),
        ("KMSInternalException", "kms.busy", True),
        ("InternalFailure", "kms.busy", True),
        ("SomethingNewException", "kms.refused", False),
        ("cut", "kms.connection_lost", True),
    ],
)
def test_answers_of_kms(
    kms: KmsServer, provider: Provide, answer: str, code: str, waited: bool
) -> None:
    made = provider()
    made.keys(create=True)
    kept = made.path.read_bytes()
    kms.asked()
    kms.proxy.fail("*", answer)
    for call in (lambda: made.keys(create=False), made.begin):
        error = refusal(call)
        assert (error.code, waits(error)) == (code, waited)
    assert made.path.read_bytes() == kept
    asked = kms.asked()
    assert asked.keys() == {"Decrypt", "GenerateDataKey"}
    assert max(asked.values()) <= ATTEMPTS_MAX


def test_a_busy_moment_is_waited_out(kms: KmsServer, provider: Provide) -> None:
    kms.proxy.fail("GenerateDataKey", "InternalFailure", times=1)
    assert len(provider().keys(create=True)) == 1
    assert kms.asked() == {"GenerateDataKey": 2}


def test_who_asks_and_where_is_told(
    provider: Provide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = provider(endpoint_url=f"http://127.0.0.1:{free_port()}")
    error = refusal(nobody.keys, create=True)
    assert (error.code, "127.0.0.1" in error.sentence) == ("kms.unreachable", True)
    assert refusal(provider("alias/shop").keys, create=True).code == "kms.region_missing"
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert refusal(provider().keys, create=True).code == "kms.credentials_missing"
    monkeypatch.delenv("AWS_PROFILE")
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    assert refusal(provider().keys, create=True).code == "kms.credentials_missing"
    assert not (tmp_path / "keys").exists()


def test_a_missing_driver_is_told(provider: Provide, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    error = refusal(provider().keys, create=True)
    assert (error.code, error.remedy) == (
        "kms.driver_missing", 'Run: pip install "ensign[kms]"',
    )  # fmt: skip
