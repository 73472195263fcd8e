"""CompSRTNet: any registered network, quantized."""

import copy
from pathlib import Path

import pytest
import torch
from basicsr.archs import build_network
from basicsr.archs.swinir_arch import SwinIR

from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.packing.packed import save_packed
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.layers import quantized_layers
from compsrt_basicsr.quant.quantizer import quantizers

EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 12, 'num_block': 2, 'upscale': 2}
RCAN = {**EDSR, 'type': 'RCAN', 'num_group': 1, 'num_block': 1, 'squeeze_factor': 4}
SWINIR = {
    'type': 'SwinIR',
    'upscale': 2,
    'img_size': 16,
    'window_size': 8,
    'depths': [2],
    'embed_dim': 12,
    'num_heads': [2],
    'upsampler': 'pixelshuffledirect',
}
BASES = [EDSR, RCAN, SWINIR]


def quantized(base, **quant):
    return build_network({'type': 'CompSRTNet', 'base': base, 'quant': quant}).eval()


@pytest.mark.parametrize('base', BASES, ids=lambda b: b['type'])
def test_calibrates_runs_and_takes_the_checkpoint_of_its_base(base):
    """SQNR above 25 dB at 8 bits; the weights of the base load strictly, and its type stays."""
    torch.manual_seed(0)
    reference = build_network(base).eval()
    network = quantized(base, weight_bits=8, act_bits=8, quantize_convs=True)
    assert type(network) is type(reference)
    network.load_state_dict(reference.state_dict(), strict=True)
    x = torch.rand(2, 3, 16, 16)
    calibrate(network, x, CalibrationConfig(candidates=20), progress=False)
    with torch.no_grad():
        expected, result = reference(x), network(x)
    assert not torch.equal(expected, result)
    # signal: deviation from the mean of the image, because SR networks carry their input past the body
    signal = (expected - expected.mean((2, 3), keepdim=True)).square().sum()
    assert 10 * torch.log10(signal / (expected - result).square().sum()) > 25

    again = quantized(base, weight_bits=8, act_bits=8, quantize_convs=True)
    again.load_state_dict(network.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(again(x), result)


def test_head_and_tail_stay_in_full_precision():
    names = {name.rpartition('.')[0] for name in quantizers(quantized(EDSR, quantize_convs=True))}
    assert 'conv_first' not in names and 'conv_last' not in names
    assert 'body.0.conv1' in names and 'conv_after_body' in names
    whole = quantized(EDSR, quantize_convs=True, quantize_head_tail=True)
    everything = {name.rpartition('.')[0] for name in quantizers(whole)}
    assert everything == names | {'conv_first', 'conv_last'}


def test_swinir_gets_its_attention_adapter():
    network = quantized(SWINIR)
    assert isinstance(network, SwinIR) and len(quantizers(network)) == 32


def test_swinir_takes_checkpoints_of_another_img_size():
    network = quantized(SWINIR)
    network.load_state_dict(build_network({**SWINIR, 'img_size': 32}).state_dict(), strict=True)
    assert not [key for key in network.state_dict() if key.endswith(('attn_mask', 'relative_position_index'))]
    copy.deepcopy(network).load_state_dict(network.state_dict())


def test_checkpoint_of_other_bits_is_refused():
    with pytest.raises(CompSRTError, match='weight_bits 3 in the checkpoint, 2 in the options'):
        quantized(EDSR, quantize_convs=True, weight_bits=2).load_state_dict(
            quantized(EDSR, quantize_convs=True, weight_bits=3).state_dict()
        )


@pytest.mark.parametrize(
    ('base', 'quant', 'text'),
    [
        ({**EDSR, 'type': 'EDSRR'}, {}, r"`base\.type` 'EDSRR' .*Did you mean `EDSR`\?"),
        ({'num_feat': 8}, {}, r'`base\.type` None'),
        ({**EDSR, 'num_feats': 8}, {}, '`base`.* EDSR: .*num_feats'),
        (EDSR, {}, 'EDSR .*quantize_convs: true'),
        (EDSR, {'quantize_convs': True, 'weight_bits': 9}, '`weight_bits`'),
        (EDSR, {'quantise_convs': True}, 'Did you mean `quantize_convs`'),
    ],
)
def test_arguments_are_checked(base, quant, text):
    with pytest.raises(CompSRTError, match=text):
        quantized(base, **quant)


def test_options_are_not_modified():
    base = dict(EDSR)
    quantized(base, quantize_convs=True)
    assert base == EDSR


def test_the_first_pattern_that_matches_counts_after_packing_too(tmp_path: Path) -> None:
    """The names sort the other way round."""
    layers = {'model.z*': {'weight_bits': 6}, 'model.body.0': {'weight_bits': 8}, 'model.*': {'weight_bits': 3}}
    arguments = {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_conv': 2, 'upscale': 2, 'act_type': 'prelu'}
    base = {'type': 'spandrel', 'arch': 'Compact', 'args': arguments}
    options = {'quantize_convs': True, 'quantize_head_tail': True, 'granularity': 'channel', 'layers': layers}
    network = quantized(base, **options)
    calibrate(network, torch.rand(1, 3, 16, 16), CalibrationConfig(candidates=3), progress=False)
    save_packed(network, tmp_path / 'packed.safetensors')
    loaded = load_network(tmp_path / 'packed.safetensors').network
    bits = [layer.config.weight_bits for layer in quantized_layers(loaded).values()]
    assert bits == [layer.config.weight_bits for layer in quantized_layers(network).values()] and bits[0] == 8
    assert set(bits[1:]) == {3}
