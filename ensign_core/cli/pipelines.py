"""``ensign check``, ``run``, ``status`` and ``drop``: commands over a config's pipelines."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from ensign_core.broker import Broker
from ensign_core.cli.metrics import serve_metrics
from ensign_core.cli.options import (
    ConfigArgument,
    JsonOption,
    chosen,
    load_config,
    open_configured,
)
from ensign_core.cli.output import (
    EXIT_FAILED,
    err,
    log_to_stderr,
    notice,
    out,
    show_error,
    show_json,
    show_warning,
    table,
)
from ensign_core.cli.policy import policy_of
from ensign_core.cli.progress import STATUS_COLUMNS, live_snapshots, snapshot_lines, status_rows
from ensign_core.config import Config, KeepConfig, PipelineConfig, topic_name
from ensign_core.errors import EnsignError
from ensign_core.plugin import Finding
from ensign_core.run.pipeline import Pipeline, Plan, SinkPlan
from ensign_core.run.status import statuses
from ensign_core.run.supervisor import LIFELINE, Supervisor, follow_parent, signals
from ensign_core.transforms import Chain

WAIT_S = 60.0
_MARKS = {"pass": ("✓", "green"), "warning": ("!", "yellow"), "error": ("✗", "red")}

PipelineOption = Annotated[
    list[str] | None, typer.Option("--pipeline", help="Only this pipeline; may be repeated.")
]


def plan(
    name: str, pipeline: PipelineConfig, topics: Mapping[str, KeepConfig] | None = None
) -> Plan:
    """A pipeline of the config as the runner takes it; ``topics`` says what its topics keep."""
    return Plan(
        name,
        pipeline.source.connector,
        pipeline.source.config,
        lambda schema: topic_name(pipeline.topic, schema),
        {
            sink: SinkPlan(
                entry.connector, entry.config, entry.from_, entry.transforms, entry.skip_revoked
            )
            for sink, entry in pipeline.sinks.items()
        },
        pipeline.transforms,
        lambda topic: policy_of(topics or {}, topic),
    )


def check(config: ConfigArgument, as_json: JsonOption = False) -> None:
    """Validate the config, then look at every server, privilege and setting that it needs."""
    loaded = load_config(config)
    findings = [{"pipeline": where, **vars(finding)} for where, finding in _findings(loaded)]
    if as_json:
        show_json(findings)
    for finding in [] if as_json else findings:
        mark, style = _MARKS[str(finding["level"])]
        out.print(f"[{style}]{mark}[/] ", end="")
        out.print(f"{finding['pipeline']}: {finding['sentence']} ", end="", markup=False)
        out.print(f"({finding['code']})", style="dim", markup=False)
        if finding["remedy"] and finding["level"] != "pass":
            out.print(f"  {finding['remedy']}", markup=False)
    if any(finding["level"] == "error" for finding in findings):
        raise typer.Exit(EXIT_FAILED)


def _findings(config: Config) -> Iterator[tuple[str, Finding]]:
    folder = config.broker.path
    try:
        if (folder / "ensign.db").exists():
            open_configured(config.broker, create=False).close()
            yield "broker", Finding("pass", "broker.opens", f"The broker in {folder} opens.")
        else:
            made = f"The broker's folder {folder} will be made at the first run."
            yield "broker", Finding("pass", "broker.new", made)
    except EnsignError as error:
        yield "broker", Finding("error", error.code, error.sentence, error.remedy)
    for name, pipeline in config.pipelines.items():
        parts = [(name, pipeline.source.connector, pipeline.source.config)]
        parts += [
            (f"{name}/{sink}", entry.connector, entry.config)
            for sink, entry in pipeline.sinks.items()
        ]
        listed = [(name, pipeline.transforms)]
        listed += [(f"{name}/{sink}", entry.transforms) for sink, entry in pipeline.sinks.items()]
        for where, transforms in listed:
            try:
                Chain(transforms, lambda _event, _error: None)
            except EnsignError as error:
                yield where, Finding("error", error.code, error.sentence, error.remedy)
        for where, connector, options in parts:
            try:
                found = connector.check(options, name)
            except EnsignError as error:
                found = [Finding("error", error.code, error.sentence, error.remedy)]
            for finding in found:
                yield where, finding


def run(
    config: ConfigArgument,
    pipeline: PipelineOption = None,
    until_caught_up: Annotated[
        bool,
        typer.Option(
            "--until-caught-up", help="End when all that was there at the start is delivered."
        ),
    ] = False,
    wait_s: Annotated[
        float,
        typer.Option("--wait-s", help="With --until-caught-up: how long to wait out an error."),
    ] = WAIT_S,
) -> None:
    """Run the config's pipelines until they are told to stop."""
    log_to_stderr()
    loaded = load_config(config)
    names = chosen(loaded, pipeline)
    child = LIFELINE in os.environ
    if len(names) > 1:
        code = _run_several(config, loaded, names, until_caught_up, wait_s)
    else:
        with serve_metrics(None if child else loaded.metrics):
            code = _run_one(loaded, names[0], until_caught_up, wait_s)
    if code:
        raise typer.Exit(code)


