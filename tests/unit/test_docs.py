"""The project's papers point at things that exist."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import segem
from segem.cli import app

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
PAPERS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "data").rglob("*.md")])
NOTEBOOKS = sorted((ROOT / "docs").rglob("*.ipynb"))
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(#[^)\s]+)?\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as the web pages of repositories make them."""
    shown = [re.sub(r"\[([^]]*)\]\([^)]*\)|[`*]", r"\1", heading) for heading in HEADING.findall(text)]
    return {"#" + re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in shown}


def dead_links(paper: Path) -> list[str]:
    dead = []
    for target, anchor in LINK.findall(paper.read_text(encoding="utf-8")):
        page = paper.parent / target if target else paper
        if not page.exists() or (anchor and anchor not in anchors(page.read_text(encoding="utf-8"))):
            dead.append(target + anchor)
    return dead


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "here.md").write_text("# Here\n## A part, `too`: [of](x.md) it\n")
    paper = tmp_path / "paper.md"
    fine = "# Top\n[a](here.md) [b](here.md#a-part-too-of-it) [c](https://x.org/y) [d](#top)"
    paper.write_text(f"{fine} [e](gone.md) [f](here.md#gone)")
    assert dead_links(paper) == ["gone.md", "here.md#gone"]


def test_the_papers_are_found() -> None:
    assert {"README.md", "architecture.md", "SECURITY.md"} <= {path.name for path in PAPERS}


