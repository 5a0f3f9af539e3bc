"""The config file: what it says, and what its reader is told when it is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field, SecretStr, field_validator

from ensign_core.cli.options import configured_keys
from ensign_core.config import (
    BrokerConfig,
    Config,
    ConfigErrors,
    EnvKeys,
    FileKeys,
    KmsKeys,
    MetricsConfig,
    load,
)
from ensign_core.crypto import KmsProvider
from ensign_core.errors import ConfigError, EnsignError
from ensign_core.plugin import Connector, ConnectorConfig

SECRET = "hunter2"


class Login(ConnectorConfig):
    user: str = "cdc"
    password: SecretStr | None = None


class DatabaseSource(ConnectorConfig):
    type: Literal["database"]
    dsn: SecretStr
    tables: tuple[str, ...] = ("public.*",)
    port: int = 5432
    snapshot: Literal["initial", "never"] = "initial"
    login: Login = Field(default_factory=Login)

    @field_validator("dsn")
    @classmethod
    def _scheme(cls, dsn: SecretStr) -> SecretStr:
        if not dsn.get_secret_value().startswith("postgresql://"):
            raise ValueError(f"the DSN {dsn.get_secret_value()} with {SECRET} is no URL")
        return dsn


class FolderSink(ConnectorConfig):
    type: Literal["folder"]
    path: Path


def _find(kind: Literal["source", "sink"], name: str) -> Connector[Any]:
    models = {("source", "database"): DatabaseSource, ("sink", "folder"): FolderSink}
    if (kind, name) not in models:
        raise EnsignError("connector.unknown", "There is no such connector.", "Choose another.")
    return Connector(name, kind, models[kind, name], lambda _config, _context: None)


class Written:
    """A config file that a test writes and loads."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "shop.yaml"

    def load(self, text: str) -> Config:
        self.path.write_text(text)
        return load(self.path, _find)

    def errors(self, text: str) -> list[ConfigError]:
        with pytest.raises(ConfigErrors) as caught:
            self.load(text)
        assert caught.value.code == caught.value.errors[0].code
        assert caught.value.where == caught.value.errors[0].where
        for error in caught.value.errors:
            assert error.where.startswith(f"{self.path}:")
            assert error.sentence.startswith(f"{error.where}: ")
            assert error.remedy
            assert "\n" not in error.sentence + error.remedy
        assert SECRET not in str(caught.value) + repr(caught.value.errors)
        return list(caught.value.errors)

    def places(self, text: str) -> list[tuple[str, str]]:
        """Codes and ``LINE: path`` of the errors."""
        prefix = f"{self.path}:"
        return [(e.code, e.where.removeprefix(prefix)) for e in self.errors(text)]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path)


WHOLE = """\
broker:
  path: ./var/shop
  keys: {type: file, path: ./var/keys}
pipelines:
  shop:
    source:
      type: database
      dsn: "postgresql://cdc:${PG_PASSWORD}@127.0.0.1:${PG_PORT:-5432}/shop"
      tables: ["public.*"]
      port: ${PG_PORT:-5433}
    topic: "{database}.{schema}.{table}"
    transforms: []
    sinks:
      lake: {type: folder, path: ./var/lake, from: end}
metrics: {listen: "[::1]:9000"}
"""


def test_a_whole_file(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG_PASSWORD", "a: 'b' \"c\" # {d}")
    config = written.load(WHOLE)
    assert config.broker.path == Path("var/shop")
    assert config.broker.keys == FileKeys(type="file", path=Path("var/keys"))
    pipeline = config.pipelines["shop"]
    source = pipeline.source.config
    assert isinstance(source, DatabaseSource)
    assert source.dsn.get_secret_value() == (
        "postgresql://cdc:a: 'b' \"c\" # {d}@127.0.0.1:5432/shop"
    )
    assert source.port == 5433
    assert pipeline.source.connector.name == "database"
    assert pipeline.topic == "{database}.{schema}.{table}"
    assert pipeline.sinks["lake"].from_ == "end"
    assert pipeline.sinks["lake"].config == FolderSink(type="folder", path=Path("var/lake"))
    assert config.metrics is not None
    assert (config.metrics.host, config.metrics.port) == ("::1", 9000)
    assert "'b'" not in repr(config)


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "broker:\npipelines:\nmetrics:\n"])
def test_an_empty_file_is_all_defaults(written: Written, text: str) -> None:
    config = written.load(text)
    assert config == Config()
    assert config.broker == BrokerConfig(path=Path("var/ensign"), keys=None)
    assert config.pipelines == {}
    assert config.metrics is None


def test_defaults_of_sections(written: Written) -> None:
    source = "{type: database, dsn: 'postgresql://'}"
    config = written.load(
        "broker: {keys: {type: env, variable: ENSIGN_KEY}}\n"
        "metrics: {}\n"
        f"pipelines: {{a: {{source: {source}, topic: , sinks: }}}}\n"
    )
    assert config.broker.keys == EnvKeys(type="env", variable="ENSIGN_KEY")
    assert config.metrics == MetricsConfig(listen="127.0.0.1:9464")
    assert config.pipelines["a"].topic is None
    assert config.pipelines["a"].sinks == {}


