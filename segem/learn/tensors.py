"""Tensors in a file, as safetensors: numbers only, never a pickle."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from segem.io.files import disk_errors


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a new file.

    Parameters
    ----------
    path : Path
        The file, in a folder that is not in place yet: writing is not atomic.
    tensors : mapping of str to Tensor
        On any device, in any layout.

    Raises
    ------
    WorkspaceError
        When the disk refuses.
    """
    with disk_errors(path.parent):
        try:
            save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, path)
        except SafetensorError as error:
            # The library says in words only that the system refused.
            number = re.search(r"\(os error (\d+)\)", str(error))
            raise OSError(int(number[1]) if number else 0, str(error)) from None
        # safetensors makes its files private; a model on a shared disk is there to be read.
        path.chmod(0o644)
