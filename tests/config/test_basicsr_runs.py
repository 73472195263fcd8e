"""What runs of BasicSR's own models cannot do without."""

import sys

import pytest

from compsrt_basicsr.basicsr_compat.parse_options import parse_options
from compsrt_basicsr.config import basicsr_runs
from compsrt_basicsr.config.basicsr_runs import require_loggers, require_options
from compsrt_basicsr.errors import CompSRTError

ABSENT = [
    ('name',), ('model_type',), ('num_gpu',), ('datasets',), ('path',), ('train',), ('logger',), ('datasets', 'train'),
    ('train', 'total_iter'), ('val', 'val_freq'), ('logger', 'print_freq'), ('logger', 'save_checkpoint_freq'),
    ('datasets', 'val', 'type'), ('datasets', 'train', 'name'), ('datasets', 'train', 'batch_size_per_gpu'),
]  # fmt: skip


@pytest.mark.parametrize('place', ABSENT)
def test_options_that_are_missing(stock_options, place):
    require_options(stock_options, True, 'x.yml')
    *sections, name = place
    section = stock_options
    for key in sections:
        section = section[key]
    del section[name]
    with pytest.raises(CompSRTError, match=rf'x\.yml.*`{".".join(place)}` is missing'):
        require_options(stock_options, True, '/some/x.yml')


def test_all_gaps_are_listed_and_a_test_needs_less(stock_options):
    kept = {key: stock_options[key] for key in ('name', 'model_type', 'num_gpu', 'path')}
    require_options({**kept, 'datasets': {'test_1': stock_options['datasets']['val']}}, False, 'x.yml')
    with pytest.raises(CompSRTError, match=r'(?s)`datasets` is missing.*`train` is missing.*`logger` is missing'):
        require_options(kept, True, 'x.yml')
    with pytest.raises(CompSRTError, match='test_1'):
        require_options({**kept, 'datasets': {}}, False, 'x.yml')


@pytest.mark.parametrize('section', ['datasets', 'path', 'train', 'logger'])
def test_what_is_no_section(stock_options, section):
    with pytest.raises(CompSRTError, match=rf'`{section}` must be a section'):
        require_options({**stock_options, section: 5}, True, 'x.yml')
    with pytest.raises(CompSRTError, match=r'`datasets\.val` must be a section'):
        require_options({**stock_options, 'datasets': {**stock_options['datasets'], 'val': None}}, True, 'x.yml')


@pytest.mark.parametrize('missing', ['wandb', 'tensorboard'])
def test_loggers_that_are_not_installed(monkeypatch, missing):
    found = lambda name: None if name == missing else type('Spec', (), {'origin': 'x'})  # noqa: E731
    monkeypatch.setattr(basicsr_runs.importlib.util, 'find_spec', found)
    logger = {'use_tb_logger': True, 'wandb': {'project': 'mine'}}
    with pytest.raises(CompSRTError, match=f'pip install {missing}'):
        require_loggers('run', logger)
    require_loggers('debug_run', logger)
    require_loggers('run', {'use_tb_logger': False, 'wandb': {'project': None}})


def test_a_folder_named_wandb_is_no_package(monkeypatch, tmp_path):
    """Logging to Weights & Biases makes one in the working directory."""
    (tmp_path / 'wandb').mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CompSRTError, match='pip install wandb'):
        require_loggers('run', {'use_tb_logger': True, 'wandb': {'project': 'mine'}})


def test_a_run_is_refused_before_a_folder_is_made(stock_options, write_options, tmp_path, monkeypatch):
    stock_options['logger'].update(use_tb_logger=True, wandb={'project': 'mine'})
    file = write_options(tmp_path / 'x.yml', stock_options)
    monkeypatch.setattr(sys, 'argv', ['prog', '-opt', str(file)])
    monkeypatch.setattr(basicsr_runs, '_is_installed', lambda package: package != 'wandb')
    with pytest.raises(CompSRTError, match='wandb'):
        parse_options(str(tmp_path), True)
    assert [path.name for path in tmp_path.iterdir()] == ['x.yml']
