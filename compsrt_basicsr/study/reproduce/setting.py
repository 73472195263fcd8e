"""A row of the published table, and the names of its files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from compsrt_basicsr.errors import CompSRTError, suggestion
from compsrt_basicsr.study.option_files.compsrt_files import BITS, PRUNED_BITS, SCALES, render, row_name
from compsrt_basicsr.study.option_files.recipe import PAPER, STRICT, Recipe

NAMES = tuple(f'x{scale}-w{bits}a{bits}' for scale in SCALES for bits in BITS)


@dataclass(frozen=True)
class Setting:
    """A row: scale and bit width, pruned or not, with clamped or unclamped codes."""

    scale: int
    bits: int
    pruned: bool = False
    paper: bool = False

    @classmethod
    def parse(cls, text: str, *, pruned: bool = False, paper: bool = False) -> Setting:
        """Reads a name such as 'x2-w4a4', or 'x2-w4' for short.

        Raises:
            CompSRTError: if there is no such row. The message names the nearest one.
        """
        found = re.fullmatch(r'x(\d)-w(\d)(?:a(\d))?', text.strip().lower())
        scale, bits = (int(found[1]), int(found[2])) if found else (0, 0)
        if not found or found[3] not in (None, found[2]) or scale not in SCALES or bits not in BITS:
            raise CompSRTError(f'{text!r} is no row of the table.{suggestion(text, NAMES)} Rows: {", ".join(NAMES)}.')
        if pruned and bits not in PRUNED_BITS:
            raise CompSRTError(f'Pruned rows exist at {" and ".join(map(str, PRUNED_BITS))} bits, not at {bits}.')
        return cls(scale, bits, pruned, paper)

    @property
    def recipe(self) -> Recipe:
        """The recipe of the option files."""
        return PAPER if self.paper else STRICT

    @property
    def row(self) -> str:
        """Such as 'x2_w4a4' or 'x2_w4a4_p40'."""
        return row_name(self.scale, self.bits, self.pruned)

    @property
    def name(self) -> str:
        """Name of the training run; that of its test starts with `test_`."""
        return f'{self.recipe.prefix}_{self.row}'

    def option_files(self) -> tuple[str, str]:
        """Returns the texts of the option files that train and test this row."""
        files = {
            Path(path).name: text for path, text in render(self.recipe, self.scale, self.bits, self.pruned).items()
        }
        return files[f'compsrt_{self.row}.yml'], files[f'test_compsrt_{self.row}.yml']

    def __str__(self) -> str:
        pruned = ', 40% pruned' if self.pruned else ''
        codes = 'published code range' if self.paper else 'strict code range'
        return f'SwinIR-light x{self.scale}, {self.bits} bits{pruned}, {codes}'
