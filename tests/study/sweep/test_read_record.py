"""Records of runs: what counts as finished."""

import json
from pathlib import Path

import pytest
from sweep_records import record, sweep_of

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.sweep.read_record import is_done, read_record
from compsrt_basicsr.study.sweep.runs import expand


def test_only_the_whole_record_of_this_run_counts(tmp_path: Path):
    run = expand(sweep_of(tmp_path))[0]
    file = tmp_path / 'run.json'
    assert not is_done(file, run)
    whole = json.dumps({**record('compsrt', 4, 1, 36.0), 'hash': run.hash})
    file.write_text(whole)
    assert is_done(file, run)
    file.write_text(whole[: len(whole) // 2])
    assert not is_done(file, run)
    file.write_text(whole.replace(run.hash, 'f' * 64))
    assert not is_done(file, run)


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('{"schema": 1, "na', 'no complete record'),
        ('[]', '`schema`'),
        (json.dumps({**record('compsrt', 4, 1, 36.0), 'schema': 2}), 'schema is 2'),
        (json.dumps({**record('compsrt', 4, 1, 36.0), 'results': {'Set5': {'images': {}}}}), 'no images'),
        (json.dumps({**record('compsrt', 4, 1, 36.0), 'results': 5}), 'no complete record'),
    ],
)
def test_damaged(tmp_path: Path, text, reason):
    file = tmp_path / 'run.json'
    file.write_text(text)
    with pytest.raises(CompSRTError) as caught:
        read_record(file)
    assert reason in str(caught.value) and str(file) in str(caught.value)
