"""Files of SPR2Q: names say what they do, tests load what training saves, and linears alone have corrections."""

import re

import pytest
import yaml
from basicsr.archs import build_network
from conftest import ROOT

from compsrt_basicsr.config.methods.expand import expand_network, expand_run
from compsrt_basicsr.quant.correction import corrections
from compsrt_basicsr.study.published import published_row

FILES = sorted((ROOT / 'options/spr2q').glob('*.yml'))
NAME = re.compile(r'(test_)?(swinir|mambairv2)_light_x([24])_w([24])a\4\.yml')


def load(path):
    return yaml.safe_load(path.read_text(encoding='utf-8'))


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_values_agree_with_the_name(path):
    opt = load(path)
    test, network, scale, bits = NAME.fullmatch(path.name).groups()
    base = opt['network_g'].get('base', opt['network_g'])
    assert opt['scale'] == base['upscale'] == int(scale) and opt['method'] == 'spr2q'
    assert opt['network_g']['quant']['weight_bits'] == opt['network_g']['quant']['act_bits'] == int(bits)
    if test:
        training = load(path.with_name(path.name.removeprefix('test_')))
        assert opt['network_g'] == training['network_g']
        assert opt['path']['pretrain_network_g'] == f'experiments/{training["name"]}/models/net_g_latest.pth'
        return
    assert opt['path']['pretrain_network_t'] == f'zoo://{network}_light_x{scale}'
    assert {k: v for k, v in base.items() if k not in ('type', 'quant')} == {
        k: v for k, v in opt['network_t'].items() if k != 'type'
    }
    expand_run(opt)
    total = opt['train']['total_iter']
    assert (total, round(opt['train']['gate_phase'] * total)) == ({'swinir': 4500, 'mambairv2': 12500}[network], 500)
    assert opt['train']['optim_g']['betas'] == [0.9, 0.99 if network == 'swinir' else 0.999]
    if published := published_row('SPR2Q', int(scale), int(bits)) if network == 'swinir' else {}:
        assert f'{published["Set5"].psnr:.2f} dB on Set5' in path.read_text(encoding='utf-8')


def test_every_combination_is_there():
    assert len(FILES) == 2 * 2 * 2 * 2  # training and test, networks, scales, bits


@pytest.mark.parametrize(('network', 'layers', 'parts'), [('swinir_light', 24, 6), ('mambairv2_light', 20, 11)])
def test_which_linears_have_corrections(network, layers, parts):
    """144 and 220 in all, q, k and v counted apart."""
    opt = load(ROOT / f'options/spr2q/{network}_x2_w2a2.yml')
    expand_run(opt)
    expand_network(opt)
    found = corrections(build_network(opt['network_g']))
    assert sum(len(correction.gate) for correction in found.values()) == layers * parts
    assert all(correction.gate.shape[1] == 4 and correction.up.shape[-1] == 8 for correction in found.values())
    assert not any('selectiveScan' in name for name in found)
