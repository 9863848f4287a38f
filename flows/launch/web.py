"""What the service answers: Prefect's page and API, and the reports of the runs, all behind one password."""

from __future__ import annotations

import base64
import hmac
import html
from pathlib import Path
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.links import REPORTS
from segem.errors import SegemError
from segem.guard import SECURITY_HEADERS
from segem.io.workspace import Workspace

ASK = {"WWW-Authenticate": 'Basic realm="segem: user segem, and the password that segem serve printed"'}

HEADERS = {key: value for key, value in SECURITY_HEADERS.items() if key != "Content-Security-Policy"}
"""On every answer; which scripts and styles a page may use is said below, since these pages are not alike."""
OWN = (
    "default-src 'self'; img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'; style-src 'self' 'unsafe-inline'; "
)
# Prefect's page sets styles in its elements, and draws what it compiles in a worker.
PREFECT_POLICY = OWN + "script-src 'self' blob:; worker-src 'self' blob:"
# A report holds its script, and brings a stricter policy that names it by its digest.
REPORT_POLICY = OWN + "script-src 'self' 'unsafe-inline'"


def make_web(prefect: ASGIApp, workspace: Path, password: str) -> ASGIApp:
    """Return the application that serves the reports and hands all else to Prefect.

    Parameters
    ----------
    prefect : ASGIApp
        Prefect's application, which asks for the password itself.
    workspace : Path
        Root of the workspace whose reports are served.
    password : str
        ``USER:PASSWORD``, as for Prefect.

    Returns
    -------
    ASGIApp
        Its lifespan is that of Prefect's.
    """
    reports = _ask_for(password, _make_reports(Workspace(workspace)))

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        ours = scope["type"] == "http" and (path == REPORTS or path.startswith(f"{REPORTS}/"))
        policy = REPORT_POLICY if ours else PREFECT_POLICY

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Content-Security-Policy"] = policy
            await send(message)

        await (reports if ours else prefect)(scope, receive, sent)

    return route


def _make_reports(workspace: Workspace) -> ASGIApp:
    def list_reports(_: Request) -> Response:
        runs = [run for run in reversed(workspace.runs()) if (workspace.report(run) / "index.html").is_file()]
        lines = "".join(f'<li><a href="{REPORTS}/{quote(run)}/index.html">{html.escape(run)}</a></li>' for run in runs)
        return HTMLResponse(
            "<!doctype html><html lang=en><meta charset=utf-8><title>Reports</title><h1>Reports</h1>"
            f"<ul>{lines or '<li>none yet</li>'}</ul></html>"
        )

    async def open_report(request: Request) -> Response:
        try:
            folder = workspace.report(request.path_params["run"])
        except SegemError:
            return PlainTextResponse("no such run", 404)
        if not folder.is_dir():
            return PlainTextResponse("no such report", 404)
        # Checks by itself that a path stays within the folder, and follows no link out of it.
        return await StaticFiles(directory=folder).get_response(request.path_params["path"], request.scope)

    def open_folder(request: Request) -> Response:
        return RedirectResponse(f"{REPORTS}/{quote(request.path_params['run'])}/index.html")

    return Starlette(
        routes=[
            Mount(
                REPORTS,
                routes=[
                    Route("/", list_reports),
                    Route("/{run}", open_folder),
                    Route("/{run}/{path:path}", open_report),
                ],
            )
        ]
    )


def _ask_for(password: str, app: ASGIApp) -> ASGIApp:
    """Let through who brings the password; a browser then asks for it in a window of its own."""

    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        given = _credentials(Request(scope).headers.get("authorization", ""))
        allowed = hmac.compare_digest(given, password.encode())
        await (app if allowed else PlainTextResponse("The password is needed.", 401, ASK))(scope, receive, send)

    return asked


def _credentials(header: str) -> bytes:
    kind, _, encoded = header.partition(" ")
    if kind.lower() != "basic":
        return b""
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError:
        return b""
