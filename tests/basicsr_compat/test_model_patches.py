"""Optimizers by name, devices of distributed runs, the torchvision stand-in and `register`."""

import importlib
import sys
import types

import pytest
import torch
from basicsr import train
from basicsr.models.base_model import BaseModel
from basicsr.utils import options as host_options

import compsrt_basicsr
from compsrt_basicsr.basicsr_compat import distributed, patches, torchvision_shim
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.functional.padding import pad_to_multiple


@pytest.fixture
def model():
    return BaseModel({'num_gpu': 0, 'is_train': True, 'dist': False})


@pytest.fixture
def parameters():
    return [torch.nn.Parameter(torch.ones(3))]


@pytest.mark.parametrize('name', ['Adam', 'AdamW', 'SGD', 'NAdam', 'RMSprop'])
def test_optimizers_by_name(model, parameters, name):
    optimizer = model.get_optimizer(name, parameters, lr=0.5, weight_decay=0.25)
    assert type(optimizer) is getattr(torch.optim, name)
    assert (optimizer.defaults['lr'], optimizer.defaults['weight_decay']) == (0.5, 0.25)


@pytest.mark.parametrize(
    ('name', 'arguments', 'message'),
    [
        ('AdamX', {}, 'Did you mean `Adam'),
        ('Optimizer', {}, 'is no optimizer'),
        ('LBFGS', {}, 'is no optimizer'),
        ('SGD', {'momentun': 0.9}, 'no argument `momentun`.*Did you mean `momentum`'),
        ('Adam', {'momentum': 0.9}, 'no argument `momentum`'),
        ('Adam', {'betas': [0.9, 2]}, 'refuses its arguments'),
    ],
)
def test_wrong_optimizers_are_told(model, parameters, name, arguments, message):
    with pytest.raises(CompSRTError, match=message):
        model.get_optimizer(name, parameters, 0.1, **arguments)


def test_model_to_device_is_basicsrs_unless_distributed_on_the_cpu(model):
    net = torch.nn.Linear(1, 1)
    assert model.model_to_device(net) is net


@pytest.mark.parametrize(
    ('launcher', 'variable', 'remedy'), [('pytorch', 'RANK', 'torchrun'), ('slurm', 'SLURM_PROCID', 'srun')]
)
def test_launcher_without_its_environment_is_told(monkeypatch, launcher, variable, remedy):
    monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(distributed.mp, 'get_start_method', lambda allow_none: 'fork')
    with pytest.raises(CompSRTError, match=f'needs the environment variable {variable}: start .* {remedy}'):
        host_options.init_dist(launcher)


@pytest.fixture
def joined(monkeypatch):
    """Records what the process group and the device would be."""
    calls = {}
    monkeypatch.setattr(distributed.dist, 'init_process_group', lambda **kwargs: calls.update(kwargs))
    monkeypatch.setattr(torch.cuda, 'set_device', lambda device: calls.update(device=device))
    monkeypatch.setattr(distributed.mp, 'get_start_method', lambda allow_none: 'spawn')
    monkeypatch.setenv('RANK', '5')
    monkeypatch.setenv('LOCAL_RANK', '1')
    return calls


def test_gloo_without_cuda(joined, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    host_options.init_dist('pytorch')
    assert joined == {'backend': 'gloo'}


def test_nccl_and_local_rank_with_cuda(joined, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    host_options.init_dist('pytorch')
    assert joined == {'backend': 'nccl', 'device': 1}
    monkeypatch.setenv('LOCAL_RANK', '2')
    with pytest.raises(CompSRTError, match='--nproc_per_node=2'):
        host_options.init_dist('pytorch')


def test_slurm_without_cuda(joined, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(distributed, '_first_host', lambda nodes: 'host1')
    for name, value in {'SLURM_PROCID': '3', 'SLURM_NTASKS': '4', 'SLURM_LOCALID': '1'}.items():
        monkeypatch.setenv(name, value)
    for name in ('MASTER_ADDR', 'MASTER_PORT', 'WORLD_SIZE'):
        monkeypatch.setenv(name, '')
    host_options.init_dist('slurm', port=29501)
    environment = distributed.os.environ
    assert joined == {'backend': 'gloo'}
    assert [environment[name] for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT', 'LOCAL_RANK')] == [
        '3', '4', 'host1', '29501', '1',
    ]  # fmt: skip


def test_unknown_launcher_is_basicsrs_affair():
    with pytest.raises(ValueError, match='Invalid launcher'):
        host_options.init_dist('mpi')


def test_registering_twice_changes_nothing():
    before = train.create_train_val_dataloader, BaseModel.get_optimizer, train.parse_options
    compsrt_basicsr.register()
    patches.apply()
    assert (train.create_train_val_dataloader, BaseModel.get_optimizer, train.parse_options) == before


def test_replacements_by_other_packages_stand(monkeypatch):
    module = types.ModuleType('host')
    monkeypatch.setitem(sys.modules, 'host', module)
    patch = patches.Patch('host:pad', 'quant.functional.padding:pad_to_multiple', 'a defect', 'replace')
    module.pad = test_registering_twice_changes_nothing
    patches._apply(patch)
    assert module.pad is test_registering_twice_changes_nothing
    module.pad = host_options.dict2str
    patches._apply(patch)
    assert module.pad is pad_to_multiple


def test_stand_in_for_torchvision(monkeypatch):
    monkeypatch.delitem(sys.modules, torchvision_shim.NAME, raising=False)
    monkeypatch.setattr(torchvision_shim.importlib.util, 'find_spec', lambda name: None)
    torchvision_shim.provide_functional_tensor()
    module = importlib.import_module(torchvision_shim.NAME)
    assert module.rgb_to_grayscale(torch.ones(3, 2, 2)).shape == (1, 2, 2)
    torchvision_shim.provide_functional_tensor()
    assert importlib.import_module(torchvision_shim.NAME) is module


def test_no_stand_in_where_torchvision_has_the_module(monkeypatch):
    monkeypatch.delitem(sys.modules, torchvision_shim.NAME, raising=False)
    monkeypatch.setattr(torchvision_shim.importlib.util, 'find_spec', lambda name: object())
    torchvision_shim.provide_functional_tensor()
    assert torchvision_shim.NAME not in sys.modules