def _run_one(config: Config, name: str, until_caught_up: bool, wait_s: float) -> int:
    with open_configured(config.broker, create=True) as broker:
        runner = Pipeline(
            broker,
            plan(name, config.pipelines[name], config.broker.topics),
            until_caught_up=until_caught_up,
            wait_s=wait_s if until_caught_up else None,
        )
        with signals(runner.stop):
            child = follow_parent(runner.stop)
            with contextlib.nullcontext() if child else _live(broker, [name]):
                error = runner.run()
    if error is not None:
        show_error(error, name)
        return EXIT_FAILED
    return 0


def _run_several(
    path: Path, config: Config, names: list[str], until_caught_up: bool, wait_s: float
) -> int:
    ending = ["--until-caught-up", "--wait-s", str(wait_s)] if until_caught_up else []
    start = [sys.executable, "-m", "ensign_core.cli", "run", str(path), *ending, "--pipeline"]
    with (
        open_configured(config.broker, create=True) as broker,
        serve_metrics(config.metrics, workers=True),
    ):
        supervisor = Supervisor([[*start, name] for name in names])
        with signals(supervisor.stop), _live(broker, names):
            return supervisor.run()


def _live(broker: Broker, names: Sequence[str]) -> contextlib.AbstractContextManager[None]:
    return live_snapshots(err, lambda: snapshot_lines(broker.pipelines.statuses(), names))


def status(config: ConfigArgument, as_json: JsonOption = False) -> None:
    """Where each pipeline stands, and what keeps it from going on."""
    loaded = load_config(config)
    names = chosen(loaded)
    with open_configured(loaded.broker, create=False) as broker:
        found = statuses(broker, {name: loaded.pipelines[name].sinks for name in names})
    if as_json:
        show_json(found)
        return
    table(STATUS_COLUMNS, status_rows(found))
    for one in found:
        for warning in one["warnings"]:
            show_warning(EnsignError(*warning.values()), one["pipeline"])
        if one["error"]:
            show_error(EnsignError(*one["error"].values()), one["pipeline"])


def drop(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="The pipeline to remove.")],
    config: Annotated[Path, typer.Option("--config", help="The YAML file that declares it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove what a pipeline left on its server (slot, publication) and its position here. Its
    topics stay."""
    loaded = load_config(config)
    (name,) = chosen(loaded, [pipeline])
    source = loaded.pipelines[name].source
    with open_configured(loaded.broker, create=True) as broker:
        release = broker.pipelines.hold(name)
        try:
            if not yes:
                typer.confirm(f"Forget where {name} stands, here and on its server?", abort=True)
            told = source.connector.drop(source.config, name)
            broker.pipelines.remove(name)
        finally:
            release()
    for sentence in told:
        notice(sentence)
