"""The command that serves the review of a run."""

from __future__ import annotations

import hmac
import secrets
import signal
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segem.cli.command import Theme
from segem.cli.complete import complete_run, complete_volume
from segem.cli.options import Option, Options, Values
from segem.cli.results import theme as results
from segem.cli.shared import CommonOptions, existing_workspace, workspace_at, workspace_with
from segem.cli.show import show
from segem.config import place_source, read_source
from segem.config.review import EditedConfig, LabelConfig, MaskConfig, ReviewConfig
from segem.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segem.io.workspace import Workspace
    from segem.records.review_queue import Region

theme = Theme(results.panel, typer.Typer())
SERVED = "Page"
PEOPLE = "People"
CHECKED = "Is the reviewer right?"
ENDED = "Ctrl-C here; every stroke and decision is kept"
WITHOUT = "Without a run"
LABELS = "Ground truth from nothing"
EDITED = "Corrections from elsewhere"


def _settle_sources(values: Values) -> None:
    for key in ("raw", "mask", "edited"):
        if key in values:
            # What is neither a path nor a URL is refused where the configuration is made.
            with suppress(ValueError):
                values[key] = place_source(read_source(values[key]), Path.cwd())


@theme.command(
    "review",
    "segem review monday",
    "segem review --raw stack.tif --mask mask.tif --voxel-nm 50,4,4",
    "segem review monday --invite 'Ana Müller'",
    "segem review --label cortex --sections 3,7,12 --manifest mine.yaml",
    stopped="; all that was acknowledged is kept",
)
def review(
    config: Annotated[
        ReviewConfig,
        Options(
            {
                SERVED: ("port", "host", "certificate", "key", "public_address", Option("three_d", "--3d")),
                PEOPLE: (Option("person", "--as", default="the name you are logged in by"),),
                CHECKED: ("control_every", "second_share", "sample", "receipt"),
            }
        ),
    ],
    masks: Annotated[
        MaskConfig | None,
        Options({WITHOUT: ("raw", "mask", "membrane", "voxel_nm", Option("name"))}, settle=_settle_sources),
    ],
    labels: Annotated[
        LabelConfig | None,
        Options(
            {
                LABELS: (
                    Option("label", complete=complete_volume),
                    "sections",
                    Option("following", "--next"),
                    Option("proposal", complete=complete_run),
                    "manifest",
                )
            }
        ),
    ],
    edited: Annotated[
        EditedConfig | None,
        Options({EDITED: (Option("edited", "--import"), "volume")}, settle=_settle_sources),
    ],
    common: CommonOptions,
    run_name: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN]", help="Name of a run; absent with --raw and --label.", autocompletion=complete_run
        ),
    ] = None,
    invite: Annotated[
        str | None,
        typer.Option(
            "--invite",
            metavar="NAME",
            help="Let a person review: print the address that they open. Give --port, --host and --public-address as "
            "the page was given them.",
            rich_help_panel=PEOPLE,
        ),
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
    the layer `reviewed` of `segem export`. With --label, ground truth is painted from nothing in the same way, and the
    manifest to train on it is written at the end.
    """
    given = [one for one in (run_name, masks, labels) if one is not None]
    if len(given) != 1:
        raise ConfigError(
            "what is to be reviewed?",
            expected="the name of a run, or --raw and --mask, or --label",
            found="more than one of them" if given else "none of them",
            fix="see `segem runs` for the runs there are",
        )
    instead = {"--import": edited, "--receipt": config.receipt, "--invite or --revoke": invite or revoke}
    asked = [option for option, value in instead.items() if value is not None]
    if len(asked) > 1 or (asked and labels is not None):
        raise ConfigError(
            "one thing at a time",
            found=", ".join(["--label"] * (labels is not None) + asked),
            fix="give one of them; what is labelled is reviewed as the run label-VOLUME",
        )
    if labels is not None:
        _label(workspace_with(common.workspace, labels.label), labels, config, common.as_json)
        return
    if masks is None:
        space, run = existing_workspace(common.workspace), str(run_name)
    else:
        from segem.review.imported import import_mask

        space = workspace_at(common.workspace)
        run = import_mask(masks, space)
    if edited is not None:
        _import(space, run, config, edited, common.as_json)
    elif config.receipt is not None:
        from segem.review.receipt import write_receipt

        decided = write_receipt(config.receipt, space, run)
        show({"receipt": str(config.receipt), "regions": decided}, common.as_json, run=run)
    elif invite is not None or revoke is not None:
        _change_people(space, run, config, invite, revoke, common.as_json)
    else:
        _serve(space, run, config, common.as_json)


def _import(workspace: Workspace, run: str, config: ReviewConfig, edited: EditedConfig, as_json: bool) -> None:
    from segem.io.reviewed import reviewable
    from segem.io.reviewers import check_reviewer
    from segem.review.edited import import_edited

    known = reviewable(workspace, run)
    if edited.volume is None and len(known) != 1:
        raise ConfigError("which volume is it?", found=", ".join(known) or "none", fix="name it with --volume")
    name = edited.volume or known[0]
    changed = import_edited(edited.edited, name, workspace, run, check_reviewer(config.person))
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
            address = config.public_address or f"{scheme}://{config.host}:{config.port}"
            show({"person": invite, "opens": f"{address}/?token={token}"}, as_json, run=run)


def _label(workspace: Workspace, labels: LabelConfig, config: ReviewConfig, as_json: bool) -> None:
    from segem.review.labelling import open_labelling
    from segem.review.labels import check_manifest, write_labels

    if labels.manifest is not None:
        check_manifest(labels.manifest, labels.label)
    opened = open_labelling(labels, workspace)
    try:
        _serve(workspace, opened.run, config, as_json, opened.patches)
    except (KeyboardInterrupt, SystemExit):
        if labels.manifest is not None:
            show(write_labels(opened.run, opened.volume, labels.manifest, workspace), as_json)
        raise


def _serve(workspace: Workspace, run: str, config: ReviewConfig, as_json: bool, chosen: Sequence[Region] = ()) -> None:
    from segem.cli.review_goal import watch_goal
    from segem.io.reviewed import open_log, replay
    from segem.io.reviewers import check_reviewer, find_reviewer
    from segem.records.review import SHEET
    from segem.review.apart import Checks
    from segem.review.app import make_app
    from segem.review.session import Review
    from segem.serving import ServerConfig, Tls, listen, serve
    from segem.signals import exit_on_sigterm

    person = check_reviewer(config.person)
    tls = Tls(config.certificate, config.key) if config.certificate and config.key else None
    # Nothing is planted into labels, and nobody reads them twice: all of them are trained on.
    checks = Checks() if chosen else Checks(config.control_every, config.second_share, config.sample)
    if config.three_d:
        # In three dimensions the run is shown as it is, by which a planted error would be found.
        checks = replace(checks, control_every=0)
    opened = Review(workspace, run, checks=checks, chosen=chosen)
    opened.on_decision = watch_goal(workspace, run)
    before, own = opened.log.head(), secrets.token_urlsafe(32)

    def identify(token: str) -> str | None:
        return person if hmac.compare_digest(token.encode(), own.encode()) else find_reviewer(opened.log, token)

    try:
        with (
            exit_on_sigterm(),
            listen(ServerConfig(config.host, config.port, tls, config.public_address)) as listener,
            serve(make_app(opened, three_d=config.three_d), listener, identify),
        ):
            volumes = ", ".join(opened.volumes)
            threading.Thread(target=opened.prepare, args=(person,), name="prepare", daemon=True).start()
            shown = {"volumes": volumes, "review": f"{listener.address}/?token={own}"}
            # For people: programs know how to end what they have started.
            show(shown if as_json else {**shown, "end": ENDED}, as_json, run=run)
            signal.pause()
    finally:
        opened.close()
        # Never while people work: the log is the only truth, and the layer is made of it.
        with open_log(workspace, run) as log:
            added = [one.place for one in log.entries() if one.number > before.entries]
            for volume in sorted({place.volume for place in added if place and SHEET not in place.volume}):
                replay(workspace, run, volume, log)
