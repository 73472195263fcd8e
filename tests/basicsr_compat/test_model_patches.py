"""Optimizers by name, devices of distributed runs, the torchvision stand-in and `register`."""

import importlib
import os
import socket
import sys
import types
from datetime import timedelta

import pytest
import torch
from basicsr import train
from basicsr.models.base_model import BaseModel
from basicsr.utils import options as host_options

import compsrt_basicsr
from compsrt_basicsr.basicsr_compat import distributed, patches, torchvision_shim
from compsrt_basicsr.basicsr_compat.slurm import hosts
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
    store = types.SimpleNamespace(set_timeout=lambda timeout: None)
    monkeypatch.setattr(distributed, 'rendezvous', lambda url, timeout: iter([(store, 5, 8)]))
    monkeypatch.setattr(distributed.dist, 'init_process_group', lambda **kwargs: calls.update(kwargs))
    monkeypatch.setattr(torch.cuda, 'set_device', lambda device: calls.update(device=device))
    monkeypatch.setattr(distributed.mp, 'get_start_method', lambda allow_none: 'spawn')
    monkeypatch.setenv('RANK', '5')
    monkeypatch.setenv('LOCAL_RANK', '1')
    return calls


def test_gloo_without_cuda(joined, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    host_options.init_dist('pytorch')
    assert joined['backend'] == 'gloo' and 'device' not in joined


def test_nccl_and_local_rank_with_cuda(joined, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    host_options.init_dist('pytorch')
    assert (joined['backend'], joined['rank'], joined['world_size'], joined['device']) == ('nccl', 5, 8, 1)
    monkeypatch.setenv('LOCAL_RANK', '2')
    with pytest.raises(CompSRTError, match='--nproc_per_node=2'):
        host_options.init_dist('pytorch')


SLURM = {'SLURM_PROCID': '3', 'SLURM_NTASKS': '4', 'SLURM_LOCALID': '1', 'SLURM_NODELIST': 'node[02-03],x'}
RENDEZVOUS = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')


@pytest.fixture
def slurm(joined, monkeypatch):
    """A task of a Slurm job, on a machine without Slurm's tools."""
    for name in RENDEZVOUS:
        monkeypatch.setenv(name, '')  # so that what the run sets is undone
    for name in ('SLURM_STEP_NODELIST', 'SLURM_JOB_NODELIST', 'SLURM_NNODES'):
        monkeypatch.delenv(name, raising=False)
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    return joined


@pytest.mark.parametrize('gpus', [0, 1, 2])
def test_slurm(slurm, monkeypatch, gpus):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: gpus)
    host_options.init_dist('slurm', port=29501)
    assert [os.environ[name] for name in RENDEZVOUS] == ['3', '4', '1', 'node02', '29501']
    assert slurm['backend'] == ('nccl' if gpus else 'gloo') and slurm.get('device') == {0: None, 1: 0, 2: 1}[gpus]
    monkeypatch.setenv('MASTER_ADDR', 'given')
    monkeypatch.setenv('MASTER_PORT', '7')
    host_options.init_dist('slurm')
    assert [os.environ[name] for name in RENDEZVOUS[3:]] == ['given', '7']


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('node7', ['node7']),
        ('node[01-02]', ['node01', 'node02']),
        ('node[8-11]', ['node8', 'node9', 'node10', 'node11']),
        ('node[098-101,7]', ['node098', 'node099', 'node100', 'node101', 'node7']),
        ('a,b-[1,3-4]-ib.example.org,c', ['a', 'b-1-ib.example.org', 'b-3-ib.example.org', 'b-4-ib.example.org', 'c']),
        ('rack[0-1]n[2-3]', ['rack0n2', 'rack0n3', 'rack1n2', 'rack1n3']),
        ('[1-2]', ['1', '2']),
        ('a[1-2,4[0-1],[7-8]]', ['a1', 'a2', 'a40', 'a41', 'a7', 'a8']),
    ],
)
def test_lists_of_hosts(text, expected):
    assert list(hosts(text)) == expected


def test_the_first_of_many_hosts_is_found_at_once():
    assert next(hosts('a[0-999999999]b[0-999999999]')) == 'a0b0'


@pytest.mark.parametrize(
    'text', ['n[1-2', 'n1-2]', 'n[2-1]', 'n[a-b]', 'n[]', ',', 'n[000x133]', 'n;rm', '[' * 99 + ']' * 99]
)
def test_other_lists_are_a_sentence(slurm, monkeypatch, text):
    with pytest.raises(ValueError):
        next(hosts(text))
    monkeypatch.setenv('SLURM_NODELIST', text)
    with pytest.raises(CompSRTError, match=r'\$SLURM_NODELIST is .* set MASTER_ADDR'):
        host_options.init_dist('slurm')


def test_without_a_list_of_hosts(slurm, monkeypatch):
    monkeypatch.delenv('SLURM_NODELIST')
    host_options.init_dist('slurm')
    assert os.environ['MASTER_ADDR'] == 'localhost'
    monkeypatch.setenv('SLURM_NNODES', '2')
    monkeypatch.setenv('MASTER_ADDR', '')
    with pytest.raises(CompSRTError, match='finds no SLURM_NODELIST'):
        host_options.init_dist('slurm')


@pytest.mark.parametrize(('rank', 'address'), [(0, '127.0.0.1'), (1, '127.0.0.1'), (1, 'node02.invalid')])
def test_processes_that_do_not_meet_end_in_a_sentence(monkeypatch, rank, address):
    """The others do not come; nobody listens; there is no such host."""
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(distributed, 'JOIN_TIMEOUT', timedelta(seconds=1))
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    for name, value in zip(RENDEZVOUS, (rank, 2, 0, address, port)):
        monkeypatch.setenv(name, str(value))
    with pytest.raises(CompSRTError, match=f'The 2 processes .* at {address}:{port} '):
        host_options.init_dist('pytorch')


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
