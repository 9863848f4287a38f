"""How fast the page of a review answers on a section of 32,768 x 32,768 pixels, with several reviewers at once.

    .venv/bin/python benchmarks/review_server.py --work FOLDER [--edge-px 32768] [--people 4] [--rounds 60] [--views 5]

The section is made of copies of a synthetic one, and its mask is the truth; both stay in the folder. The server is a
process of its own, `segem review`. Each person asks for tiles of the image and of the mask at random places
and levels, and paints a stroke after every third. Times are what a client waits, in milliseconds.

First, while nobody else is there, a browser opens the page anew `--views` times: the first view is there when the
middle of the stage shows tissue at full size, with its mask, and the list of regions is filled. It counts from the
navigation, the visit that brings the token included. Beside it stand the seconds of processors that server and browser
took for it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
from machine import provenance

from segem.config import SynthConfig
from segem.geometry import VoxelSize, grid
from segem.io.run import result_volume, update_run
from segem.io.volume import create_volume, write_block
from segem.io.workspace import Workspace, open_workspace
from segem.kernels.synth import synthesize
from segem.records.run import VolumeRecord
from segem.review.pictures import TILE_PX

RUN, VOLUME = "review-speed", "large"
PATCH_PX = 2048
LEVELS = 4
STROKE_PX = 60
RUNS = [7, 30, 30, 30, 100, 40]
Times = dict[str, list[float]]


def make_section(workspace: Workspace, edge_px: int) -> None:
    """Make the volume and the run, unless they are there."""
    if VOLUME in workspace.volumes():
        return
    drawn = synthesize(SynthConfig(shape=(1, PATCH_PX, PATCH_PX), seed=1))
    source = create_volume(
        workspace.volume(VOLUME),
        shape=(1, edge_px, edge_px),
        dtype=np.uint8,
        voxel_size=VoxelSize(50, 4, 4),
        labels={},
        attributes={"source_digest": "generated"},
    )
    result = result_volume(workspace, RUN, VOLUME)
    for _, box in grid(source.shape, source.write_block):
        _, height, width = box.shape
        write_block(source.raw, box, drawn.image[:, :height, :width])
        write_block(result.label("membrane"), box, drawn.truth[:, :height, :width])
    source.build_pyramid()
    result.build_pyramid("membrane")
    update_run(workspace, RUN, lambda record: record.model_copy(update={"volumes": {VOLUME: VolumeRecord()}}))


def work(address: str, token: str, edge_px: int, rounds: int, seed: int) -> Times:
    """Do what a person does, and return how long each answer took, in seconds."""
    rng, times = np.random.default_rng(seed), defaultdict(list)
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=address, headers=headers, trust_env=False, timeout=60) as client:

        def ask(what: str, method: str, path: str, **more: object) -> httpx.Response:
            begun = time.perf_counter()
            answer = client.request(method, path, **more)  # type: ignore[arg-type]
            times[what].append(time.perf_counter() - begun)
            return answer

        key = client.get("/api/review").json()["volumes"][0]["raw"]
        seen = client.get(f"/api/changes/{VOLUME}/0?page=person-{seed}").json()["seen"]
        for turn in range(rounds):
            level = int(rng.integers(LEVELS))
            row, column = rng.integers(-(-edge_px // 2**level // TILE_PX), size=2)
            ask("tile", "GET", f"/tiles/{key}/{level}/0/{row}/{column}").raise_for_status()
            ask("mask", "GET", f"/api/mask/{VOLUME}/{level}/0/{row}/{column}").raise_for_status()
            if turn % 3 == 0:
                y, x = map(int, rng.integers(edge_px - STROKE_PX, size=2))
                place = {"volume": VOLUME, "z": 0, "y": y, "x": x, "height": STROKE_PX, "width": STROKE_PX}
                body = {"id": str(uuid.uuid4()), "place": place, "runs": RUNS, "tool": "brush"}
                told = ask("stroke", "POST", "/api/corrections", json=body, headers={"If-Match": f'"{seen}"'}).json()
                seen = told["entry"]["number"] if "entry" in told else told["changes"][-1]["number"]
            time.sleep(float(rng.random()) / 10)
    return times


# Notes when each part is there; `marks` is the canvas of that name.
WATCH = """addEventListener("DOMContentLoaded", () => {
  const seen = (window.firstView = {});
  const look = () => {
    const at = performance.now();
    if (document.querySelector("#region-list li")) seen.list ??= at;
    if (document.querySelector("#mask[data-drawn=all]")) seen.mask ??= at;
    const canvas = document.querySelector("#viewer canvas");
    const pixel = canvas?.width && canvas.getContext("2d").getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data;
    const files = performance.getEntriesByType("resource").map(({ name }) => name);
    if (pixel?.[3] && files.some((name) => /tiles.[0-9a-f]+.0.0/.test(name))) seen.tiles ??= at;
    if (!(seen.list && seen.mask && seen.tiles)) requestAnimationFrame(look);
  };
  look();
});"""


def view_first(opens: str, server: int, views: int) -> list[tuple[float, float]]:
    """Return how long each first view took, and the seconds of processors of server and browser for it."""
    from playwright.sync_api import sync_playwright

    def spent() -> float:
        processes = [psutil.Process(server), *psutil.Process(os.getpid()).children(recursive=True)]
        return sum(sum(one.cpu_times()[:2]) for one in processes if one.is_running())

    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for _ in range(views):
            context = browser.new_context(viewport={"width": 1280, "height": 800})
            page = context.new_page()
            page.add_init_script(WATCH)
            before, begun = spent(), time.time()
            page.goto(opens)
            while not page.evaluate("window.firstView?.list && window.firstView?.mask && window.firstView?.tiles"):
                time.sleep(0.02)
            # The page's clock begins after the visit that brings the token.
            origin = page.evaluate("performance.timeOrigin") / 1000
            last = page.evaluate("Math.max(...Object.values(window.firstView))") / 1000
            found.append((origin + last - begun, spent() - before))
            context.close()
        browser.close()
    return found


def main() -> None:
    """Print the times and the memory of the server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--edge-px", type=int, default=32_768)
    parser.add_argument("--people", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--views", type=int, default=5)
    options = parser.parse_args()
    workspace = open_workspace(options.work)
    make_section(workspace, options.edge_px)
    command = [sys.executable, "-m", "segem", "review", RUN, "--workspace", str(options.work), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        text = ""
        while "}" not in text:
            text += server.stdout.readline() if server.stdout else ""
        address, _, token = json.loads(text)["review"].partition("/?token=")
        views = view_first(f"{address}/?token={token}", server.pid, options.views) if options.views else []
        with ThreadPoolExecutor(options.people) as people:
            seeds = range(options.people)
            done = list(people.map(lambda seed: work(address, token, options.edge_px, options.rounds, seed), seeds))
        memory = psutil.Process(server.pid).memory_info().rss / 1e6
        server.terminate()
    print(provenance())
    print(f"section of {options.edge_px} px, {options.people} people; server {memory:.0f} MB")
    if views:
        waited, worked = np.median(views, axis=0)
        most = max(view for view, _ in views)
        print(
            f"first view: {len(views)}, median {waited:.2f} s, at most {most:.2f} s; {worked:.2f} s of processors each"
        )
    for what in ("tile", "mask", "stroke"):
        taken = 1000 * np.array([seconds for times in done for seconds in times[what]])
        median, most = np.quantile(taken, (0.5, 0.95))
        print(f"{what}: {taken.size} answers, median {median:.0f} ms, 95 % within {most:.0f} ms")


if __name__ == "__main__":
    main()
