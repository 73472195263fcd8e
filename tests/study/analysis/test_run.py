"""A whole analysis of a tiny network."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from conftest import LmdbPair
from tiny_networks import TINY, tiny_swinir
from torch import nn

from compsrt_basicsr.checkpoints.load import FULL_PRECISION, LoadedNetwork
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.patches import Patches
from compsrt_basicsr.quant.convert import quantize_
from compsrt_basicsr.quant.functional.transform import transform_matrix
from compsrt_basicsr.quant.quantizer import quantizers
from compsrt_basicsr.study.analysis.capture import measure
from compsrt_basicsr.study.analysis.files import write_files
from compsrt_basicsr.study.analysis.quantized_tensors import quantizable_copy, quantized_tensors
from compsrt_basicsr.study.analysis.run import analyze
from compsrt_basicsr.study.analysis.settings import AnalysisSettings
from compsrt_basicsr.study.analysis.tables import claims_table, gains_table, skipped_tensors

SETTINGS = AnalysisSettings(patches=2, patch_size=16, sample=200, resamples=100)
QUICK = AnalysisSettings(transforms=('dct',), patches=1, patch_size=16, sample=100, resamples=100)
WEIGHTS = AnalysisSettings(transforms=('random',), sample=100, resamples=100)
BLOCK = 'layers.0.residual_group.blocks.0'


def model() -> LoadedNetwork:
    record = {'arch': 'SwinIR', 'args': dict(TINY), 'quant': None}
    return LoadedNetwork(tiny_swinir(), 2, 8, 3, FULL_PRECISION, 'tiny.pth', record)


@pytest.fixture(scope='module')
def analysis(tiny_lmdb: LmdbPair):
    return analyze(model(), SETTINGS, tiny_lmdb.lr)


@pytest.fixture
def four_threads():
    """So that what must come one after another could come at once."""
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(threads)


def by_name(analysis):
    return {tensor['name']: tensor for tensor in analysis['tensors']}


def captured(network, batch) -> dict[str, torch.Tensor]:
    """The input of each quantizer in a forward pass."""
    found = {}
    for name, quantizer in quantizers(network).items():
        quantizer.name, quantizer.observer = name, lambda quantizer, x: found.__setitem__(quantizer.name, x)
    with torch.no_grad():
        network(batch)
    return found


def test_every_tensor_is_measured_as_it_is_in_the_network(analysis, tiny_lmdb: LmdbPair):
    """Compared with all images in one forward pass, transformed as a whole."""
    network = quantizable_copy(model())
    batch = torch.cat(list(Patches(tiny_lmdb.lr, 2, 16, 3, seed=0)))
    seen = captured(network, batch)
    assert set(by_name(analysis)) == set(seen)
    for tensor in quantized_tensors(network):
        rows = tensor.rows(seen[tensor.name]).double().numpy()
        for kind, entry in by_name(analysis)[tensor.name]['by_transform'].items():
            matrix = np.eye(tensor.order) if kind == 'none' else transform_matrix(kind, tensor.order, 0).numpy()
            x = rows @ matrix
            assert entry['count'] == x.size, (tensor.name, kind)
            assert entry['min'] == pytest.approx(x.min(), rel=1e-3, abs=1e-5), (tensor.name, kind)
            assert entry['std'] == pytest.approx(x.std(), rel=1e-3), (tensor.name, kind)


def test_what_it_holds(analysis):
    assert analysis['schema'] == 1 and analysis['transforms'] == ['none', 'auto', 'padded', 'dct', 'random']
    assert analysis['data']['patches'] == 2
    assert len(analysis['tensors']) == 2 * 16
    assert analysis['settings']['auto_is'] == {'12': 'hadamard', '24': 'hadamard', '6': 'conference', '64': 'hadamard'}
    tensor = by_name(analysis)[f'{BLOCK}.attn.attn_quantizer']
    assert tensor['role'] == 'matmul_attn' and tensor['order'] == 64 and tensor['skipped'] is None
    entry = tensor['by_transform']['none']
    assert 0 <= entry['min'] < entry['max'] <= 1
    assert set(entry['quant']) == {'2', '3', '4', '8'} and set(entry['smaller_samples']) == set()
    assert sum(entry['histogram']['counts']) == entry['count'] and len(entry['histogram']['counts']) == 128
    kinds = {(test['kind'], test['transform']) for test in analysis['tests']}
    assert kinds == {(k, t) for k in ('weight', 'activation') for t in ('auto', 'padded', 'dct', 'random')}
    assert {test['n'] for test in analysis['tests'] if test['kind'] == 'activation'} == {2 * 8}
    assert {row['kind'] for row in analysis['mechanism']} == {'weight', 'activation'}


def test_q_k_and_v_share_their_input(analysis):
    tensors = by_name(analysis)
    query, key = tensors[f'{BLOCK}.attn.qkv.q.act_quantizer'], tensors[f'{BLOCK}.attn.qkv.k.act_quantizer']
    assert query['same_as'] is None and key['same_as'] == query['name']
    assert key['by_transform'] == query['by_transform']


def test_more_bits_less_error(analysis):
    for tensor in analysis['tensors']:
        for entry in tensor['by_transform'].values():
            errors = [entry['quant'][bits]['mse'] for bits in '2348']
            assert errors == sorted(errors, reverse=True)


def test_it_is_the_same_again(tiny_lmdb: LmdbPair):
    assert analyze(model(), QUICK, tiny_lmdb.lr) == analyze(model(), QUICK, tiny_lmdb.lr)


def test_quantizers_and_threads_are_left_as_they_were(tiny_lmdb: LmdbPair):
    network, threads = quantizable_copy(model()), torch.get_num_threads()
    measure(network, quantized_tensors(network), Patches(tiny_lmdb.lr, 1, 16, 3, 0), SETTINGS)
    assert torch.get_num_threads() == threads
    assert all(quantizer.observer is None for quantizer in quantizers(network).values())


def test_weights_alone():
    analysis = analyze(model(), AnalysisSettings(transforms=('exact',), resamples=100))
    assert analysis['data'] is None and analysis['transforms'] == ['none', 'auto']
    assert {tensor['kind'] for tensor in analysis['tensors']} == {'weight'}
    assert {test['transform'] for test in analysis['tests']} == {'auto'}


def test_broken_tensors_are_skipped_and_the_others_analysed():
    broken = model()
    state = broken.network.state_dict()
    state[f'{BLOCK}.attn.proj.weight'].fill_(0.5)
    state[f'{BLOCK}.mlp.fc1.weight'][0, 0] = float('nan')
    analysis = analyze(broken, WEIGHTS)
    skipped = {tensor['name']: tensor['skipped'] for tensor in analysis['tensors'] if tensor['skipped']}
    assert skipped == {
        f'{BLOCK}.attn.proj.weight_quantizer': 'All its values are 0.5.',
        f'{BLOCK}.mlp.fc1.weight_quantizer': 'It holds NaN or infinite values.',
    }
    assert len(skipped_tensors(analysis)) == 2
    assert {test['n'] for test in analysis['tests'] if test['measure'] == 'range'} == {10}


def test_a_tensor_that_a_transform_makes_constant():
    """Rows that are the transform's own sum of columns become ones."""
    special = model()
    matrix = transform_matrix('random', 12, 0)
    special.network.state_dict()[f'{BLOCK}.attn.proj.weight'].copy_(matrix.sum(1).expand(12, 12))
    analysis = analyze(special, WEIGHTS)
    skipped = by_name(analysis)[f'{BLOCK}.attn.proj.weight_quantizer']['skipped']
    assert skipped.startswith('All its values after the transform `random` are 1')


