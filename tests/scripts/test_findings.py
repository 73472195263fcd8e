"""docs/findings.md and README say what the records of the grids say: the table, and the figures inside sentences."""

import re
import sys
from pathlib import Path

import pytest

from compsrt_basicsr.study.sweep.collect import read_folders, rows_of
from compsrt_basicsr.study.sweep.paired_comparison import contests

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'scripts'))

import make_results  # noqa: E402
from findings_tables import loss, psnr  # noqa: E402

GRIDS = [ROOT / 'docs/results' / name for name in ('house_grid', 'ablation_grid', 'pruning_grid')]
WIDTHS = ('4', '3', '2')


def text(page: str) -> str:
    return ' '.join((ROOT / page).read_text(encoding='utf-8').split())


def listed(values: list[float]) -> str:
    *first, last = [f'{value:.2f}' for value in values]
    return f'{", ".join(first)} and {last}'


@pytest.fixture(scope='module')
def rows():
    return rows_of(read_folders(GRIDS)[0])


def test_table_is_that_of_the_records():
    page = (ROOT / 'docs/findings.md').read_text(encoding='utf-8')
    assert make_results.findings(page) == page


def test_readme_tells_the_losses(rows):
    ours, theirs = (listed([loss(rows, name, bits) for bits in WIDTHS]) for name in ('compsrt', '2dquant'))
    assert f'`compsrt` loses {ours} dB against the packaged teacher, where 2DQuant loses {theirs}.' in text('README.md')


def test_aims_that_are_said_to_be_reached_are(rows):
    """At most half of the loss of 2dquant; ahead of each method that keeps its bits, the interval above 0."""
    for bits in WIDTHS:
        assert 0.2 < loss(rows, 'compsrt', bits) / loss(rows, '2dquant', bits) < 0.3  # 'about a quarter'
    strict = [c for c in contests(rows, 'compsrt', 'psnr') if not c.other.exceeds and c.other.plain]
    assert len(strict) >= 30 and all(contest.pictures.low > 0 for contest in strict)


def test_sentences_carry_the_figures_of_the_records(rows):
    def at(method: str, bits: str) -> str:
        return f'{psnr(rows, method, bits):.2f}'

    page = text('docs/findings.md')
    trained, frozen = (listed([psnr(rows, name, bits) for bits in WIDTHS]) for name in ('lsq_weights', 'lsq'))
    apart = max(abs(loss(rows, 'condiquant', bits) - loss(rows, '2dquant', bits)) for bits in WIDTHS)
    for sentence in (
        f'With 2 bits ({at("compsrt", "2")} dB) it is nearly where `2dquant` is with 4 ({at("2dquant", "4")})',
        f'(`lsq_weights`) ends at {trained} dB, where `lsq` with frozen weights ends at {frozen}.',
        f'percentiles alone ({at("percentile", "4")} dB) end ahead of DOBI with training ({at("2dquant", "4")})',
        f'At 2 bits they fail ({at("percentile", "2")} dB)',
        f'`condiquant` and `2dquant` are within {apart:.2f} dB of each other',
    ):
        assert sentence in page


def test_parts_carry_the_figures_of_the_records(rows):
    page = text('docs/findings.md')
    found = {c.other.name: c for c in contests(rows, 'compsrt', 'psnr') if c.other.bits == '2'}
    told = re.findall(r'\(`(part=\w+)`, \[ablation\]\(ablation\.md\)\) ends at ([\d.]+) dB on Set5, (.*?), 119', page)
    assert len(told) >= 3
    for part, mean, difference in told:
        result = found[f'compsrt, {part}'].pictures
        assert mean == f'{psnr(rows, f"compsrt, {part}", "2"):.2f}'
        assert difference == f'{result.mean:.3f} dB ({result.low:.3f} to {result.high:.3f}'


def test_longer_trainings_carry_the_figures_of_the_records(rows):
    page = text('docs/findings.md')
    longer = [row for row in rows_of(read_folders([ROOT / 'docs/results/budget_grid'])[0]) if not row.is_teacher]
    full = psnr(rows, 'full_precision', '32')
    for row in longer:
        at = [psnr(longer, row.name, row.bits, dataset) for dataset in ('Set5', 'Set14', 'B100')]
        assert row.name == 'compsrt, iterations=1200' and not row.exceeds
        assert (
            f'- at {row.bits} bits at {listed(at)} dB, {full - at[0]:.2f} dB below full precision on Set5, where 300 '
            f'iterations lose {loss(rows, "compsrt", row.bits):.2f}'
        ) in page
    assert len(longer) == page.count(' iterations lose ')


def test_pruning_carries_the_figures_of_the_record(rows):
    name = 'compsrt, pruning=p40'
    result = next(c for c in contests(rows, 'compsrt', 'psnr') if c.other.name == name).pictures
    sets = listed([psnr(rows, name, '4', dataset) for dataset in ('Set5', 'Set14', 'B100')])
    page = text('docs/findings.md')
    assert f'`compsrt` ends at {sets} dB on Set5, Set14 and B100, {result.mean:.3f} dB' in page
    assert f'dB ({result.low:.3f} to {result.high:.3f}, 119 pictures, one seed) below the unpruned network' in page
