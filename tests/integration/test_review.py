"""`segem review` as a program: from a mask of elsewhere, with people who come and go, to the corrected mask."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import httpx
import numpy as np
import pytest
import tifffile

from segem.cli import main
from segem.io.reviewed import open_log
from segem.io.workspace import Workspace
from segem.kernels.runs import encode_runs
from segem.records.review import Draft, Place
from segem.review.edited import PIECE_PX
from tests.fabricate import tissue
from tests.processes import clean_environment, listening, started, wait_for

SEGEM = [sys.executable, "-m", "segem"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    image, truth = tissue((2, 64, 90))
    tifffile.imwrite(tmp_path / "stack.tif", image)
    tifffile.imwrite(tmp_path / "mask.tif", truth * 255)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, str]:
    """Return what a command prints as JSON."""
    monkeypatch.setattr(sys, "argv", ["segem", *words, "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    found: dict[str, str] = json.loads(capsys.readouterr().out)
    return found


def test_a_mask_of_elsewhere_is_reviewed_by_two_people_and_exported(folder, monkeypatch, capsys):
    space = ["--workspace", str(folder / "w")]
    log = folder / "log"
    sources = ["--raw", "stack.tif", "--mask", "mask.tif", "--voxel-nm", "50,4,4"]
    command = [*SEGEM, "review", *sources, *space, "--as", "Me", "--port", "0", "--json"]
    with started(command, log, clean_environment(PYTHONPATH=str(Path.cwd())), folder) as process:
        wait_for(lambda: b"}" in log.read_bytes(), 60, log)
        assert listening(process.pid) == {"127.0.0.1"}
        printed = json.loads(log.read_text()[log.read_text().index("{") :])
        assert printed["run"] == "review-stack"
        address, _, own = printed["review"].partition("/?token=")
        invited = run(monkeypatch, capsys, "review", "review-stack", "--invite", "Ida", *space)
        assert invited["opens"].startswith("http://127.0.0.1:8700/?token=")
        with httpx.Client(base_url=address, trust_env=False, follow_redirects=True) as ida:
            assert ida.get(f"/?token={invited['opens'].partition('=')[2]}").status_code == 200
            assert ida.get("/api/review").json()["person"] == "Ida"
            place = {"volume": "stack", "z": 1, "y": 3, "x": 4, "height": 5, "width": 6}
            sent = {"id": str(uuid.uuid4()), "place": place, "runs": [0, 30], "tool": "brush"}
            assert ida.post("/api/corrections", json=sent, headers={"If-Match": '"1"'}).status_code == 201
            run(monkeypatch, capsys, "review", "review-stack", "--revoke", "Ida", *space)
            assert ida.get("/api/review").status_code == 401
        bearer = {"Authorization": f"Bearer {own}"}
        described = httpx.get(f"{address}/api/review", headers=bearer, trust_env=False).json()
        assert described["person"] == "Me"
        assert described["volumes"][0]["probability"] is None
        queue = httpx.get(f"{address}/api/queue/stack", headers=bearer, trust_env=False).json()
        assert [region["place"]["z"] for region in queue] == [0, 1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    run(monkeypatch, capsys, "export", "review-stack", "stack", "reviewed", str(folder / "out.tif"), *space)
    expected = tifffile.imread(folder / "mask.tif")
    expected[1, 3:8, 4:10] ^= 255
    assert np.array_equal(tifffile.imread(folder / "out.tif"), expected)


def test_a_mask_that_was_edited_elsewhere_becomes_corrections_of_a_person(folder, monkeypatch, capsys):
    space = ["--workspace", str(folder / "w")]
    monkeypatch.chdir(folder)
    edited = tifffile.imread(folder / "mask.tif")
    edited[0, :20] ^= 255
    edited[1, 30:] = 128
    edited[1, :30] = 255
    tifffile.imwrite(folder / "edited.tif", edited)
    sources = ["--raw", "stack.tif", "--mask", "mask.tif", "--voxel-nm", "50,4,4"]
    before = tifffile.imread(folder / "mask.tif")
    expected = np.where(edited == 128, before, edited)
    for changed in (int((expected != before).sum()), 0):
        done = run(monkeypatch, capsys, "review", *sources, "--import", "edited.tif", "--as", "Ida", *space)
        assert done == {"run": "review-stack", "volume": "stack", "changed_pixels": changed}
    run(monkeypatch, capsys, "export", "review-stack", "stack", "reviewed", str(folder / "out.tif"), *space)
    assert np.array_equal(tifffile.imread(folder / "out.tif"), expected)
    with open_log(Workspace(folder / "w"), "review-stack") as log:
        assert {entry.author for entry in log.entries()} == {"Ida"}
    with open_log(Workspace(folder / "w"), "review-stack") as log:
        head = log.head()
    half = np.stack([255 - edited[0], edited[1] // 2])
    for name, wrong in (("shape", edited[:1]), ("values", edited // 2), ("half", half)):
        tifffile.imwrite(folder / f"{name}.tif", wrong)
        monkeypatch.setattr(sys, "argv", ["segem", "review", "review-stack", "--import", f"{name}.tif", *space])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 1
        assert "not a mask" in capsys.readouterr().err
    with open_log(Workspace(folder / "w"), "review-stack") as log:
        assert log.head() == head, "of what is no mask, nothing is entered"


def test_the_noisiest_mask_can_be_entered():
    mask = np.indices((PIECE_PX, PIECE_PX)).sum(axis=0) % 2 == 0
    place = Place(volume="v", z=0, y=0, x=0, height=PIECE_PX, width=PIECE_PX)
    draft = Draft(id="ab" * 16, kind="correction", place=place, runs=encode_runs(mask))
    assert draft.runs


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "what is to be reviewed?"),
        (["r", "--raw", "a.tif", "--mask", "b.tif"], "what is to be reviewed?"),
        (["--raw", "a.tif"], "--mask is missing"),
        (["nothing"], "no such run"),
        (["r", "--certificate", "c.pem"], "belong together"),
        (["r", "--receipt", "r.csv", "--invite", "Ida"], "one thing at a time; found --receipt, --invite or --revoke"),
        (["--label", "v", "--receipt", "r.csv"], "one thing at a time; found --label, --receipt"),
    ],
)
def test_what_cannot_be_reviewed_is_one_line(words, said, tmp_path, monkeypatch, capsys):
    (tmp_path / "w").mkdir()
    monkeypatch.setattr(sys, "argv", ["segem", "review", *words, "--workspace", str(tmp_path / "w")])
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert ended.value.code == 1
    assert said in error
    assert error.count("\n") == 1


def test_nothing_of_torch_is_loaded_to_review():
    loaded = "import sys, segem.review.app, segem.review.imported"
    code = f"{loaded}; sys.exit('torch' in sys.modules or 'prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
