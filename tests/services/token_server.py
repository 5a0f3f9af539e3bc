"""An authorization server that gives unsigned tokens (RFC 7519, section 6) for the credentials of
one client (RFC 6749, section 4.4), as a broker of the tests takes them."""

from __future__ import annotations

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import parse_qs

from tests.services.service import Service

LIFE_S: Final = 600


class TokenServer(Service):
    """Gives tokens for ``user`` to whom knows ``client_id`` and ``client_secret``."""

    def __init__(self, user: str, client_id: str, client_secret: str) -> None:
        self.scopes: list[str] = []
        """What was asked for, one for each token."""
        wanted = "Basic " + base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()
        scopes = self.scopes

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                if self.headers["Authorization"] != wanted:
                    self._answer(401, {"error": "invalid_client"})
                    return
                assert form["grant_type"] == ["client_credentials"]
                scopes.extend(form.get("scope", []))
                given = {"access_token": token(user), "token_type": "Bearer", "expires_in": LIFE_S}
                self._answer(200, given)

            def _answer(self, status: int, what: dict[str, object]) -> None:
                body = json.dumps(what).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
                """Nothing on the standard error."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/token"

    def begin(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def token(user: str) -> str:
    """A token of ``user`` without signature."""
    now = int(time.time())
    claims = {"sub": user, "iat": now, "exp": now + LIFE_S, "scope": "kafka"}
    return f"{_part({'alg': 'none'})}.{_part(claims)}."


def _part(what: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(what).encode()).rstrip(b"=").decode()
