"""``GET /metrics`` of `ensign run`, over all its worker processes."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

from prometheus_client import REGISTRY, CollectorRegistry, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector

from ensign_core.config import MetricsConfig
from ensign_core.errors import EnsignError

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


@contextlib.contextmanager
def serve_metrics(config: MetricsConfig | None, *, workers: bool = False) -> Iterator[None]:
    """Answer while in here, if the config asks for it. With ``workers`` the numbers are those of
    the worker processes started in here, which leave them in a folder that only lives as long."""
    if config is None:
        yield
        return
    with contextlib.ExitStack() as stack:
        registry = REGISTRY
        if workers:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ensign-metrics-"))
            os.environ[_FOLDER] = folder
            stack.callback(os.environ.pop, _FOLDER, None)
            registry = CollectorRegistry()
            MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]  # untyped there
        try:
            server, thread = start_http_server(config.port, config.host, registry)
        except OSError as error:
            raise EnsignError(
                "metrics.address_in_use",
                f"{config.listen} cannot be listened on: {error.strerror}.",
                "Choose another address under `metrics: listen:`.",
            ) from None
        stack.callback(server.server_close)
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        yield
