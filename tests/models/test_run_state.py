"""What a training state has beyond BasicSR's, and when it is written."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from compsrt_basicsr.models import run_state
from compsrt_basicsr.models.resumable import ExactResumeMixin


def model(**attributes):
    return SimpleNamespace(opt={'dist': False, 'rank': 0, 'world_size': 1}, **attributes)


def draws():
    return random.random(), float(np.random.rand()), float(np.random.randn()), float(torch.rand(()))


def test_generators_continue_where_they_were(tmp_path):
    """Through a file that is read without pickled objects, half a pair of Gaussian numbers included."""
    np.random.randn(1)
    torch.save(run_state.collect(model()), tmp_path / 'x.state')
    expected = draws()
    draws()
    run_state.restore(model(), torch.load(tmp_path / 'x.state', weights_only=True))
    assert draws() == expected


def test_best_metrics_are_plain_numbers(tmp_path):
    """Metrics give NumPy numbers; a state that holds one cannot be read safely, and the run would start over."""
    best = {'Set5': {'psnr': {'better': 'higher', 'val': np.float64(30.5), 'iter': 100}}}
    torch.save(run_state.collect(model(best_metric_results=best)), tmp_path / 'x.state')
    other = model()
    run_state.restore(other, torch.load(tmp_path / 'x.state', weights_only=True))
    assert other.best_metric_results == best
    assert type(other.best_metric_results['Set5']['psnr']['val']) is float


def test_a_state_holds_the_number_of_threads(monkeypatch, tmp_path):
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 3)
    torch.save(run_state.collect(model()), tmp_path / 'x.state')
    assert torch.load(tmp_path / 'x.state', weights_only=True)['threads'] == 3


def test_states_of_others_change_nothing():
    before = random.getstate()
    other = model()
    run_state.restore(other, {})
    assert random.getstate() == before and not hasattr(other, 'best_metric_results')


@pytest.mark.parametrize(
    ('val', 'expected'),
    [
        ({'val_freq': 4}, ['validate a', 'validate b', 'saved']),
        ({'val_freq': 3}, ['saved', 'validate a', 'validate b']),
        (None, ['saved', 'validate a', 'validate b']),
    ],
)
def test_state_waits_for_the_validations_of_its_iteration(monkeypatch, val, expected):
    """Else a resumed run would not know their best metrics. Here the loop saves and validates at iteration 4."""
    events = []
    own = ExactResumeMixin.__new__(ExactResumeMixin)
    own.opt = {'dist': False, 'rank': 0, 'val': val, 'datasets': dict.fromkeys(['train', 'val_1', 'val_2'])}
    own.opt.update(path={'training_states': ''}, train={'total_iter': 4})
    own.is_train = True
    own.optimizers = own.schedulers = []
    one, two = (SimpleNamespace(dataset=SimpleNamespace(opt={'name': name})) for name in 'ab')

    def validate(loader, *_):
        events.append(f'validate {loader.dataset.opt["name"]}')

    monkeypatch.setattr(own, 'nondist_validation', validate, raising=False)
    monkeypatch.setattr('compsrt_basicsr.models.resumable.atomic_save', lambda *_: events.append('saved'))
    own.save_training_state(0, 4)
    own.validation(one, 4, None)
    own.validation(two, 4, None)
    own.save_training_state(-1, -1)  # the end of the run: BasicSR writes no state
    own.validation(one, 5, None)
    assert events == [*expected, 'validate a']
