"""Options that several commands share, and what they open."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from connectors.registry import connector
from ensign_core.broker import Broker, DiskBudget
from ensign_core.broker.reader import Start
from ensign_core.cli.output import notice
from ensign_core.config import BrokerConfig, Config, EnvKeys, FileKeys, KmsKeys, load
from ensign_core.crypto import (
    EnvironmentProvider,
    FileProvider,
    Identity,
    KeyProvider,
    KmsProvider,
    default_key_file,
)
from ensign_core.errors import EnsignError

ConfigArgument = Annotated[Path, typer.Argument(metavar="CONFIG", help="The YAML file.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Take the broker's folder and key from this file.")
]
PathOption = Annotated[Path | None, typer.Option("--path", help="The broker's folder.")]
KeysOption = Annotated[
    str | None,
    typer.Option(
        "--keys",
        metavar="FILE|env:VARIABLE",
        help="The key file, if it is not PATH.keys, or the environment variable with the key.",
    ),
]
IdentityOption = Annotated[
    Path | None,
    typer.Option("--identity", help="The file of the reader's identity, for client-sealed topics."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def load_config(path: Path) -> Config:
    """The config, with the connectors that are installed."""
    return load(path, connector)


def chosen(config: Config, names: list[str] | None = None) -> list[str]:
    """The named pipelines of a config, or all; an error if there is none."""
    known = list(config.pipelines)
    for name in names or known:
        if name not in known:
            raise EnsignError(
                "usage.pipeline_unknown",
                f"There is no pipeline {name!r} in the config.",
                f"It has: {', '.join(known) or 'none'}.",
            )
    if not known:
        raise EnsignError(
            "config.no_pipeline",
            "The config declares no pipeline.",
            "Add one under `pipelines:`; configs/ has examples.",
        )
    return names or known


def open_configured(config: BrokerConfig, *, create: bool, identity: Path | None = None) -> Broker:
    """The broker that a config names, with its identity or the one in the file ``identity``; says
    where a new key was made."""
    disk = DiskBudget(config.disk.bytes_max, config.disk.free_bytes_min)
    reader = identity or config.identity
    return _opened(config.path, configured_keys(config), create, reader, disk)


def configured_keys(config: BrokerConfig) -> KeyProvider:
    """What gives the key of the broker that a config names."""
    match config.keys:
        case FileKeys(path=path):
            return FileProvider(path)
        case EnvKeys(variable=variable, next=following):
            return EnvironmentProvider(variable, following)
        case KmsKeys() as kms:
            path = kms.path or default_key_file(config.path)
            return KmsProvider(kms.key_id, path, kms.region, kms.endpoint_url)
        case None:
            return FileProvider(default_key_file(config.path))


def open_broker(
    config: Path | None,
    path: Path | None,
    keys: str | None,
    *,
    create: bool = False,
    identity: Path | None = None,
) -> Broker:
    """The broker that ``--config`` or ``--path`` and ``--keys`` name, and ``--identity``."""
    if config is not None:
        if path is not None or keys is not None:
            raise EnsignError(
                "usage.conflict",
                "--config and --path (or --keys) were both given.",
                "Give the one that names the broker you mean.",
            )
        return open_configured(load_config(config).broker, create=create, identity=identity)
    if path is None:
        raise EnsignError(
            "usage.no_broker",
            "The command needs to know which broker.",
            "Give --config FILE, or --path with the broker's folder.",
        )
    return _opened(path, named_keys(path, keys), create, identity)


def named_keys(path: Path, keys: str | None) -> KeyProvider:
    """What gives the key of the broker in a folder: ``--keys``, or the file beside it."""
    if keys is None:
        return FileProvider(default_key_file(path))
    scheme, _, variable = keys.partition(":")
    return EnvironmentProvider(variable) if scheme == "env" else FileProvider(Path(keys))


def _opened(
    path: Path,
    keys: KeyProvider,
    create: bool,
    identity: Path | None,
    disk: DiskBudget | None = None,
) -> Broker:
    reader = Identity.load(identity) if identity is not None else None
    broker = Broker.open(path, keys, create=create, disk=disk, identity=reader)
    if broker.notice:
        notice(broker.notice)
    return broker


def parse_start(text: str) -> Start:
    """``start``, ``end``, an offset, or a time in ISO 8601 (UTC unless it says otherwise)."""
    if text == "start":
        return "start"
    if text == "end":
        return "end"
    if text.isdecimal():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise EnsignError(
            "usage.start_invalid",
            "--from is neither start, end, an offset nor a time.",
            "Write a time as 2026-11-23T10:00:00Z.",
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