@pytest.mark.parametrize("paper", [*PAPERS, *NOTEBOOKS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(paper: Path) -> None:
    assert dead_links(paper) == []


def test_every_page_is_reached_from_the_readme() -> None:
    seen, ahead = set(), [ROOT / "README.md"]
    while ahead:
        paper = ahead.pop().resolve()
        if paper not in seen and paper.suffix in {".md", ".ipynb"}:
            seen.add(paper)
            ahead += [paper.parent / target for target, _ in LINK.findall(paper.read_text(encoding="utf-8")) if target]
            ahead += [
                page
                for target, _ in LINK.findall(paper.read_text(encoding="utf-8"))
                if target.endswith("adr/")
                for page in (paper.parent / target).glob("*.md")
            ]
    assert {path for path in [*PAPERS, *NOTEBOOKS] if path.is_relative_to(ROOT / "docs")} <= seen


NAMED = re.compile(r"`((?:segem|flows|tests|benchmarks|docs|data)/[\w./-]+)(?: [^`]*)?`|\bbenchmarks/[\w/]+\.py")


def missing_files(text: str) -> list[str]:
    named = (found[1] or found[0] for found in NAMED.finditer(text))
    return [name for name in named if not (ROOT / name).exists()]


def test_a_missing_file_is_found() -> None:
    text = "`segem/plan.py`, `segem/gone.py`, `benchmarks/gone.py --data-root DIR`; .venv/bin/python benchmarks/x.py"
    assert missing_files(text) == ["segem/gone.py", "benchmarks/gone.py", "benchmarks/x.py"]


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_named_in_the_papers_exist(paper: Path) -> None:
    assert missing_files(paper.read_text(encoding="utf-8")) == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 110


def test_reference_pages_are_what_the_script_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REFERENCE / "generate")
    for name, page in importlib.import_module("pages").PAGES.items():
        anew = "write it anew: python docs/reference/generate/pages.py"
        assert (REFERENCE / name).read_text(encoding="utf-8") == page(), f"{name}: {anew}"


CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
# "segem run MANIFEST.yaml [--run R]", at the start of a line of code.
CALL = re.compile(r"^`?segem ([a-z][^`#\n]*)", re.MULTILINE)


def calls(text: str) -> list[tuple[str, set[str]]]:
    """Return every command a text shows, with the options it gives it: ("run", {"--data-root"})."""
    found = []
    for line in CALL.findall("\n".join(CODE.findall(text))):
        words = re.findall(r"--[a-z-]+|[a-z]+(?:-[a-z]+)*", line)
        name = " ".join(words[:2]) if words[0] in {"data", "models", "schedule", "storage"} else words[0]
        found.append((name, {word for word in words if word.startswith("--")}))
    return found


def options() -> dict[str, set[str]]:
    """Return the options of every command there is."""
    root = typer.main.get_command(app)
    commands: dict[str, Any] = {}
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", None)
        commands |= {f"{name} {n}": c for n, c in below.items()} if below else {name: command}
    return {name: {o for p in command.params for o in p.opts} | {"--help"} for name, command in commands.items()}


def wrong_calls(text: str) -> list[str]:
    known = options()
    return [
        f"segem {name} {sorted(given)}"
        for name, given in calls(text)
        if not given <= known.get(name, set()) or name not in known
    ]


def test_a_wrong_call_is_found() -> None:
    block = "```\nsegem models list\nsegem fly  # so\n```"
    text = f"segem is.\n{block}\n`segem run M [--data-root D]`, `segem run --up`, `segem models burn`"
    assert wrong_calls(text) == ["segem fly []", "segem run ['--up']", "segem models burn []"]


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_shown_exist(paper: Path) -> None:
    assert wrong_calls(paper.read_text(encoding="utf-8")) == []


OF_OTHERS = {"--choose", "--network", "--no-index", "--nthreads", "--nv", "--only", "--side"}
"""Options that the papers name by themselves and that are not of segem, but of pip, dask, containers and benchmarks."""


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_options_that_are_named_alone_exist(paper: Path) -> None:
    known = set().union(*options().values()) | OF_OTHERS
    named = set(re.findall(r"`(--[a-z][a-z0-9-]*)", paper.read_text(encoding="utf-8")))
    assert named <= known


def test_the_command_page_shows_every_command_with_every_option() -> None:
    page = (REFERENCE / "commands.md").read_text(encoding="utf-8")
    for name, known in options().items():
        section = page.partition(f"\n## segem {name}\n")[2].partition("\n## ")[0]
        assert section, name
        assert {
            option for option in known - {"--help"} if option.startswith("--") and f"`{option}" not in section
        } == set()


def test_every_command_takes_the_options_that_all_have() -> None:
    taken = options()
    assert [name for name, known in taken.items() if "--json" not in known] == []
    assert [name for name, known in taken.items() if "--workspace" not in known] == ["synth", "data list", "data get"]


DEPLOYMENT = re.compile(r"^\| `([a-z-]+)/([a-z-]+)` \| [^|]+ \| (.+) \|$", re.MULTILINE)


def test_the_deployments_are_those_of_the_flows() -> None:
    page = (ROOT / "docs" / "how-to" / "schedule.md").read_text(encoding="utf-8")
    told = {name: re.findall(r"`(\w+)`", parameters) for _, name, parameters in DEPLOYMENT.findall(page)}
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    expected = {}
    for deployment in deployments:
        path, function = deployment["entrypoint"].split(":")
        flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), function)
        expected[deployment["name"]] = list(inspect.signature(flow.fn).parameters)
    assert told == expected


CFF_KEYS = re.compile(
    "abstract|authors|cff-version|commit|contact|date-released|doi|identifiers|keywords|license|license-url|message|"
    "preferred-citation|references|repository|repository-artifact|repository-code|title|type|url|version"
)
"""The keys that the format knows, version 1.2.0."""


def test_the_citation_file_is_valid() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"authors", "cff-version", "message", "title"} <= set(cited)
    assert [key for key in cited if not CFF_KEYS.fullmatch(key)] == []
    assert (cited["cff-version"], cited["type"], cited["version"]) == ("1.2.0", "software", segem.__version__)
    assert cited["license"] == "Apache-2.0"
    for entry in [cited, *cited["references"]]:
        assert entry["title"]
        assert all(set(one) <= {"name"} or {"family-names", "given-names"} == set(one) for one in entry["authors"])
    for reference in cited["references"]:
        assert reference["type"] in {"article", "dataset"}
        assert re.fullmatch(r"10\.\d{4,9}/\S+", reference["doi"])
        assert isinstance(reference["year"], int)
