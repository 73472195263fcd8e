"""Quantized MambaIRv2-light as CompSRT's authors save it: loaded, compared with the published formula, refused."""

import logging
import re

import mambairv2_golden as golden
import numpy as np
import pytest
import torch
from mambairv2_golden import TINY, image, plain_network, weights
from scipy.linalg import hadamard
from tiny_networks import EDSR, tiny_swinir

from compsrt_basicsr.archs.compsrt_net_arch import CompSRTNet
from compsrt_basicsr.archs.mambairv2_light_arch import PUBLISHED_PLACEMENT, MambaIRv2Light
from compsrt_basicsr.archs.state_dicts import load_state
from compsrt_basicsr.checkpoints.formats import FORMATS
from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.models.weights import load_weights
from compsrt_basicsr.quant.quantizer import quantizers
from compsrt_basicsr.quant.sparsity import measure_sparsity

pytestmark = pytest.mark.usefixtures('kernel_home')
BASE = {**TINY, 'type': 'MambaIRv2Light'}
PAPER = {'code_range': 'paper', 'transform': 'padded', **PUBLISHED_PLACEMENT}
LAYERS = [f'layers.{group}.residual_group.layers.{layer}' for group, layer in ((0, 0), (0, 1), (1, 0))]
LINEARS = ('wqkv.q', 'wqkv.k', 'wqkv.v', 'win_mhsa.proj', 'convffn1.fc1', 'convffn1.fc2', 'convffn2.fc1',
           'convffn2.fc2', 'assm.out_proj', 'assm.route.0', 'assm.route.2')  # fmt: skip
UNUSED = ('mymodule_q', 'mymodule_k', 'mymodule_v', 'mymodule_attn', 'assm.mymodule_x', 'assm.mymodule_prompt',
          'assm.mymodule_scan')  # fmt: skip


def authors_state(bits=4, **changes):
    """A state dict with the keys of the authors' code; weights and bounds are those of no training."""
    draw = np.random.default_rng(5)
    network = MambaIRv2Light(**{**TINY, **changes})
    shapes = {name: tuple(value.shape) for name, value in network.named_parameters()}
    small = {name: 0.3 * value + 0.7 * name.endswith(('norm.weight', 'scale1', 'scale2')) for name, value in
             weights(shapes).items()}  # fmt: skip
    state = {'relative_position_index_SA': network.relative_position_index_SA}
    for name, value in small.items():
        value = torch.tensor(value, dtype=torch.float32)
        if match := re.fullmatch(r'(.*\.wqkv)\.(weight|bias)', name):
            state |= {f'{match[1]}.{part}.{match[2]}': third for part, third in zip('qkv', value.chunk(3))}
        else:
            state[name] = value

    def quantizer(prefix, reach):
        lower, upper = -reach * draw.uniform(0.8, 1.2), reach * draw.uniform(0.8, 1.2)
        numbers = {
            'lower_bound': lower,
            'upper_bound': upper,
            'n_bit': bits,
            'alpha': draw.uniform(-0.7, 0.2) * (upper - lower) / (2**bits - 1),  # some use more than 2^b codes
            'beta_Z': draw.normal() * 0.01,
        }
        state.update({f'{prefix}.{part}': torch.tensor([float(value)]) for part, value in numbers.items()})

    for layer in (name for name in LAYERS if f'{name}.scale1' in state):
        for linear in LINEARS:
            quantizer(f'{layer}.{linear}.weight_quantizer', 0.4)
            quantizer(f'{layer}.{linear}.act_quantizer', 2.0)
        for name in ('x_proj_weight', 'dt_projs_weight'):
            scan = f'{layer}.assm.selectiveScan.{name}'
            quantizer(f'{scan}_quant.weight_quantizer', 0.4)
            state[f'{scan}_quant.weight_fp'] = state[scan].clone()
            state[scan] = torch.zeros_like(state[scan])  # the copy that nothing reads
        for name in UNUSED:
            quantizer(f'{layer}.{name}', 1.0)
    return state


