"""Rows, names and options of a reproduction."""

import json
import statistics
from pathlib import Path

import pytest
import yaml

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.study.published import TEST_SETS
from compsrt_basicsr.study.reproduce.estimate import duration, seconds_to_test, seconds_to_train
from compsrt_basicsr.study.reproduce.request import Request, check_test_sets
from compsrt_basicsr.study.reproduce.row import render_row
from compsrt_basicsr.study.reproduce.setting import NAMES, Setting

OPTIONS = Path(__file__).resolve().parents[3] / 'options'
ROOTS = {'gt': Path('datasets/DF2K/DF2K_HR_sub.lmdb'), 'lq': Path('datasets/DF2K/DF2K_LRx2_sub.lmdb')}


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('paper', [False, True])
def test_a_row_runs_the_shipped_option_files_unchanged(name, paper):
    setting = Setting.parse(name, paper=paper)
    folder = OPTIONS / ('paper' if paper else '.')
    roots = {key: Path(str(path).replace('x2', f'x{setting.scale}')) for key, path in ROOTS.items()}
    request = Request.of(setting)
    shipped = yaml.safe_load((folder / f'compsrt_{setting.row}.yml').read_text())
    assert request.train_options(roots) == shipped
    assert request.test_options() == yaml.safe_load((folder / f'test_compsrt_{setting.row}.yml').read_text())
    assert request.changes() == ([] if paper else ['strict code range and its recipe: codes are clamped'])


@pytest.mark.parametrize('text', ['x2-w4a4', 'X2-W4A4', 'x2-w4', ' x2-w4a4 '])
def test_spellings(text):
    assert Setting.parse(text) == Setting(2, 4)


def test_pruned_rows():
    setting = Setting.parse('x3-w3a3', pruned=True)
    assert (setting.row, setting.name) == ('x3_w3a3_p40', 'compsrt_x3_w3a3_p40')
    assert Request.of(setting).train_options(ROOTS)['network_g']['quant']['prune_ratio'] == 0.4


@pytest.mark.parametrize(
    ('text', 'pruned', 'message'),
    [
        ('x2-w4a3', False, r"'x2-w4a3' is no row .* Did you mean `x2-w"),
        ('x5-w4a4', False, 'no row of the table'),
        ('w4a4', False, 'Rows: x2-w4a4'),
        ('x2-w2a2', True, 'Pruned rows exist at 4 and 3 bits, not at 2'),
    ],
)
def test_unknown_rows(text, pruned, message):
    with pytest.raises(CompSRTError, match=message):
        Setting.parse(text, pruned=pruned)


def test_changes_are_listed_and_reach_the_options():
    request = Request.of(
        Setting(2, 4, paper=True),
        teacher='zoo://swinir_light_x2_house',
        training_set='Mine',
        test_sets=('Set14',),
        data='elsewhere',
        forced=('train:total_iter=3', 'network_g:quant:act_bits=8', 'num_gpu=0'),
    )
    assert request.changes() == [
        'teacher zoo://swinir_light_x2_house',
        'trained on Mine',
        'not tested on Set5, B100, Urban100, Manga109',
        'train:total_iter=3 forced',
        'network_g:quant:act_bits=8 forced',
        'num_gpu=0 forced',
    ]
    train, test = request.train_options(ROOTS), request.test_options()
    assert train['train']['total_iter'] == 3 and 'val' not in train and list(train['datasets']) == ['train']
    assert test['network_g']['quant']['act_bits'] == 8 and test['num_gpu'] == 0
    assert [d['dataroot_gt'] for d in test['datasets'].values()] == ['elsewhere/Set14/x2/Set14_HR.lmdb']


def test_test_sets_come_in_the_tables_order():
    assert check_test_sets(('B100', 'Set5')) == ('Set5', 'B100')
    for names in ((), ('Set6',)):
        with pytest.raises(CompSRTError, match='`--test`'):
            check_test_sets(names)


def test_estimates_grow_with_the_work():
    options = Request.of(Setting(2, 4)).train_options(ROOTS)
    small = {**options, 'train': {**options['train'], 'total_iter': 40}}
    assert seconds_to_train(options) == pytest.approx(100 * seconds_to_train(small))
    assert seconds_to_test(2, TEST_SETS) > 2 * seconds_to_test(4, TEST_SETS) > 2 * seconds_to_test(4, ('Set5',))
    assert [duration(s) for s in (40, 1500, 111600)] == ['40 s', '25 min', '31 h']


def test_the_estimate_of_a_step_is_the_measured_one():
    step = json.loads((OPTIONS.parent / 'docs/results/step.json').read_text())
    options = Request.of(Setting(2, 4)).train_options(ROOTS)
    options['train']['total_iter'] = 1
    options['datasets']['train'] |= {'batch_size_per_gpu': step['batch'], 'gt_size': 2 * step['lr_patch']}
    measured = statistics.median(step['seconds']['compsrt'])
    assert seconds_to_train(options) == pytest.approx(measured, rel=0.05)  # a rough constant, not a stale one


def test_a_row_is_shown_beside_the_published_one():
    record = {
        'protocol': 'Y channel',
        'changes': ['trained on Mine'],
        'results': {
            'Set5': {'psnr': 38.0, 'ssim': 0.96, 'levels_max': 57.0, 'levels_over': 3.0},
            'B100': {'psnr': 32.0, 'ssim': 0.9},
        },
    }
    text = render_row(Setting(2, 2, paper=True), record)
    assert '| Set5 |         38.00 |       38.03 |        -0.03 |   0.9600 |' in text
    assert 'trained on Mine' in text
    assert 'B100: ' in text
    assert 'Not a 2-bit result' in text
    assert '– |' in render_row(Setting(2, 4, pruned=True), record)
