"""docs/compress.md: the table of losses is that of the record."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'scripts'))


def test_table_is_that_of_the_record() -> None:
    import compress_table

    page = compress_table.PAGE.read_text(encoding='utf-8')
    record = json.loads(compress_table.RECORD.read_text(encoding='utf-8'))
    assert compress_table.fill(page, {'losses': compress_table.table(record)}) == page
    for cases in record.values():
        for case, row in cases.items():
            full = cases[compress_table.FLOAT]['psnr']
            assert all(row['psnr'][name].keys() == full[name].keys() for name in row['psnr']), case
