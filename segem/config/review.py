"""How a review is served, and what is reviewed where there is no run."""

from __future__ import annotations

import getpass
import re
from pathlib import Path

from pydantic import Field, field_validator, model_validator

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


class EditedConfig(Config):
    """A mask that was corrected in another program."""

    edited: Source
    """Enter a mask that was corrected in another program (0 and 255; 128 stays as it is) as corrections of the person
    of --as, and do not serve the page."""
    volume: Name | None = None
    """Volume it belongs to, where the run has several."""


class LabelConfig(Config):
    """What is labelled from nothing: patches of some sections of a volume."""

    label: Name
    """Paint ground truth of an ingested volume, patch by patch; what nobody has decided counts as not labelled."""
    sections: str | None = None
    """Sections to label, as 3,7,12; five spread over the volume when absent."""
    following: str | None = None
    """Name of a learning curve: label the sections that `segem label-next` has put first, from the place where the
    models disagree most."""
    proposal: str | None = None
    """What you paint from: the name of a run whose mask is taken, ``watershed``, ``kmeans`` or ``empty``. When absent,
    the mask of the newest run of a model that has one, else the watershed of the image. It is chosen once, when the
    labelling of a volume begins."""
    manifest: Path | None = None
    """YAML file that is written at the end, with the labels beside it, for `segem retrain`."""

    @field_validator("sections")
    @classmethod
    def _numbers(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"\d{1,9}(,\d{1,9})*", value):
            raise ValueError(f"sections are numbers with commas between them, as 3,7,12, found {value!r}")
        return value

    @property
    def chosen(self) -> tuple[int, ...]:
        """The sections that were named, in their order; nothing where none were."""
        return tuple(dict.fromkeys(map(int, self.sections.split(",")))) if self.sections else ()


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
    public_address: str | None = None
    """How people call the page where a reverse proxy on this machine stands before it, as https://review.example.org."""
    three_d: bool = False
    """Show places in three dimensions as well, in Neuroglancer (``pip install 'segem[3d]'``)."""
    control_every: int = Field(default=15, ge=0)
    """One region in so many that a person is given is a hidden control: an error is planted into it, which they alone
    see, and which never enters the result. The report says how many were seen. 0 plants none."""
    second_share: float = Field(default=0.05, ge=0, le=1)
    """Share of regions that two people read, the second as the model left them: how far they agree is in the report. It
    is chosen once, when a review begins."""
    sample: int = Field(default=0, ge=0, le=2000)
    """Begin with so many regions of each volume, drawn at random, instead of those that are most likely wrong: what is
    corrected in them says what IoU the mask of the whole volume has. The page switches between the two; 0 begins with
    those most likely wrong."""
    receipt: Path | None = None
    """Write what was decided, by whom and when, as a table (.csv) or pages (.pdf), and do not serve the page."""
    person: str = Field(default_factory=getpass.getuser)
    """Your name, as the log keeps it."""

    @field_validator("public_address")
    @classmethod
    def _https_and_a_host(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not re.fullmatch(r"https://[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:[0-9]{1,5})?/?", value.lower()):
            raise ValueError(f"an address is https://, a host and maybe a port, without a path, found {value!r}")
        return value.lower().rstrip("/")

    @model_validator(mode="after")
    def _proxy_on_this_machine(self) -> ReviewConfig:
        if self.public_address is not None and (self.host != "127.0.0.1" or self.certificate is not None):
            raise ValueError(
                "with --public-address the proxy speaks https, and only this machine may reach the page: "
                "leave out --host and --certificate"
            )
        return self

    @model_validator(mode="after")
    def _certificate_and_key(self) -> ReviewConfig:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a certificate and its key belong together: give both, or neither")
        return self