def published(x, state, prefix):
    """The published formula in float64: zero-padded Hadamard transform, unclamped codes, inverse, crop."""
    lower, upper, bits, alpha, beta = (
        float(state[f'{prefix}.{part}'][0]) for part in ('lower_bound', 'upper_bound', 'n_bit', 'alpha', 'beta_Z')
    )
    order = 1 << (x.shape[-1] - 1).bit_length()
    matrix = hadamard(order) / np.sqrt(order)
    transformed = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, order - x.shape[-1])]) @ matrix
    scale, zero = (upper - lower) / (2**bits - 1) + alpha, lower + beta
    codes = np.round((transformed.clip(lower, upper) - zero) / scale)
    return ((codes * scale + zero) @ matrix)[..., : x.shape[-1]]


def published_linear(x, state, name):
    """Takes the place of `mambairv2_golden._linear`."""
    parts = [f'{name}.{part}' for part in 'qkv'] if f'{name}.q.weight' in state else [name]
    inputs = [published(x, state, f'{part}.act_quantizer') for part in parts]
    matrices = [published(state[f'{part}.weight'], state, f'{part}.weight_quantizer') for part in parts]
    results = [a @ w.T + state[f'{part}.bias'] for a, w, part in zip(inputs, matrices, parts)]
    return np.concatenate(results, -1)


def computed(state, monkeypatch):
    """The output of the authors' network by loops in NumPy."""
    values = {name: value.double().numpy() for name, value in state.items() if value.is_floating_point()}
    for name in [name for name in values if name.endswith('_quant.weight_fp')]:
        quant = name.removesuffix('.weight_fp')
        values[quant.removesuffix('_quant')] = published(values[name], values, f'{quant}.weight_quantizer')
    monkeypatch.setattr(golden, '_linear', published_linear)
    return plain_network(image(), values, **TINY)


def saved(state, folder):
    torch.save({'params': state}, folder / 'net.pth')
    return folder / 'net.pth'


def one_line(error):
    return '\n' not in str(error.value) and str(error.value).count('. ') == 0


def test_a_file_computes_the_published_formula(tmp_path, monkeypatch, caplog):
    """Float32 may flip codes on the boundary of two steps; none of these is that near."""
    state = authors_state()
    with caplog.at_level(logging.INFO, 'basicsr.compsrt'):
        loaded = load_network(saved(state, tmp_path))
    assert loaded.kind == 'quantized' and (loaded.scale, loaded.multiple) == (2, 4)
    assert f'{len(LAYERS) * len(UNUSED)} quantizers `mymodule_*`' in caplog.text
    loaded.network.routing = 'argmax'
    result = loaded.network(torch.tensor(image(), dtype=torch.float32)[None])[0]
    expected = computed(state, monkeypatch)
    assert np.abs(expected).max() > 0.5 and np.abs(result.numpy() - expected).max() < 1e-4
    found = quantizers(loaded.network)
    assert len(found) == 24 * len(LAYERS) and all(quantizer.is_calibrated for quantizer in found.values())
    recognised = next(known.name for known in FORMATS if known.recognises(state))
    assert 'authors' in recognised


def test_the_formula_differs_from_the_clamped_one(tmp_path, monkeypatch):
    """Otherwise the test above would pass with any code range."""
    state = authors_state()
    loaded = load_network(saved(state, tmp_path))
    loaded.network.routing = 'argmax'
    for quantizer in quantizers(loaded.network).values():
        quantizer.code_range = 'strict'
    result = loaded.network(torch.tensor(image(), dtype=torch.float32)[None])[0]
    assert np.abs(result.numpy() - computed(state, monkeypatch)).max() > 0.05


def test_an_option_file_loads_it_and_prunes_it(tmp_path):
    """As `path.pretrain_network_g` of a run; their masks are drawn at each pass and are not in the file."""
    file = saved(authors_state(), tmp_path)
    networks = [CompSRTNet(dict(BASE), {**PAPER, **more}) for more in ({}, {'prune_ratio': 0.4})]
    for network in networks:
        load_weights(network, str(file), True, 'params', skip_misfits=False)
    alone = load_network(file).network
    alone.routing = 'argmax'
    with torch.no_grad():
        assert torch.equal(networks[0].eval()(torch.ones(1, 3, 8, 8)), alone(torch.ones(1, 3, 8, 8)))
    assert all(tensor.pruned == round(0.4 * tensor.size) for tensor in measure_sparsity(networks[1]))


