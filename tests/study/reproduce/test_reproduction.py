"""A row from scratch, with tiny data sets from a server on this machine."""

from __future__ import annotations

import json
import shutil

import pytest
import web_server
from tiny_catalog import write_catalog

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.hub import transfer
from compsrt_basicsr.study.reproduce.reproduction import Reproduction
from compsrt_basicsr.study.reproduce.request import Request
from compsrt_basicsr.study.reproduce.setting import Setting
from compsrt_basicsr.utils.lock import Busy, locked

PACKAGED = 'zoo://swinir_light_x2_house'
TINY = (
    'num_gpu=0',
    'train:total_iter=2',
    'datasets:train:gt_size=32',
    'datasets:train:batch_size_per_gpu=1',
    'datasets:train:num_worker_per_gpu=0',
    'calibration:num_patches=1',
    'logger:save_checkpoint_freq=1',
    'logger:use_tb_logger=false',
)


@pytest.fixture
def world(monkeypatch, tmp_path):
    """A working directory, an empty cache, and a catalog whose data sets lie on a server."""
    monkeypatch.setenv('COMPSRT_HOME', str(tmp_path / 'home'))
    monkeypatch.setenv('COMPSRT_OFFLINE', '0')
    monkeypatch.setenv('COMPSRT_CATALOG', str(tmp_path / 'catalog.yml'))
    monkeypatch.setattr(transfer, 'FIRST_PAUSE', 0.001)
    with web_server.running_server() as server:
        write_catalog(server, tmp_path / 'catalog.yml', {'Mine': (3, 64, 0)}, ('Set5',))
        yield server, tmp_path


def reproduction(root, **changes):
    options = {'teacher': PACKAGED, 'training_set': 'Mine', 'test_sets': ('Set5',), 'forced': TINY, **changes}
    return Reproduction(Request.of(Setting(2, 4), **options), root, gpus=0)


def test_the_plan_does_nothing(world):
    server, root = world
    text = reproduction(root).plan()
    assert text.startswith('SwinIR-light x2, 4 bits, strict code range on CPU')
    assert 'download Mine' in text and '2 iterations' in text and 'Not the published experiment: ' in text
    assert server.requests == [] and [path.name for path in root.iterdir()] == ['catalog.yml']


@pytest.mark.parametrize(
    ('changes', 'text'),
    [
        ({'teacher': 'zoo://swinir_light_x4'}, r'is of x4, the row of x2'),
        ({'teacher': 'swinir_light_x4'}, r'is of x4, the row of x2'),
        ({'teacher': 'nowhere.pth'}, r'`nowhere\.pth` does not exist'),
        ({'teacher': 'zoo://swinir_light_x2_haus'}, r'Did you mean `swinir_light_x2_house`'),
        ({'training_set': 'DIV3K'}, r'DIV3K.*Did you mean `DIV2K`'),
        ({'forced': ('trian:total_iter=2',)}, r'no section `trian`.*Did you mean `train`'),
    ],
)
def test_errors_are_found_before_anything_starts(world, changes, text):
    _, root = world
    with pytest.raises(CompSRTError, match=text):
        reproduction(root, **changes)


def test_missing_data_are_reported_before_anything_starts(world):
    server, root = world
    with pytest.raises(CompSRTError, match=r'Manga109.*--test'):
        reproduction(root, test_sets=('Set5', 'Manga109')).run()
    assert server.requests == []


def test_a_second_call_of_a_name_changes_nothing(world):
    server, root = world
    made = reproduction(root)
    with locked(made.experiment.folder / '.lock', 'it'):
        with pytest.raises(Busy, match=made.request.name):
            made.run()
        assert [path.name for path in made.experiment.folder.iterdir()] == ['.lock']
    assert server.requests == []


def test_gpus_share_the_batch(world, monkeypatch):
    _, root = world
    made = reproduction(root, forced=()).experiment
    commands = []
    monkeypatch.setattr(made, '_command', lambda command, what: commands.append(command))
    made.train(gpus=4)
    assert commands[0][1:5] == ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=4']
    assert commands[0][-1] == 'datasets:train:batch_size_per_gpu=4'
    with pytest.raises(CompSRTError, match='3 GPUs'):
        made.train(gpus=3)


@pytest.mark.integration
def test_a_row_from_scratch(world, run_command):
    """The command, repeated after its training was cut off, and when all is done; then with other options."""
    server, root = world
    forced = [word for option in TINY for word in ('--force', option)]
    command = ['python', '-m', 'compsrt_basicsr.cli.compsrt', 'reproduce', 'x2-w4a4', '--teacher', PACKAGED, '--train',
               'mine', '--test', 'Set5', '--gpus', '0', *forced]  # fmt: skip
    done = run_command(command, root)
    assert done.returncode == 0, done.stderr[-2000:]
    folder, models = root / 'reproduce/compsrt_x2_w4a4', root / 'experiments/compsrt_x2_w4a4/models'
    row = json.loads((folder / 'row.json').read_text())
    assert row['results']['Set5']['levels_max'] <= 16 and row['results']['Set5']['psnr'] > 10
    assert done.stdout.endswith((folder / 'row.md').read_text())
    trained = (models / 'net_g_latest.pth').read_bytes()

    (models / 'net_g_latest.pth').unlink()  # as if it had been cut off after its first iteration
    for name in ('models/net_g_2.pth', 'training_states/2.state'):
        (models.parent / name).unlink()
    asked = len(server.requests)
    assert run_command(command, root).returncode == 0
    assert len(server.requests) == asked
    assert json.loads((folder / 'row.json').read_text())['results'] == row['results']
    assert len(trained) == (models / 'net_g_latest.pth').stat().st_size

    shutil.rmtree(root / 'results')
    again = run_command(command, root)
    assert again.returncode == 0 and not (root / 'results').exists(), 'a finished step was repeated'

    other = run_command([*command, '--force', 'manual_seed=1'], root)
    assert other.returncode == 1 and 'was begun with other options' in other.stderr
