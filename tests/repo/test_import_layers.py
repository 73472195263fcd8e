"""Imports point down the list of CONTRIBUTING.md."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / 'compsrt_basicsr'
ROW = re.compile(r'^\| (`\w+/`(?:, `\w+/`)*) \|', re.MULTILINE)
IMPORT = re.compile(r'^\s*(?:from|import) compsrt_basicsr\.(\w+)', re.MULTILINE)


def test_imports_point_down():
    rows = ROW.findall((ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8'))
    layers = [re.findall(r'\w+', row) for row in rows]
    height = {name: -place for place, names in enumerate(layers) for name in names}
    assert height['cli'] == 0 and len(height) > 10
    upwards = [
        f'{file.relative_to(ROOT)} imports {name}/'
        for own in height
        for file in (PACKAGE / own).rglob('*.py')
        for name in IMPORT.findall(file.read_text(encoding='utf-8'))
        if name != own and height.get(name, -len(height)) >= height[own]
    ]
    assert not upwards, upwards