def test_without_a_copy_the_published_projection_counts(tmp_path):
    state = {k: v for k, v in authors_state().items() if not k.endswith('weight_fp')}
    loaded = load_network(saved(state, tmp_path))
    scan = f'{LAYERS[0]}.assm.selectiveScan'
    assert torch.equal(loaded.network.get_submodule(f'{scan}.x_proj').weight, state[f'{scan}.x_proj_weight'][0])


def without(*endings):
    return {key: value for key, value in authors_state().items() if not key.endswith(endings)}


def changed(ending, value):
    return {key: value if key.endswith(ending) else old for key, old in authors_state().items()}


@pytest.mark.parametrize(
    ('state', 'text'),
    [
        (lambda: without('layers.1.wqkv.k.weight'), r'wqkv\.k\.weight` is missing'),
        (lambda: without('1.norm3.weight'), r'norm3\.weight is missing'),
        (lambda: without('1.wqkv.v.act_quantizer.upper_bound'), r'v\.act_quantizer\.upper_bound` is missing'),
        (lambda: without('x_proj_weight', 'x_proj_weight_quant.weight_fp'), r'x_proj\.weight is missing'),
        (lambda: without(*(f'1.assm.route.2.act_quantizer.{p}' for p in ('lower_bound', 'upper_bound', 'alpha',
                         'beta_Z', 'n_bit'))), r'route\.2\.act_quantizer'),
        (lambda: without('n_bit'), 'no bit width'),
        (lambda: changed('wqkv.k.bias', torch.zeros(())), r'wqkv\.q\.bias'),
        (lambda: changed('dt_projs_weight_quant.weight_fp', torch.zeros(2, 18, 2)), r'dt_proj\.weight is \(2, 18, 2\)'),
        (lambda: changed('fc1.act_quantizer.alpha', torch.zeros(2)), r'fc1\.act_quantizer\.alpha'),
        (lambda: changed('fc1.act_quantizer.lower_bound', torch.tensor([torch.nan])), r'act_quantizer\.lower_bound'),
    ],
)  # fmt: skip
def test_incomplete_files_are_one_sentence(state, text, tmp_path):
    with pytest.raises(CompSRTError, match=text) as error:
        load_network(saved(state(), tmp_path))
    assert one_line(error) and 'net.pth' in str(error.value)


@pytest.mark.parametrize(
    ('base', 'quant', 'text'),
    [
        ({'upscale': 3}, PAPER, 'another scale: x2, the network is x3'),
        ({'embed_dim': 24}, PAPER, r'conv_first.* check the arguments'),
        ({}, {**PUBLISHED_PLACEMENT}, r'code_range: paper` and `quant\.transform: padded'),
        ({}, {**PAPER, 'act_bits': 3}, 'has 4 bits in the checkpoint, 3 in'),
        ({}, {**PAPER, 'split': {}}, r'wqkv\.[kqv]\.\w+_quantizer`.*`split`'),
        ({}, {**PAPER, 'layers': {}}, r'selectiveScan\.\w+\.act_quantizer`.*`layers`'),
    ],
)
def test_options_that_do_not_fit(base, quant, text, tmp_path):
    network = CompSRTNet({**BASE, **base}, quant)
    with pytest.raises(CompSRTError, match=text) as error:
        load_weights(network, str(saved(authors_state(), tmp_path)), True, 'params', skip_misfits=False)
    assert one_line(error) and 'net.pth' in str(error.value)


def swinir_state():
    """Enough of an authors' checkpoint of a SwinIR to be recognised as one."""
    state = tiny_swinir().state_dict()
    bound = 'layers.0.residual_group.blocks.0.mlp.fc1.act_quantizer'
    return {**state, **{f'{bound}.{part}': torch.ones(1) for part in ('lower_bound', 'upper_bound', 'alpha')}}


def test_checkpoints_of_another_network(tmp_path):
    """Whatever the options of quantization say."""
    student = CompSRTNet(dict(BASE), {'weight_bits': 3, **PUBLISHED_PLACEMENT})
    with pytest.raises(CompSRTError, match='look like SwinIR'):
        load_state(student, swinir_state())
    for network in (tiny_swinir(), CompSRTNet(EDSR, {'quantize_convs': True})):
        with pytest.raises(CompSRTError, match=r'full precision|look like MambaIRv2-light') as error:
            load_weights(network, str(saved(authors_state(), tmp_path)), True, 'params', skip_misfits=False)
        assert 'net.pth' in str(error.value)
