"""Which part of a volume one task of an array job computes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from segem.errors import ConfigError


@dataclass(frozen=True)
class Shard:
    """One of several equal parts of the blocks of a volume: every `count`-th block, from the `index`-th on.

    Parameters
    ----------
    index : int
        From 0, as SLURM numbers the tasks of an array.
    count : int
        How many there are.

    Examples
    --------
    >>> [number for number in range(7) if Shard.parse("1/3").owns(number)]
    [1, 4]
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard that a text such as ``3/20`` means.

        Raises
        ------
        ConfigError
            When it means none.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        shard = cls(int(found[1]), int(found[2])) if found else None
        if shard is None or shard.index >= shard.count:
            raise ConfigError(
                "--shard needs the number of a task and how many there are",
                expected="I/N, with I from 0 to N - 1",
                found=repr(text),
                fix="for example --shard $SLURM_ARRAY_TASK_ID/20 in a job of sbatch --array=0-19",
            )
        return shard

    def owns(self, number: int) -> bool:
        """Return whether the block of this number, from 0 in the order of the plan, is part of it."""
        return number % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"