def test_keys_of_each_kind(written: Written) -> None:
    config = written.load(
        "broker: {keys: {type: env, variable: ENSIGN_KEY, next: ENSIGN_KEY_NEXT}}"
    )
    assert config.broker.keys == EnvKeys(type="env", variable="ENSIGN_KEY", next="ENSIGN_KEY_NEXT")
    config = written.load(
        "broker: {path: var/shop, keys: {type: aws_kms, key_id: alias/shop, region: eu-west-1}}"
    )
    keys = config.broker.keys
    assert keys == KmsKeys(type="aws_kms", key_id="alias/shop", region="eu-west-1")
    provider = configured_keys(config.broker)
    assert isinstance(provider, KmsProvider)
    assert provider.path == Path("var/shop.keys")


def test_merge_keys_and_anchors(written: Written) -> None:
    config = written.load(
        "pipelines:\n"
        "  a: {source: &shared {type: database, dsn: 'postgresql://a', port: 1}}\n"
        "  b: {source: {<<: *shared, port: 2}}\n"
        "  c: {source: *shared}\n"
    )
    ports = [p.source.config.model_dump()["port"] for p in config.pipelines.values()]
    assert ports == [1, 2, 1]


def test_everything_wrong_is_said_at_once_with_its_line(written: Written) -> None:
    text = f"""\
broker: {{keys: {{type: fil, path: x}}, path: [1]}}
pipelines:
  a b:
  shop:
    source:
      type: database
      dsn: "mysql://u:{SECRET}@h"
      tabels: [a]
      login: {{pasword: {SECRET}}}
    topc: a
    topic: "{{tbl}}"
    transforms: [{{type: rename}}]
    sinks:
      a: {{type: folder, path: x, from: sart}}
      b: {{type: folder}}
      c: {{type: foldr}}
      d:
      e: {SECRET}
metrics: {{listen: {SECRET}}}
"""
    assert written.places(text) == [
        ("config.wrong_type", "1: broker.path"),
        ("config.invalid_value", "1: broker.keys.type"),
        ("config.name", "3: pipelines.a b"),
        ("config.missing_key", "3: pipelines.a b.source"),
        ("config.invalid_value", "7: pipelines.shop.source.dsn"),
        ("config.unknown_key", "8: pipelines.shop.source.tabels"),
        ("config.unknown_key", "9: pipelines.shop.source.login.pasword"),
        ("config.unknown_key", "10: pipelines.shop.topc"),
        ("config.topic_template", "11: pipelines.shop.topic"),
        ("config.missing_key", "12: pipelines.shop.transforms[0].columns"),
        ("config.invalid_value", "14: pipelines.shop.sinks.a.from"),
        ("config.missing_key", "15: pipelines.shop.sinks.b.path"),
        ("connector.unknown", "16: pipelines.shop.sinks.c.type"),
        ("config.missing_key", "17: pipelines.shop.sinks.d.type"),
        ("config.wrong_type", "18: pipelines.shop.sinks.e"),
        ("config.invalid_value", "19: metrics.listen"),
    ]
    near = [e.remedy for e in written.errors(text) if e.code == "config.unknown_key"]
    assert near == ["Did you mean tables?", "Did you mean password?", "Did you mean topic?"]


def test_an_unknown_key_far_from_any_names_all(written: Written) -> None:
    (error,) = written.errors("xyz: 1")
    assert error.remedy == "The keys here are: broker, pipelines, metrics."


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (f"[{SECRET}]", "config.wrong_type"),
        (f"{{{SECRET}: 1}}", "config.wrong_type"),
        ("12", "config.wrong_type"),
        (f"!!python/name:{SECRET} x", "config.syntax"),
        (f"*{SECRET}", "config.syntax"),
        (f"'{SECRET}", "config.syntax"),
        (f"${{{SECRET}", "config.variable_syntax"),
        (f"${{{SECRET}!}}", "config.variable_syntax"),
        ("${A:-${B}}", "config.variable_syntax"),
    ],
)
def test_a_bad_secret_is_never_repeated(written: Written, value: str, code: str) -> None:
    text = f"pipelines:\n  a:\n    source:\n      type: database\n      dsn: {value}\n"
    codes = [error.code for error in written.errors(text)]
    assert code in codes