def test_activations_that_are_not_finite(tiny_lmdb: LmdbPair):
    broken = model()
    broken.network.state_dict()['layers.0.residual_group.blocks.1.norm1.weight'][0] = float('inf')
    skipped = [bool(t['skipped']) for t in analyze(broken, QUICK, tiny_lmdb.lr)['tensors'] if t['kind'] == 'activation']
    assert 0 < sum(skipped) < len(skipped)


def test_patches_must_fit_the_window(tiny_lmdb: LmdbPair):
    with pytest.raises(CompSRTError, match='`--patch-size` 12 must be a multiple of 8'):
        analyze(model(), AnalysisSettings(patch_size=12), tiny_lmdb.lr)


@pytest.mark.parametrize(
    ('change', 'culprit'),
    [
        ({'transforms': ('hadamrad',)}, "--transform.*'hadamrad'"),
        ({'transforms': ('exakt',)}, 'Did you mean `exact`'),
        ({'patches': 0}, '`--patches`.* got 0'),
        ({'patch_size': 512}, '`--patch-size`.* got 512'),
        ({'sample': 10}, '`--sample`.* got 10'),
        ({'seed': -1}, '`--seed`'),
    ],
)
def test_settings_out_of_range(change, culprit):
    with pytest.raises(CompSRTError, match=culprit):
        AnalysisSettings(**change)


