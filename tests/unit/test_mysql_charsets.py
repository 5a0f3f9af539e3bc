"""Charsets and collations: what is said of bytes and names that stand for nothing, and what the
servers have and Python's codecs have not."""

from __future__ import annotations

import pytest

from connectors.mysql.charsets import decode, table
from connectors.mysql.collations import charset_of


@pytest.mark.parametrize(
    ("charset", "data", "text"),
    [
        ("latin1", b"\x80\x81\x8d\x8f\x90\x9d\xe9", "€\x81\x8d\x8f\x90\x9dé"),
        ("swe7", b"@[\\]^`{|}~", "ÉÄÖÅÜéäöåü"),
        ("armscii8", b"\xb2\xb3\xfd", "Աաֆ"),
        ("geostd8", b"\x80\xc0\xfd", "€ა№"),
        ("keybcs2", b"\x80\xa0\xad\xae\xe1\xff", "Čá¡«ß\xa0"),
        ("cp866", b"\x80\xfc\xfd", "Аⁿ²"),
        ("koi8u", b"\xa4\x95", "є•"),
        ("big5", b"\xa4\xa4\xf9\xd6\xa1\x5a", "中碁�"),
        ("cp932", b"\x81\x5f\x87\x40\xb1", "＼①ｱ"),
        ("sjis", b"\x81\x5f\x82\xa0\xb1\x5c", "\\あｱ\\"),
        (
            "ujis",
            b"\xa1\xc0\xa4\xa2\x8e\xb1\xf5\xa1\x8f\xf5\xa1\x8f\xb0\xa1",
            "\\あｱ\ue000\ue3ac丂",
        ),
        ("eucjpms", b"\xa1\xc0\xad\xa1\xa1\xc1\x8f\xf3\xf3\x8f\xf4\xfe", "＼①～ⅰ黑"),
        ("gb18030", b"\xa8\xbc\x81\x35\xf4\x37\x90\x30\x81\x30", "ḿ\ue7c7\U00010000"),
        ("gbk", b"\xd6\xd0", "中"),
        ("euckr", b"\xb0\xa1\x81\x41", "가갂"),
        ("ucs2", b"\xfe\xff\0A", "\ufeffA"),
        ("utf16", b"\xd8\x3d\xde\x00", "😀"),
        ("utf16le", b"\x3d\xd8\x00\xde", "😀"),
        ("utf32", b"\0\1\xf6\0", "😀"),
        ("utf8", b"\xc3\xa9", "é"),
        ("utf8mb3", b"\xef\xbf\xbf", "\uffff"),
        ("utf8mb4", b"\xf0\x9f\x98\x80", "😀"),
        ("binary", b"\xc3\xa9", "é"),
    ],
)
def test_texts(charset: str, data: bytes, text: str) -> None:
    assert decode(charset, data) == text.encode()


@pytest.mark.parametrize(
    ("charset", "data"),
    [
        ("ascii", b"a\x80"),
        ("cp1256", b"\x8a"),
        ("swe7", b"\x7f"),
        ("cp932", b"\x80"),
        ("cp932", b"\x87\x40\xff"),
        ("sjis", b"\x81"),
        ("ujis", b"\xa4"),
        ("eucjpms", b"\xad\xa1\xad\xbf"),
        ("gb18030", b"\xa8\xbc\x81\x35\xf4"),
        ("ucs2", b"\xd8\x3d\xde\x00"),
        ("ucs2", b"\xd8\x00"),
        ("ucs2", b"\0"),
        ("utf16", b"\xde\x00\xd8\x3d"),
        ("utf32", b"\0\x11\0\0"),
        ("utf32", b"\0\0\xd8\0"),
        ("utf8", b"\xf0\x9f\x98\x80"),
        ("utf8mb3", b"\xf0\x9f\x98\x80"),
        ("utf8mb4", b"\xed\xa0\x80"),
        ("utf8mb4", b"\xc0\x80"),
    ],
)
def test_bytes_that_are_not_valid(charset: str, data: bytes) -> None:
    with pytest.raises(ValueError, match=f"^bytes that are not valid in charset {charset}$"):
        decode(charset, data)


def test_a_charset_that_nobody_knows() -> None:
    for name in ("", "filename", "utf-8", "latin-1"):
        assert table(name) is None
        with pytest.raises(LookupError):
            decode(name, b"")


def test_a_table_has_256_texts_some_of_them_empty() -> None:
    texts = table("cp1256")
    assert texts is not None
    assert len(texts) == 256
    assert (texts[0x41], texts[0x80], texts[0x8A]) == (b"A", "€".encode(), b"")


@pytest.mark.parametrize(
    ("collation", "charset"),
    [(8, "latin1"), (33, "utf8mb3"), (45, "utf8mb4"), (63, ""), (255, "utf8mb4"), (1032, "latin1"),
     (1070, "utf8mb4"), (2304, "utf8mb4"), (2560, "ucs2"), (248, "gb18030")],
)  # fmt: skip
def test_collations(collation: int, charset: str) -> None:
    assert charset_of(collation) == charset


@pytest.mark.parametrize("collation", [-1, 0, 17, 100, 251, 400, 1024, 1041, 3328, 65_535])
def test_a_collation_that_nobody_knows(collation: int) -> None:
    with pytest.raises(LookupError):
        charset_of(collation)
