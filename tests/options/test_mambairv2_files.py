"""Files of MambaIRv2-light: names say what they do, tests load what training saves, student and teacher agree."""

import re

import pytest
import yaml
from conftest import ROOT

from compsrt_basicsr.archs.mambairv2_light_arch import PUBLISHED_PLACEMENT
from compsrt_basicsr.config.methods.presets import METHODS

STRICT = sorted((ROOT / 'options/mambairv2').glob('*_w*.yml'))
PAPER = sorted((ROOT / 'options/paper').glob('*mambairv2*.yml'))
NAME = re.compile(r'(test_)?(?:mambairv2_)?(linears|all)_x(\d)_w(\d)a\4(_p40)?\.yml')


def load(path):
    return yaml.safe_load(path.read_text(encoding='utf-8'))


@pytest.mark.parametrize('path', [*STRICT, *PAPER], ids=lambda path: path.stem)
def test_values_agree_with_the_name(path):
    opt = load(path)
    test, placement, scale, bits, pruned = NAME.fullmatch(path.name).groups()
    network, quant = opt['network_g']['base'], opt['network_g']['quant']
    assert opt['scale'] == network['upscale'] == int(scale)
    assert quant['weight_bits'] == quant['act_bits'] == int(bits)
    assert quant.get('prune_ratio', 0) == (0.4 if pruned else 0)
    assert quant.get('quantize_scan', False) == (placement == 'all')
    if test:
        training = load(path.with_name(path.name.removeprefix('test_')))
        assert opt['network_g'] == training['network_g']
        assert opt['path']['pretrain_network_g'] == f'experiments/{training["name"]}/models/net_g_latest.pth'
    else:
        assert opt['network_t'] == network
        assert opt['path']['pretrain_network_t'] == f'zoo://mambairv2_light_x{scale}'


@pytest.mark.parametrize('path', PAPER, ids=lambda path: path.stem)
def test_published_files_have_the_published_method_and_placement(path):
    """Also the published patches: 64, 64 and 32 LR pixels at x2, x3 and x4."""
    opt, method = load(path), METHODS['compsrt_paper']
    quant = opt['network_g']['quant']
    assert {key: quant[key] for key in PUBLISHED_PLACEMENT} == PUBLISHED_PLACEMENT
    assert {key: quant.get(key, value) for key, value in method.quant.items()} == method.quant
    if 'train' in opt:
        assert opt['name'] == f'mambairv2_paper_{path.stem.removeprefix("mambairv2_")}'
        assert {key: opt['train'][key] for key in method.train} == method.train
        assert {key: opt['calibration'].get(key, value) for key, value in method.calibration.items()} == (
            method.calibration
        )
        assert opt['datasets']['train']['gt_size'] == {2: 128, 3: 192, 4: 128}[opt['scale']]


def test_every_combination_is_there():
    each = 2 * 3 * (3 + 2)  # training and test, scales, bits, two of them pruned
    assert (len(STRICT), len(PAPER)) == (2 * each, each)
