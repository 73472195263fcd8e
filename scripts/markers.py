"""Tables made by scripts, inside pages that people write."""

from __future__ import annotations

import re
from collections.abc import Mapping


def fill(page: str, tables: Mapping[str, str]) -> str:
    """The page with each table between `<!-- NAME -->` and `<!-- end of NAME -->`.

    Raises:
        SystemExit: the page has not the markers of a table, or has them twice.
    """
    for name, table in tables.items():
        pattern = rf'(<!-- {name} -->\n).*?(<!-- end of {name} -->)'
        page, count = re.subn(pattern, lambda m, t=table: f'{m[1]}\n{t}\n\n{m[2]}', page, flags=re.S)
        if count != 1:
            raise SystemExit(f'The page needs the markers of `{name}` once, it has them {count} times.')
    return page
