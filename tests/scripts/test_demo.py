"""The demo: the quick form runs all steps; tests of its parts."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip('skimage')
pytest.importorskip('matplotlib')

from PIL import Image

SCRIPTS = Path(__file__).resolve().parents[2] / 'scripts'
STAGES = [
    ('full precision', 'teacher'),
    ('strict', 'calibrated'),
    ('strict', 'distilled'),
    ('paper', 'calibrated'),
    ('paper', 'distilled'),
]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    """Returns a function that imports one of the demo's modules as the demo itself does."""
    monkeypatch.syspath_prepend(str(SCRIPTS))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def test_training_and_test_images_exist_and_differ(script, tmp_path: Path):
    script('demo_images').write_images(tmp_path, 256)
    train, test = ({path.stem for path in (tmp_path / part).iterdir()} for part in ('train', 'test'))
    assert len(test) == 3 and not train & test
    assert test == set(script('demo_comparison').DETAILS)
    for path in (tmp_path / 'test').iterdir():
        image = Image.open(path)
        assert (image.size, image.mode) == ((256, 256), 'RGB')
        assert min(image.convert('L').crop(box).getextrema()[1] for box in corners(256)) > 0, 'crop outside the image'


def corners(side: int) -> list[tuple[int, int, int, int]]:
    last = side - 8
    return [(x, y, x + 8, y + 8) for x in (0, last) for y in (0, last)]


def test_psnr_equals_basicsrs(script):
    from basicsr.metrics import calculate_psnr

    image, original = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), dtype=np.uint8)
    expected = calculate_psnr(image[..., ::-1], original[..., ::-1], crop_border=2, test_y_channel=True)
    assert script('demo_comparison').psnr_y(image, original) == pytest.approx(expected, abs=1e-4)  # float32 there


def test_table_notes_quantizers_that_exceed_their_bits(script):
    runs, report = script('demo_runs'), script('demo_report')
    table = report.make_table(
        [
            runs.Result('full precision', 'teacher', 30.0, 0.9, None, None, Path()),
            runs.Result('strict', 'distilled', 29.5, 0.9, 16, 0, Path()),
            runs.Result('paper', 'distilled', 29.75, 0.9, 2927, 130, Path()),
        ]
    )
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in table.splitlines()[2:]]
    assert cells == [
        ['full precision', '30.00', '0.9000', '–', ''],
        ['strict, distilled', '29.50', '0.9000', '16', ''],
        ['paper, distilled', '29.75', '0.9000', '2,927', 'not 4 bits: 130 quantizers used more than 16 levels'],
    ]


def test_a_folder_with_other_files_is_refused(script, tmp_path: Path):
    (tmp_path / 'mine.txt').touch()
    with pytest.raises(script('demo_commands').CommandFailedError, match=tmp_path.name):
        script('demo').replace_folder(tmp_path)
    assert (tmp_path / 'mine.txt').exists()


@pytest.mark.integration
def test_a_failing_command_shows_the_end_of_its_log(script, tmp_path: Path):
    module = script('demo_commands')
    commands = module.Commands(tmp_path, 1)
    with pytest.raises(module.CommandFailedError, match=r'step 1 failed.*\n\nError: .*absent\.yml'):
        commands.run('Fails', ['basicsr', 'train', '-opt', 'absent.yml'])
    assert commands.log.read_text().startswith('$ basicsr train -opt absent.yml\nError: ')


@pytest.mark.integration
@pytest.mark.timeout(900)
def test_quick_demo(run_command, tmp_path: Path):
    """Runs all steps and replaces the output of an earlier demo."""
    output = tmp_path / 'demo'
    output.mkdir()
    (output / 'commands.log').write_text('$ an earlier demo\n')
    (output / 'old.txt').touch()
    result = run_command(['python', SCRIPTS / 'demo.py', '--quick', '--output', output], tmp_path, 800, new=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.findall(r'^\[(\d)/(\d)\]', result.stdout, re.M) == [(str(step), '9') for step in range(1, 10)]
    assert not (output / 'old.txt').exists()

    found = json.loads((output / 'results.json').read_text())
    assert [(row['recipe'], row['stage']) for row in found['results']] == STAGES
    assert [row['levels_max'] for row in found['results']][1:4] == [16, 16, 16]  # paper exceeds them by training only
    assert all(25 < row['psnr'] < 45 for row in found['results'])
    assert set(found['protocol']['test']) == {'astronaut.png', 'chelsea.png', 'coffee.png'}
    assert (output / 'table.md').read_text() in result.stdout
    width, height = Image.open(output / 'comparison.png').size
    assert width > 1000 and height > 500
