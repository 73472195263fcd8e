"""docs/architectures.md: the table is that of the record, which covers every architecture."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / 'docs' / 'architectures.md').read_text(encoding='utf-8')
RECORD = json.loads((ROOT / 'docs' / 'results' / 'spandrel.json').read_text())
sys.path.insert(0, str(ROOT / 'scripts'))


def test_table_is_that_of_the_record() -> None:
    import spandrel_table

    assert spandrel_table.fill(PAGE, {'spandrel table': spandrel_table.table(RECORD)}) == PAGE
    names = {row['architecture'] for row in RECORD['rows']}
    assert names == {*spandrel_table.NETWORKS, *spandrel_table.REFUSED}


def test_most_architectures_work_and_shares_add_up() -> None:
    working = [row for row in RECORD['rows'] if row['works']]
    assert len({row['architecture'].partition('.')[0] for row in working}) >= 35
    assert all(abs(row['share'] + sum(row['float'].values()) - 1) < 1e-6 for row in working)
    assert all(row['refused'] for row in RECORD['rows'] if not row['works'])
