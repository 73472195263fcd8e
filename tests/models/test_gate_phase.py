"""The phase of the gates: what trains in it, with which moments, and a run that is resumed before, at and in it."""

import copy
import logging

import pytest
import torch
from basicsr import train
from basicsr.models import build_model
from compsrt_runs import distillation_options, make_teacher

from compsrt_basicsr.config.check import find_errors
from compsrt_basicsr.config.methods.expand import expand_run
from compsrt_basicsr.config.resume_rules import changed_options, check_resumed, options_to_save
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.correction import corrections

LAST, FIRST = 6, 4  # iterations, and the first of the phase


@pytest.fixture
def opt(tiny_lmdb, tmp_path, monkeypatch):
    """Options as parse_options would leave them."""
    from basicsr.utils import logger

    monkeypatch.setitem(logger.initialized_logger, 'basicsr', True)
    monkeypatch.setattr(logging.getLogger('basicsr'), 'level', logging.ERROR)
    options = distillation_options(tiny_lmdb, make_teacher(tmp_path / 'teacher.pth'))
    options.update(dist=False, rank=0, world_size=1, num_gpu=0, is_train=True, auto_resume=True, method='spr2q')
    options['path'].update(experiments_root=str(tmp_path), models=str(tmp_path), training_states=str(tmp_path))
    options['network_g']['quant'] = {'weight_bits': 2, 'act_bits': 2}
    options['train'] = {'total_iter': LAST, 'gate_phase': 0.5}
    options['calibration'] = {'num_patches': 4, 'candidates': 20}
    options['val'] = None
    for phase, dataset in options['datasets'].items():
        dataset.update(phase=phase, scale=2)
    expand_run(options)
    return options


def state_of(model):
    return {name: value.clone() for name, value in model.net_g.state_dict().items()}


def advance(model, first, last):
    """The names of what each iteration changes."""
    changed = []
    for iteration in range(first, last + 1):
        before = state_of(model)
        model.update_learning_rate(iteration, -1)
        model.feed_data({'lq': torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(iteration))})
        model.optimize_parameters(iteration)
        changed.append({name for name, value in state_of(model).items() if not torch.equal(value, before[name])})
    return changed


def test_at_the_end_only_the_gates_train(opt):
    model = build_model(opt)
    found = corrections(model.net_g)
    gates = {f'{name}.gate' for name in found}
    changed = advance(model, 1, FIRST - 1)
    assert all({name.rpartition('.')[2] for name in names} >= {'up', 'lower', 'upper'} for names in changed)
    assert {name.rpartition('.')[2] for name in changed[-1]} == {'up', 'down', 'gate', 'lower', 'upper'}
    assert advance(model, FIRST, LAST) == [gates] * (LAST - FIRST + 1)
    state = model.optimizer_g.state
    assert {int(state[c.gate]['step']) for c in found.values()} == {LAST - FIRST + 1}  # their moments began anew
    assert {int(state[c.up]['step']) for c in found.values()} == {FIRST - 1}


@pytest.mark.parametrize('at', [FIRST - 2, FIRST - 1, FIRST, LAST - 1])
@pytest.mark.filterwarnings('ignore:Detected call of')
def test_a_resumed_run_equals_an_unbroken_one(opt, at):
    unbroken = build_model(copy.deepcopy(opt))
    advance(unbroken, 1, at)
    unbroken.save(0, at)
    advance(unbroken, at + 1, LAST)
    torch.manual_seed(99)  # another start of the corrections, which the state replaces
    state = train.load_resume_state(opt)
    model = build_model(opt)
    model.resume_training(state)
    advance(model, at + 1, LAST)
    expected = state_of(unbroken)
    assert all(torch.equal(value, expected[name]) for name, value in state_of(model).items())


def test_what_a_resumed_run_does_with_other_options(opt):
    saved = options_to_save(opt)
    now = copy.deepcopy(opt)
    now['train']['gate_phase'] = 0.25
    check_resumed(saved, now, 2)
    assert [change.place for change in changed_options(saved, now)] == ['train.gate_phase']
    now['network_g']['quant']['corrections'] = 2
    with pytest.raises(CompSRTError, match=r'network_g\.quant\.corrections'):
        check_resumed(saved, now, 2)


def test_a_network_without_corrections_has_no_such_phase(opt):
    opt['network_g']['quant']['corrections'] = 0
    with pytest.raises(CompSRTError, match=r'`train\.gate_phase`'):
        build_model(opt)


@pytest.mark.parametrize(
    ('section', 'option', 'nearest'),
    [
        ('train', {'gate_fase': 0.1}, '`gate_phase`'),
        ('train', {'gate_phase': 1.0}, '`train.gate_phase` must be'),
        ('quant', {'correction': 4}, '`corrections`'),
        ('quant', {'corrections': -1}, 'corrections` must be'),
        ('quant', {'correction_rank': 0}, 'correction_rank` must be'),
        ('quant', {'operands': 'activations'}, '`corrections`'),
        ('layers', {'corections': 0}, '`corrections`'),
    ],
)
def test_typos(opt, section, option, nearest):
    quant = opt['network_g']['quant']
    places = {'train': opt['train'], 'quant': quant, 'layers': quant.setdefault('layers', {}).setdefault('*', {})}
    places[section].update(option)
    errors = [error for error in find_errors(opt, True) if error.startswith(('`train.', '`network_g'))]
    assert errors and any(nearest in error for error in errors)