def test_files(analysis, tmp_path):
    paths = write_files(analysis, tmp_path / 'new' / 'folder')
    assert [path.name for path in paths] == ['analysis.json', 'analysis.csv']
    assert json.loads(paths[0].read_text()) == analysis
    rows = list(csv.DictReader(paths[1].open(newline='')))
    assert len(rows) == 32 * 5
    row = next(r for r in rows if r['name'] == f'{BLOCK}.mlp.fc2.act_quantizer' and r['transform'] == 'padded')
    entry = by_name(analysis)[row['name']]['by_transform']['padded']
    assert float(row['range']) == entry['range'] and int(row['count']) == entry['count']
    assert float(row['near_abs@0.05']) == entry['near_abs'][analysis['eps_abs'].index(0.05)]
    assert float(row['near_rel@0.5']) == entry['near_rel'][analysis['eps_rel'].index(0.5)]
    assert float(row['shapiro_p']) == entry['shapiro']['p']
    assert float(row['sqnr@4']) == entry['quant']['4']['sqnr']


def test_skipped_tensors_keep_their_row(tmp_path):
    broken = model()
    broken.network.state_dict()[f'{BLOCK}.attn.proj.weight'].zero_()
    rows = list(csv.DictReader(write_files(analyze(broken, WEIGHTS), tmp_path)[1].open(newline='')))
    (row,) = (r for r in rows if r['skipped'])
    assert row['skipped'] == 'All its values are 0.' and row['range'] == ''


def test_the_summary_counts_tensors(analysis):
    lines = claims_table(analysis).splitlines()
    assert len(lines) == 2 + 2 * 4
    (test,) = (
        t
        for t in analysis['tests']
        if (t['kind'], t['transform'], t['measure'], t['at']) == ('weight', 'auto', 'sqnr', 4)
    )
    (line,) = (one for one in lines if one.startswith('weight (12)') and ' auto ' in one)
    assert f'{100 * test["share"]:.0f}%, p' in line.split('  ')[-1]


def test_the_gains_are_means_over_the_blocks(analysis):
    entries = [t['by_transform'] for t in analysis['tensors'] if t['role'] == 'matmul_k']
    assert len(entries) == 2
    expected = sum(e['dct']['quant']['4']['sqnr'] - e['none']['quant']['4']['sqnr'] for e in entries) / 2
    (line,) = (one for one in gains_table(analysis).splitlines() if ' matmul_k ' in one)
    kind, _, count, *by_transform = line.split()
    assert (kind, count) == ('activation', '2') and by_transform[2] == f'{expected:+.2f}'


def test_a_layer_that_is_used_twice(four_threads):
    """Both of its inputs count, each before the next."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.once, self.again = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x):
            return self.again(self.again(self.once(x)))

    network = Twice()
    quantize_(network, QuantConfig(transform='none', quantize_head_tail=True))
    network.requires_grad_(False)
    batch = torch.rand(5000, 8)
    found = measure(network, quantized_tensors(network), [batch, batch], SETTINGS)
    assert found['once.act_quantizer']['none']['count'] == 2 * batch.numel()
    assert found['again.act_quantizer']['none']['count'] == 4 * batch.numel()


def test_a_layer_that_is_never_used():
    network = quantizable_copy(model())
    found = quantized_tensors(network)
    measured = measure(network, found, [], SETTINGS)
    unused = {measured[tensor.name] for tensor in found if tensor.kind == 'activation'}
    (reason,) = unused
    assert 'does not use its layer' in reason
