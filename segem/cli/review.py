"""The command that serves the review of a run."""

from __future__ import annotations

import hmac
import secrets
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segem.cli.command import Theme
from segem.cli.complete import complete_run
from segem.cli.options import Option, Options, Values
from segem.cli.results import theme as results
from segem.cli.shared import CommonOptions, existing_workspace, workspace_at
from segem.cli.show import show
from segem.config import place_source, read_source
from segem.config.review import MaskConfig, ReviewConfig
from segem.errors import ConfigError

if TYPE_CHECKING:
    from segem.io.workspace import Workspace

theme = Theme(results.panel, typer.Typer())
SERVED = "Page"
PEOPLE = "People"
CHECKED = "Is the reviewer right?"
WITHOUT = "Without a run"
EDITED = "Corrections from elsewhere"


def _settle_mask(values: Values) -> None:
    for key in ("raw", "mask"):
        if key in values:
            # What is neither a path nor a URL is refused where the configuration is made.
            with suppress(ValueError):
                values[key] = place_source(read_source(values[key]), Path.cwd())


@theme.command(
    "review",
    "segem review monday",
    "segem review --raw stack.tif --mask mask.tif --voxel-nm 50,4,4",
    "segem review monday --invite 'Ana Müller'",
    stopped="; all that was acknowledged is kept",
)
def review(
    config: Annotated[
        ReviewConfig,
        Options(
            {
                SERVED: ("port", "host", "certificate", "key"),
                PEOPLE: (Option("person", "--as", default="the name you are logged in by"),),
                CHECKED: ("control_every", "second_share", "sample", "receipt"),
            }
        ),
    ],
    masks: Annotated[
        MaskConfig | None,
        Options({WITHOUT: ("raw", "mask", "membrane", "voxel_nm", Option("name"))}, settle=_settle_mask),
    ],
    common: CommonOptions,
    run_name: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="Name of a run; absent with --raw.", autocompletion=complete_run),
    ] = None,
    invite: Annotated[
        str | None,
        typer.Option(
            "--invite", metavar="NAME", help="Let a person review: print their token.", rich_help_panel=PEOPLE
        ),
    ] = None,
    edited: Annotated[
        str | None,
        typer.Option(
            "--import",
            metavar="MASK",
            help="Enter a mask that was corrected in another program (0 and 255; 128 stays as it is) as corrections of "
            "the person of --as, and do not serve the page.",
            rich_help_panel=EDITED,
        ),
    ] = None,
    volume: Annotated[
        str | None,
        typer.Option("--volume", help="Volume it belongs to, where the run has several.", rich_help_panel=EDITED),
    ] = None,
    revoke: Annotated[
        str | None,
        typer.Option(
            "--revoke", metavar="NAME", help="Let a person review no longer, at once.", rich_help_panel=PEOPLE
        ),
    ] = None,
) -> None:
    """Serve a page on which people correct the masks of a run; it prints its address, and Ctrl-C ends it.

    Corrections are kept in a log that is only added to, and what the run has made stays as it is. The corrected mask is
    the layer `reviewed` of `segem export`.
    """
    if (masks is None) == (run_name is None):
        raise ConfigError(
            "what is to be reviewed?",
            expected="the name of a run, or --raw and --mask",
            found="both" if masks else "neither",
            fix="see `segem runs` for the runs there are",
        )
    if masks is None:
        space, run = existing_workspace(common.workspace), str(run_name)
    else:
        from segem.review.imported import import_mask

        space = workspace_at(common.workspace)
        run = import_mask(masks, space)
    if edited is not None:
        _import(space, run, config, edited, volume, common.as_json)
    elif config.receipt is not None:
        from segem.review.receipt import write_receipt

        decided = write_receipt(config.receipt, space, run)
        show({"receipt": str(config.receipt), "regions": decided}, common.as_json, run=run)
    elif invite is not None or revoke is not None:
        _change_people(space, run, config, invite, revoke, common.as_json)
    else:
        _serve(space, run, config, common.as_json)


def _import(
    workspace: Workspace, run: str, config: ReviewConfig, edited: str, volume: str | None, as_json: bool
) -> None:
    from segem.io.reviewed import reviewable
    from segem.io.reviewers import check_reviewer
    from segem.review.edited import import_edited

    known = reviewable(workspace, run)
    if volume is None and len(known) != 1:
        raise ConfigError("which volume is it?", found=", ".join(known) or "none", fix="name it with --volume")
    name = volume or known[0]
    changed = import_edited(read_source(edited), name, workspace, run, check_reviewer(config.person))
    show({"volume": name, "changed_pixels": changed}, as_json, run=run)


def _change_people(
    workspace: Workspace, run: str, config: ReviewConfig, invite: str | None, revoke: str | None, as_json: bool
) -> None:
    from segem.io.reviewed import open_log
    from segem.io.reviewers import invite as invite_reviewer
    from segem.io.reviewers import revoke as revoke_reviewer
    from segem.io.run import load_run

    load_run(workspace, run)
    with open_log(workspace, run) as log:
        if revoke is not None:
            revoke_reviewer(log, revoke, config.person)
            show({"revoked": revoke}, as_json, run=run)
        if invite is not None:
            token = invite_reviewer(log, invite, config.person)
            scheme = "https" if config.certificate else "http"
            address = f"{scheme}://{config.host}:{config.port}"
            show({"person": invite, "opens": f"{address}/?token={token}"}, as_json, run=run)


def _serve(workspace: Workspace, run: str, config: ReviewConfig, as_json: bool) -> None:
    from segem.cli.review_goal import watch_goal
    from segem.io.reviewed import open_log, replay
    from segem.io.reviewers import check_reviewer, find_reviewer
    from segem.records.review import SHEET
    from segem.review.apart import Checks
    from segem.review.app import make_app
    from segem.review.session import Review
    from segem.serving import ServerConfig, Tls, exit_on_sigterm, listen, serve

    person = check_reviewer(config.person)
    tls = Tls(config.certificate, config.key) if config.certificate and config.key else None
    opened = Review(workspace, run, checks=Checks(config.control_every, config.second_share, config.sample))
    opened.on_decision = watch_goal(workspace, run)
    before, own = opened.log.head(), secrets.token_urlsafe(32)

    def identify(token: str) -> str | None:
        return person if hmac.compare_digest(token.encode(), own.encode()) else find_reviewer(opened.log, token)

    try:
        with (
            exit_on_sigterm(),
            listen(ServerConfig(config.host, config.port, tls)) as listener,
            serve(make_app(opened), listener, identify),
        ):
            volumes = ", ".join(opened.volumes)
            show({"volumes": volumes, "review": f"{listener.address}/?token={own}"}, as_json, run=run)
            signal.pause()
    finally:
        opened.close()
        # Never while people work: the log is the only truth, and the layer is made of it.
        with open_log(workspace, run) as log:
            added = [one.place for one in log.entries() if one.number > before.entries]
            for volume in sorted({place.volume for place in added if place and SHEET not in place.volume}):
                replay(workspace, run, volume, log)
