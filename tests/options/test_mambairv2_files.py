"""options/mambairv2: names say what the files do, tests load what training saves, student and teacher agree."""

import re

import pytest
import yaml
from conftest import ROOT

FILES = sorted((ROOT / 'options/mambairv2').glob('*_w*.yml'))
NAME = re.compile(r'(test_)?(linears|all)_x(\d)_w(\d)a\4(_p40)?\.yml')


def load(path):
    return yaml.safe_load(path.read_text(encoding='utf-8'))


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
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


def test_every_combination_is_there():
    assert len(FILES) == 2 * 2 * 3 * (3 + 2)
