"""Tables and numbers made by scripts, inside pages that people write."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_VALUE = re.compile(r'<!-- = (?P<key>.+?) -->.*?<!-- / -->', re.S)


def fill(page: str, tables: Mapping[str, str]) -> str:
    """Puts each table between `<!-- NAME -->` and `<!-- end of NAME -->`.

    Raises:
        SystemExit: if the page does not have the markers of a table exactly once.
    """
    for name, table in tables.items():
        pattern = rf'(<!-- {name} -->\n).*?(<!-- end of {name} -->)'
        page, count = re.subn(pattern, lambda m, t=table: f'{m[1]}\n{t}\n\n{m[2]}', page, flags=re.S)
        if count != 1:
            raise SystemExit(f'The page needs the markers of `{name}` once, it has them {count} times.')
    return page


def fill_values(page: str, value_of: Callable[[str], str]) -> str:
    """Puts a value between each `<!-- = KEY -->` and the next `<!-- / -->`.

    Args:
        page: a page in Markdown.
        value_of: returns the value of a key.
    """
    return _VALUE.sub(lambda found: f'<!-- = {found["key"]} -->{value_of(found["key"])}<!-- / -->', page)
