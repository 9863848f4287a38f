"""Which names volumes, runs and models may have."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from segem.config.parsing import NAME_RULE
from segem.errors import ConfigError

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
Name = Annotated[str, Field(pattern=rf"^{NAME_PATTERN}$")]  # pydantic: $ is the very end; \z is no JSON schema


def check_name(name: str, what: str) -> str:
    """Return `name` if it is safe as a folder name, else raise.

    Raises
    ------
    ConfigError
        When the name could leave its folder or confuse a shell.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError(
            f"not a {what} name",
            found=repr(name),
            fix=NAME_RULE,
        )
    return name
