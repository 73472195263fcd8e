"""The page in a real browser, where one is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from small_analysis import small_analysis

from compsrt_basicsr.study.analysis.report.page import page

BROWSER = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(BROWSER is None, reason='needs Chromium or Chrome'),
]


def browse(folder: Path, text: str, *options: str) -> str:
    """Opens a page without network; returns what the browser prints."""
    file = folder / 'report.html'
    file.write_text(text, encoding='utf-8')
    command = [BROWSER, '--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--no-first-run']
    profile = f'--user-data-dir={folder / "profile"}'
    done = subprocess.run([*command, profile, *options, file.as_uri()], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_scripts_draw_every_chart_without_a_fault(tmp_path):
    tensors = 17
    # as a reader would: choose, search, switch scales, sort; the result shows in the document
    actions = """
      const press = (id) => document.getElementById(id).click();
      const set = (id, value) => { const e = document.getElementById(id); e.value = value;
        e.dispatchEvent(new Event(e.type === 'search' ? 'input' : 'change')); };
      const all = document.getElementById('tensor').length;
      set('find', 'block 3, proj');
      document.body.dataset.found = `${document.getElementById('tensor').length} of ${all}`;
      press('log-density'); press('log-depth'); set('eps-kind', 'near_rel'); set('eps-view', 'share');
      set('predictor', 2); set('depth-role', 1);
      const column = document.querySelectorAll('#test-rows th button')[11];
      column.click();
      document.body.dataset.first = document.querySelector('#test-rows tbody tr').cells[11].textContent;
    """
    shown = {('activation', 'dct', 'crest', None): {'holm_p': 0.001}}
    text = page(small_analysis(shown)).replace('</body>', f'<script>{actions}</script></body>')
    found = browse(tmp_path, text, '--dump-dom')
    assert re.search(r'<html[^>]*data-errors="0"[^>]*data-ready="yes"', found)
    assert f'data-found="1 of {tensors}"' in found
    assert 'data-first="0.0010"' in found
    for chart, series in (('chart-distribution', 2), ('chart-depth', 3), ('charts-eps', 6), ('charts-mechanism', 2)):
        part = found[found.index(f'id="{chart}"') :]
        part = part[: part.index('</section>')]
        drawn = re.findall(r'<g class="s-\w+"><(?:path|circle) [^>]+', part)
        assert len(drawn) == series, chart
        assert 'NaN' not in part and 'Infinity' not in part and 'undefined' not in part, chart


def test_a_page_without_tensors_has_no_fault(tmp_path):
    analysis = {**small_analysis(kinds=(), skipped={'a': 'NaN.'}), 'transforms': ['none']}
    assert 'data-errors="0" data-ready="yes"' in browse(tmp_path, page(analysis), '--dump-dom')


def test_it_fits_a_phone(tmp_path):
    """Nothing but tables, which scroll by themselves, is wider than 400 pixels."""
    measure = '<script>document.body.dataset.width = document.documentElement.scrollWidth</script></body>'
    inner = page(small_analysis()).replace('</body>', measure)
    (tmp_path / 'inner.html').write_text(inner, encoding='utf-8')
    picture = tmp_path / 'phone.png'
    frame = '<body style="margin:0"><iframe src="inner.html" width="400" height="900" style="border:0"></iframe>'
    size = '--window-size=420,900'
    browse(tmp_path, frame, f'--screenshot={picture}', '--allow-file-access-from-files', size)
    with Image.open(picture) as shot:
        assert len(shot.crop((0, 0, 400, 900)).convert('L').getcolors()) > 20  # text and lines, not an empty frame
    peek = """<script>onload = () => { document.body.dataset.width =
      document.querySelector('iframe').contentDocument.body.dataset.width; }</script>"""
    found = browse(tmp_path, frame + peek, '--dump-dom', '--allow-file-access-from-files', size)
    assert 'data-width="400"' in found
