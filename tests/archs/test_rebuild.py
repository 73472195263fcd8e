"""Networks from records: the right ones, and refusal of records that no network has, before memory is taken."""

import resource

import pytest
import torch
from tiny_networks import EDSR, TINY, tiny_edsr, tiny_quantized

from compsrt_basicsr.archs.build_limit import BuildLimit, Stored
from compsrt_basicsr.archs.rebuild import Geometry, geometry, rebuild
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.record import decode_record

STORED = Stored(100, 10_000, 10_000)


def swinir(**changes):
    return {'arch': 'CompSRTSwinIR', 'args': {**TINY, **changes}, 'quant': {}}


def net(**base):
    return {'arch': 'CompSRTNet', 'args': {'base': base}, 'quant': {'quantize_convs': True}}


@pytest.mark.parametrize('network', [tiny_quantized, tiny_edsr])
def test_record_builds_the_same_network(network):
    original = network()
    again = rebuild(decode_record(original.quant_record.json), STORED)
    assert not again.training
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in original.state_dict().items()}


@pytest.mark.parametrize(
    ('record', 'expected'),
    [
        (swinir(upscale=4), Geometry(4, 8, 3)),
        (swinir(in_chans=1, window_size=4), Geometry(2, 4, 1)),
        (net(**EDSR), Geometry(2, 1, 3)),
        (net(type='SRVGGNetCompact_basicsr'), Geometry(4, 1, 3)),
        (net(type='RRDBNet', num_in_ch=3, num_out_ch=3, scale=2), Geometry(2, 2, 3)),
        ({'arch': 'CompSRTNet', 'args': {'base': {'type': 'SwinIR', **TINY}}}, Geometry(2, 8, 3)),
    ],
)
def test_geometry(record, expected):
    assert geometry(record) == expected


@pytest.mark.parametrize(
    ('record', 'text'),
    [
        (swinir(embed_dim=10**9), 'out of any range: 1000000000'),
        (swinir(mlp_ratio=float('inf')), 'out of any range: inf'),
        (swinir(depths=[1] * 2000), 'out of any range: a list of 2,000 entries'),
        (swinir(upsampler='p' * 2000), 'out of any range: a str of 2,000'),
        (swinir(depths=[[[[[[[[[1]]]]]]]]]), 'out of any range'),
        (swinir(embed_dim=16_000, num_heads=[2]), 'far larger than the file'),
        (swinir(mlp_ratio=16_000), 'far larger than the file'),
        (swinir(img_size=16_000), 'far larger than the file'),
        (swinir(window_size=1000, img_size=2000), 'far larger than the file'),
        (swinir(depths=[16_000], num_heads=[2]), 'more layers than the file'),
        (net(**{**EDSR, 'num_feat': 16_000}), 'far larger than the file'),
        (net(**{**EDSR, 'num_block': 16_000, 'num_feat': 64}), 'more layers than the file'),
        (swinir(depths='six'), 'do not fit CompSRTSwinIR|`depths`'),
        (swinir(depths=None), '`depths` must be a list'),
        (swinir(nonsense=1), "do not fit CompSRTSwinIR .*'nonsense'"),
        (swinir(window_size=0), '`window_size` must be'),
        (swinir(upscale=5), '`upscale` must be'),
        (net(type='VGGFeatureExtractor', layer_name_list=['conv1_1']), 'not a network from image to image'),
        (net(type='BasicVSR', spynet_path='/etc/passwd'), 'not a network from image to image'),
        ({'arch': 'StyleGAN2Generator', 'args': {}}, 'not a network from image to image'),
        ({'arch': ['x'], 'args': {}}, 'is not registered'),
        ({**swinir(), 'quant': {'weight_bits': 99}}, '`weight_bits` must be'),
        ({**swinir(), 'quant': 3}, 'a section of options, got 3'),
    ],
)
def test_absurd_records_are_refused_in_little_memory(record, text):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CompSRTError, match=text) as error:
        rebuild(record, STORED)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # KiB: a quarter of a GiB
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    'ask',
    [
        lambda: torch.zeros(2**13, 2**13),
        lambda: torch.linspace(0, 1, 2**26),
        lambda: torch.arange(2**26),
        lambda: torch.empty(2**26, dtype=torch.uint8),
        lambda: torch.zeros(2**13, 1) - torch.zeros(1, 2**13),
        lambda: torch.zeros(4).repeat(2**24),
        lambda: [torch.zeros(2**20) for _ in range(2**10)],
    ],
)
def test_limit_refuses_before_the_operation(ask):
    with pytest.raises(CompSRTError, match='far larger than the file'), BuildLimit(STORED):
        ask()


def test_limit_lets_real_networks_pass():
    """SwinIR-light at twice the usual img_size."""
    record = swinir(depths=[6] * 4, num_heads=[6] * 4, embed_dim=60, img_size=128)
    assert rebuild(record, Stored(714, 910_152, 218_952)).embed_dim == 60
