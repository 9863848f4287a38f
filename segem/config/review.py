"""How a review is served, and what is reviewed where there is no run."""

from __future__ import annotations

import getpass
from pathlib import Path

from pydantic import Field, model_validator

from segem.config.base import Config
from segem.config.ingest import Polarity
from segem.config.names import Name
from segem.config.source import Source


class MaskConfig(Config):
    """A mask of elsewhere that is to be reviewed, and the stack that it belongs to."""

    raw: Source
    """Without a run: the stack, in any format that `segem ingest` reads."""
    mask: Source
    """Its mask, a stack of the same shape."""
    membrane: Polarity = "nonzero"
    """Which values of the mask mean membrane: ``zero``, ``nonzero``, one value, or several as 0,32,64."""
    voxel_nm: tuple[float, float, float] | None = None
    """Voxel size in nanometres along (z, y, x); not needed where the stack states it."""
    name: Name | None = None
    """Name of the volume that is made of them; that of the file when absent."""


class ReviewConfig(Config):
    """Where the page of a review is served, and who opens it."""

    # The same each time: what a browser keeps of work that was not acknowledged, it keeps for one address.
    port: int = Field(default=8700, ge=0, lt=2**16)
    """Port to listen on; 0 takes a free one. What browsers could not send, they send when it is served again."""
    host: str = "127.0.0.1"
    """Name of this machine that reviewers call it by. Any but this machine's own needs a certificate."""
    certificate: Path | None = None
    """Certificate of that name, a PEM file: the page is then served by https."""
    key: Path | None = None
    """Its private key, a PEM file."""
    control_every: int = Field(default=15, ge=0)
    """One region in so many that a person is given is a hidden control: an error is planted into it, which they alone
    see, and which never enters the result. The report says how many were seen. 0 plants none."""
    second_share: float = Field(default=0.05, ge=0, le=1)
    """Share of regions that two people read, the second as the model left them: how far they agree is in the report."""
    sample: int = Field(default=0, ge=0, le=2000)
    """Show so many regions of each volume, drawn at random, instead of those that are most likely wrong: what is
    corrected in them says what IoU the mask of the whole volume has."""
    receipt: Path | None = None
    """Write what was decided, by whom and when, as a table (.csv) or pages (.pdf), and do not serve the page."""
    person: str = Field(default_factory=getpass.getuser)
    """Your name, as the log keeps it."""

    @model_validator(mode="after")
    def _certificate_and_key(self) -> ReviewConfig:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a certificate and its key belong together: give both, or neither")
        return self
