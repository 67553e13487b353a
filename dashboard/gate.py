"""The dashboard's door: every request and every WebSocket passes it, and every answer leaves with its headers.

Plain ASGI and outermost: nothing behind it (Dash, FastAPI, the images) is reached by a request that was not let in.
"""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.access import Access, without_token

COOKIE_SECONDS = 30 * 86_400
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""Answered to anyone: they say yes or no, and a container's health check has no cookie."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}
LOCKED = "This dashboard asks for a token: open the address that it printed when it started, or give the token here."
_SAFE = ("GET", "HEAD", "OPTIONS")
_NOT_IN = 4401
_LOCKED_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_LOCKED_PAGE = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Concept Monitor</title>
<meta name="viewport" content="width=device-width">
<style>body {{ font: 16px/1.5 sans-serif; max-width: 34em; margin: 15vh auto; padding: 0 1em }}
input, button {{ font: inherit; padding: .3em .6em }}</style>
<h1>Concept Monitor</h1><p>{LOCKED}</p>
<form method="get"><input type="password" name="token" aria-label="Token" autocomplete="off" autofocus required>
<button>Open</button></form></html>"""


def content_policy(script_hashes: list[str]) -> str:
    """The page's Content-Security-Policy: nothing from anywhere else, and no inline script but the ones named.

    ``unsafe-eval`` is for Plotly's WebGL traces, which compile their drawing commands; no text from outside is ever
    given to a function that evaluates. Inline *styles* stay allowed: Plotly and Mantine place elements by them.

    Args:
        script_hashes: of Dash's own one-line start script, as ``Dash.csp_hashes`` returns them.
    """
    scripts = " ".join(["'self'", "'unsafe-eval'", *script_hashes])
    return (
        f"default-src 'self'; script-src {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )


class Gate:
    """The middleware.

    Args:
        app: what is behind the door.
        access: who may pass.
        policy: the Content-Security-Policy of what is behind.
    """

    def __init__(self, app: ASGIApp, access: Access, policy: str) -> None:
        self._app, self._access, self._policy = app, access, policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, one WebSocket, or the server's start and end."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        answer = self._answer(scope)
        if answer is None:
            await self._app(scope, receive, self._dressed(send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": _NOT_IN, "reason": HTTPStatus(answer.status_code).phrase})
        else:
            await answer(scope, receive, self._dressed(send))

    def _answer(self, scope: Scope) -> Response | None:
        """What stands in the way; None if nothing does."""
        headers = Headers(scope=scope)
        if scope["path"] in OPEN_PATHS and scope["type"] == "http":
            return None
        names = headers.getlist("host")
        if len(names) != 1 or not self._access.knows_host(names[0]):
            return _refusal(400, "this dashboard is not known under that name: start it with --public-url to allow it")
        if not self._is_own_page(scope, headers):
            return _refusal(403, "another site may not talk to this dashboard")
        if self._access.admits(_bearer(headers), _cookies(headers)):
            return None
        return self._trade(scope) or self._locked(scope, headers)

    def _is_own_page(self, scope: Scope, headers: Headers) -> bool:
        """Whether a WebSocket, or a request that could change something, comes from a page of this dashboard.

        Browsers always say the origin of these; a script that says none is no browser, and carries no stolen cookie.
        """
        origin, host = headers.get("origin"), headers.get("host", "")
        if scope["type"] == "websocket":
            return origin is not None and self._access.knows_origin(origin, host)
        if scope["method"] in _SAFE:
            return True
        if origin is not None:
            return self._access.knows_origin(origin, host)
        return headers.get("sec-fetch-site", "none") in ("same-origin", "none")

    def _trade(self, scope: Scope) -> Response | None:
        """The right token in the address becomes a cookie, and the address loses it."""
        if scope["type"] != "http" or scope["method"] != "GET":
            return None
        path, query = scope.get("raw_path") or scope["path"].encode(), scope["query_string"]
        token, target = without_token(path.decode("latin-1").split("?")[0], query.decode("latin-1"))
        if not self._access.admits(token):
            return None
        answer = RedirectResponse(target, status_code=303)
        answer.set_cookie(
            self._access.cookie_name,
            self._access.cookie_value,
            max_age=COOKIE_SECONDS,
            httponly=True,
            samesite="lax",  # not strict: a link in a chat message has to open
            secure=scope["scheme"] == "https" or self._access.origin.startswith("https:"),
        )
        return answer

    def _locked(self, scope: Scope, headers: Headers) -> Response:
        page = scope["type"] == "http" and "text/html" in headers.get("accept", "")
        answer = HTMLResponse(_LOCKED_PAGE, 401) if page else _refusal(401, LOCKED)
        answer.headers["Content-Security-Policy"] = _LOCKED_POLICY
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer

    def _dressed(self, send: Send) -> Send:
        """Answers with the headers that every one of them has."""

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Security-Policy", self._policy)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if headers.get("content-type", "").startswith(("text/html", "application/json")):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        return dressed


def _refusal(status: int, reason: str) -> Response:
    return PlainTextResponse(reason, status, {"Cache-Control": "no-store"})


def _bearer(headers: Headers) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _cookies(headers: Headers) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in headers.getlist("cookie"):  # lenient: another program on this host may have set an odd one
        found |= cookie_parser(line)
    return found
