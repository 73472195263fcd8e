"""Every shipped option file runs: parsed strictly, made tiny, built, calibrated, and run for a step."""

import logging
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml
from basicsr.archs import build_network
from basicsr.models import build_model
from compsrt_runs import make_teacher

from compsrt_basicsr.basicsr_compat.parse_options import parse_options
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.models.compsrt_model import CompSRTModel
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.quantizer import quantizers
from compsrt_basicsr.quant.sparsity import measure_sparsity

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(p for p in (ROOT / 'options').rglob('*compsrt*.yml') if p.parent.name in ('options', 'paper'))
SMALLER = {'img_size': 16, 'depths': [1], 'embed_dim': 12, 'num_heads': [2]}


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """BasicSR's logger, as a command would have set it up."""
    from basicsr.utils import logger

    monkeypatch.setitem(logger.initialized_logger, 'basicsr', True)
    monkeypatch.setattr(logging.getLogger('basicsr'), 'level', logging.ERROR)


def make_small(opt, tiny_lmdb, folder):
    """Replaces what a test has not: the network's size, data sets, weights and the patches of the calibration."""
    opt['network_g'].update(SMALLER)
    for dataset in opt['datasets'].values():
        dataset.update(dataset_roots(tiny_lmdb))
    torch.manual_seed(0)
    patches = torch.rand(2, 3, 16, 16)
    if 'network_t' in opt:
        opt['network_t'].update(SMALLER)
        torch.save({'lq': patches}, folder / 'patches.pth')
        opt['calibration'].update(file=str(folder / 'patches.pth'), candidates=10)
        teacher = make_teacher(folder / 'teacher.pth', upscale=opt['scale'], **SMALLER)
        opt['path']['pretrain_network_t'] = str(teacher)
    else:
        network = build_network(opt['network_g'])
        calibrate(network, patches, CalibrationConfig(candidates=10), progress=False)
        torch.save({'params': network.state_dict()}, folder / 'net_g.pth')
        opt['path']['pretrain_network_g'] = str(folder / 'net_g.pth')


def dataset_roots(pair):
    return {'dataroot_gt': str(pair.hr), 'dataroot_lq': str(pair.lr)}


@pytest.mark.parametrize('path', FILES, ids=lambda p: '/'.join(p.relative_to(ROOT / 'options').with_suffix('').parts))
def test_option_file_runs(path, tiny_lmdb, tmp_path, monkeypatch):
    opt = yaml.safe_load(path.read_text(encoding='utf-8'))
    make_small(opt, tiny_lmdb, tmp_path)
    (tmp_path / 'options.yml').write_text(yaml.safe_dump(opt))
    monkeypatch.setattr(sys, 'argv', ['basicsr', '-opt', str(tmp_path / 'options.yml')])
    training = not path.name.startswith('test_')
    parsed, _ = parse_options(str(tmp_path), is_train=training)
    if training:
        for folder in ('models', 'training_states'):
            Path(parsed['path'][folder]).mkdir(parents=True)

    model = build_model(parsed)
    assert type(model) is CompSRTModel
    found = quantizers(model.net_g)
    assert len(found) == 16 and all(q.is_calibrated for q in found.values())
    paper = path.parent.name == 'paper'
    assert {q.code_range for q in found.values()} == {'paper' if paper else 'strict'}
    bits = int(re.search(r'_w(\d)a', path.stem)[1])
    assert {q.bits for q in found.values()} == {bits}

    for tensor in measure_sparsity(model.net_g):
        assert tensor.pruned == round(0.4 * tensor.size)
    assert bool(measure_sparsity(model.net_g)) == path.stem.endswith('_p40')

    model.feed_data({'lq': torch.rand(1, 3, 16, 16)})
    if training:
        model.update_learning_rate(1, warmup_iter=parsed['train'].get('warmup_iter', -1))
        before = [p.clone() for p in model._trained()]
        model.optimize_parameters(1)
        log = model.get_current_log()
        assert log['l_pix'] > 0 and (not paper or log['l_feature'] > 0)
        assert any(not torch.equal(a, b) for a, b in zip(before, model._trained()))
        if not paper:
            assert log['levels_over'] == 0
    model.test()
    side = 16 * parsed['scale']
    assert model.output.shape == (1, 3, side, side) and torch.isfinite(model.output).all()


def test_there_are_60_files():
    assert len(FILES) == 60


@pytest.mark.parametrize('path', sorted((ROOT / 'options').glob('pretrain_*.yml')), ids=lambda path: path.stem)
def test_pretraining_file_runs(path, tiny_lmdb, tmp_path, monkeypatch):
    """One step; x3 and x4 start from an x2 network whose tail does not fit."""
    opt = yaml.safe_load(path.read_text(encoding='utf-8'))
    opt['network_g'].update(SMALLER)
    for dataset in opt['datasets'].values():
        dataset.update(dataset_roots(tiny_lmdb))
    if opt['path']['pretrain_network_g']:
        start = torch.load(make_teacher(tmp_path / 'x2.pth', upscale=2, **SMALLER))
        key = opt['path'].get('param_key_g', 'params')
        torch.save({key: start['params']}, tmp_path / 'x2.pth')
        opt['path']['pretrain_network_g'] = str(tmp_path / 'x2.pth')
    (tmp_path / 'options.yml').write_text(yaml.safe_dump(opt))
    monkeypatch.setattr(sys, 'argv', ['basicsr', '-opt', str(tmp_path / 'options.yml')])
    parsed, _ = parse_options(str(tmp_path))
    scale = parsed['scale']

    def pairs_of_this_scale(_, number, seed):  # those of the LMDB are x2
        side, generator = 16 * scale, torch.Generator().manual_seed(seed)
        return [{'lq': torch.rand(3, 16, 16), 'gt': torch.rand(3, side, side, generator=generator)}] * number

    monkeypatch.setattr('compsrt_basicsr.models.pretrain_model.draw_pairs', pairs_of_this_scale)
    model = build_model(parsed)
    if scale > 2:
        assert torch.equal(model.net_g.conv_first.weight.cpu(), start['params']['conv_first.weight'])
    lq = torch.rand(1, 3, 16, 16)
    model.feed_data({'lq': lq, 'gt': torch.rand(1, 3, 16 * scale, 16 * scale)})
    before = model.net_g.conv_first.weight.clone()
    model.optimize_parameters(1)
    assert not torch.equal(before, model.net_g.conv_first.weight)