def test_duplicate_keys(written: Written) -> None:
    source = "{source: {type: database, dsn: 'postgresql://'}}"
    text = f"pipelines:\n  a: {source}\n  'a': {source}\nbroker: {{path: x, path: y}}\n"
    assert written.places(text) == [
        ("config.duplicate_key", "3: pipelines.a"),
        ("config.duplicate_key", "4: broker.path"),
    ]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("broker:\n\tpath: x\n", "2"),
        ("broker: {path: x\nmetrics: y\n", "2"),
        ("a: 1\n---\nb: 2\n", "2"),
        ("a: b: c\n", "1"),
        ("a: &x [*x]\n", "1: a[0]"),
        ("? [a]\n: b\n", "1"),
        ("a:\n  <<: 5\n", "2: a"),
        ("\n\na: \x07\n", "3"),
        ("[" * 5000, "1"),
    ],
)
def test_what_is_not_yaml(written: Written, text: str, where: str) -> None:
    assert ("config.syntax", where) in written.places(text)


@pytest.mark.parametrize("text", ["- a\n", "pipelines\n", "5\n"])
def test_what_is_not_a_mapping(written: Written, text: str) -> None:
    assert written.places(text) == [("config.not_a_mapping", "1")]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("pipelines: [a]\n", "1: pipelines"),
        ("pipelines:\n  a: [b]\n", "2: pipelines.a"),
        ("pipelines:\n  a:\n    source: b\n", "3: pipelines.a.source"),
        ("pipelines:\n  a:\n    source: {type: [x]}\n", "3: pipelines.a.source.type"),
        ("broker: x\n", "1: broker"),
    ],
)
def test_sections_of_the_wrong_shape(written: Written, text: str, where: str) -> None:
    assert ("config.wrong_type", where) in written.places(text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"a: \xff\xfe")
    for path, code in [
        (tmp_path / "none.yaml", "config.file_missing"),
        (tmp_path, "config.file_unreadable"),
        (binary, "config.file_unreadable"),
    ]:
        with pytest.raises(ConfigErrors) as caught:
            load(path, _find)
        assert [error.code for error in caught.value.errors] == [code]


def _path(written: Written, value: str) -> str:
    return str(written.load(f"broker:\n  path: '{value}'\n").broker.path)


def test_variables(written: Written, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SET", "${OTHER}$$")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("UNSET", raising=False)
    Path("secret").write_text("from: file\n")
    assert _path(written, "a/${SET}") == "a/${OTHER}$$"
    assert _path(written, "${UNSET:-x:-y}") == "x:-y"
    assert _path(written, "a${UNSET:-}") == "a"
    assert _path(written, "${EMPTY:-x}") == "x"
    assert _path(written, "a${EMPTY}") == "a"
    assert _path(written, "${file:secret}") == "from: file"
    assert _path(written, "$$ $${SET} $SET 5$") == "$ ${SET} $SET 5$"


def test_variables_that_are_missing(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNSET", raising=False)
    source = "{type: database, dsn: '${UNSET}', port: '${UNSET}', tables: ['${UNSET}']}"
    assert written.places(f"pipelines: {{a: {{source: {source}}}}}") == [
        ("config.variable_missing", "1: pipelines.a.source.dsn"),
        ("config.variable_missing", "1: pipelines.a.source.port"),
        ("config.variable_missing", "1: pipelines.a.source.tables[0]"),
    ]
    folder = written.path.parent
    assert written.places(f"broker: {{path: '${{file:{folder}/none}}'}}") == [
        ("config.secret_missing", "1: broker.path")
    ]
    assert written.places(f"broker: {{path: '${{file:{folder}}}'}}") == [
        ("config.secret_unreadable", "1: broker.path")
    ]


@pytest.mark.parametrize("name", ["a", "A-b_9", "x" * 63])
def test_names_that_are_good(written: Written, name: str) -> None:
    source = "{type: database, dsn: 'postgresql://'}"
    assert name in written.load(f"pipelines: {{{name}: {{source: {source}}}}}").pipelines


@pytest.mark.parametrize("name", ["a.b", "é", '""', "x" * 64, "a/b"])
def test_names_that_are_not(written: Written, name: str) -> None:
    source = "{type: database, dsn: 'postgresql://'}"
    sink = f"sinks: {{{name}: {{type: folder, path: x}}}}"
    for text in (
        f"pipelines: {{{name}: {{source: {source}}}}}",
        f"pipelines: {{a: {{source: {source}, {sink}}}}}",
    ):
        assert [error.code for error in written.errors(text)] == ["config.name"]


def test_a_sink_is_not_named_as_the_source_is(written: Written) -> None:
    text = (
        "pipelines: {a: {source: {type: database, dsn: 'postgresql://'}, "
        "sinks: {source: {type: folder, path: x}}}}"
    )
    assert [error.code for error in written.errors(text)] == ["config.name"]


@pytest.mark.parametrize(
    "template", ["", "a b", "{", "}", "{}", "{table!r}", "{table", "{{table}}", "é", "x" * 513]
)
def test_templates_that_no_source_can_fill(written: Written, template: str) -> None:
    source = "{type: database, dsn: 'postgresql://'}"
    text = f"pipelines:\n  a:\n    source: {source}\n    topic: '{template}'\n"
    assert written.places(text) == [("config.topic_template", "4: pipelines.a.topic")]
