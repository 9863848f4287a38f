"""A place in three dimensions: Neuroglancer's page, and the volumes that it reads, behind the token of the review.

The page is that of Neuroglancer's own wheel. Its Python server is not used: it would be a second one with a token and
rules of its own. Here all is files that are read, looked up by name or digest in what the review has opened. What the
page shows stands in its address; of a Python server it wants one thing still, a stream of events, which here is empty.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from segem.errors import ConfigError
from segem.guard import OWN_HEADERS, STILL
from segem.io.run import load_run
from segem.io.storage import storage_of
from segem.io.workspace import Workspace
from segem.review.session import Review

CONTENT_POLICY = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'{more}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; worker-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Of Neuroglancer's page: it decodes by WebAssembly, and writes styles. It talks to this server alone."""
_SILENCE_SECONDS = 20
_TYPES = {".html", ".js", ".css", ".wasm"}
_INSIDE = re.compile(
    r"(?:labels/(?!reviewed/)[a-z0-9-]{1,40}/)?(?:zarr\.json|[0-9]{1,2}/(?:zarr\.json|c(?:/[0-9]{1,9}){3}))|labels/zarr\.json"
)
"""What may be read of an OME-Zarr image: what describes it and its arrays, and their shards. Not what people have
corrected, which a second reader is not to see."""


def find_client() -> dict[str, Path]:
    """Return the files of Neuroglancer's page by name.

    Raises
    ------
    ConfigError
        When it is not installed.
    """
    # Looked for and not imported: that would load its server and what signs in to clouds.
    found = find_spec("neuroglancer")
    folders = list(found.submodule_search_locations or ()) if found is not None else []
    folder = Path(folders[0]) / "static" / "client" if folders else None
    if folder is None or not (folder / "index.html").is_file():
        raise ConfigError("--3d needs Neuroglancer", fix="pip install 'segem[3d]'")
    return {path.name: path for path in sorted(folder.iterdir()) if path.suffix in _TYPES}


def add_three_d(review: Review) -> APIRouter:
    """Return the routes of Neuroglancer's page and of the volumes of a review.

    Raises
    ------
    ConfigError
        When Neuroglancer is not installed, or the volumes lie in a storage.
    """
    if (storage := storage_of(review.workspace)) is not None:
        raise ConfigError(
            "--3d shows volumes on the disk of this machine",
            where=review.run,
            found=f"they lie in {storage.objects.url}",
            fix="review without --3d, and open their URLs there in Neuroglancer",
        )
    files, router = find_client(), APIRouter(prefix="/3d")
    opened = {name: _layers_of(review.workspace, review.run, name) for name in review.volumes}
    images = {layer["key"]: layer["path"] for layers in opened.values() for layer in layers}

    @router.get("/layers/{volume}")
    def list_layers(volume: str) -> list[dict[str, Any]]:
        if volume not in opened:
            raise HTTPException(404)
        return [{key: value for key, value in layer.items() if key != "path"} for layer in opened[volume]]

    @router.api_route("/volumes/{key}/{inside:path}", methods=["GET", "HEAD"])
    def show_part(key: str, inside: str) -> Response:
        # A shard that is not there is one without voxels, as the format has it.
        if key not in images or not _INSIDE.fullmatch(inside) or not (images[key] / inside).is_file():
            raise HTTPException(404)
        return FileResponse(images[key] / inside, headers={"Cache-Control": "no-cache"})

    @router.get("/events/view")
    def stream_nothing() -> Response:
        answer = Silence(
            media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        # Passed on at once by nginx too. It has no end that could be known.
        del answer.headers["Content-Length"]
        return answer

    # The page looks for /v/ in its address.
    @router.get("/v/view/{name}")
    def show_client(request: Request, name: str) -> Response:
        if name not in files:
            raise HTTPException(404)
        # What a worker may do is said by its own file. Those that decode make functions of text when they are loaded;
        # they see neither the page nor anything beyond this server, and the page itself may not.
        policy = CONTENT_POLICY.format(more=" 'unsafe-eval'" if name.endswith(".js") else "")
        request.scope[OWN_HEADERS]["Content-Security-Policy"] = policy
        return FileResponse(files[name], headers={"Cache-Control": "no-cache"})

    return router


class Silence(Response):
    """A stream of events without any, open until its page is closed, its token is revoked or the server ends."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send a comment now and then, by which what lies in between learns that the page is still there."""
        seconds = 0
        # A server that ends cancels what is open, which is how this is to end.
        with suppress(asyncio.CancelledError):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while scope[STILL]():
                if seconds % _SILENCE_SECONDS == 0:
                    await send({"type": "http.response.body", "body": b": nothing\n\n", "more_body": True})
                seconds += 1
                with suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        while (await receive())["type"] != "http.disconnect":
                            pass
                        return
        await send({"type": "http.response.body"})


def _layers_of(workspace: Workspace, run: str, name: str) -> list[dict[str, Any]]:
    """Return what there is to be shown of a volume, each with the folder it lies in and what it is called by."""
    source, result = workspace.volume(name), workspace.result(run, name)
    record = load_run(workspace, run).volumes[name]
    layers = [("raw", "image", source, "")]
    if record.membrane is not None:
        layers.append(("probability", "probability", result, ""))
    layers.append(
        ("mask", "mask", result, "labels/baseline" if _is_baseline(workspace, run, name) else "labels/membrane")
    )
    if record.cells is not None and record.cells.state == "complete":
        layers.append(("cells", "segmentation", result, "labels/cells"))
    return [
        {
            "name": label,
            "kind": kind,
            "key": hashlib.sha256(str(path).encode()).hexdigest()[:32],
            "path": path,
            "inside": inside,
        }
        for label, kind, path, inside in layers
    ]


def _is_baseline(workspace: Workspace, run: str, name: str) -> bool:
    from segem.io.reviewed import mask_layer

    return mask_layer(workspace, run, name) == "baseline"
