"""CompSRTModel in one process: what it builds, freezes and learns from, and how it refuses wrong options."""

import copy
import logging

import pytest
import torch
from basicsr.archs import build_network
from basicsr.models import build_model
from compsrt_runs import distillation_options, make_teacher

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.layers import quantized_layers
from compsrt_basicsr.quant.pruning import pruned_layers
from compsrt_basicsr.quant.quantizer import quantizers
from compsrt_basicsr.quant.sparsity import measure_sparsity, summarize_sparsity


@pytest.fixture
def opt(tiny_lmdb, tmp_path):
    """Options as parse_options would leave them, without logger and folders of a run."""
    options = distillation_options(tiny_lmdb, make_teacher(tmp_path / 'teacher.pth'))
    options.update(dist=False, rank=0, world_size=1, num_gpu=0, is_train=True)
    options['path'].update(experiments_root=str(tmp_path), models=str(tmp_path), training_states=str(tmp_path))
    for phase, dataset in options['datasets'].items():
        dataset.update(phase=phase, scale=2)
    return options


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """BasicSR's logger, as a command would have set it up."""
    from basicsr.utils import logger

    monkeypatch.setitem(logger.initialized_logger, 'basicsr', True)
    monkeypatch.setattr(logging.getLogger('basicsr'), 'level', logging.ERROR)


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {'lq': torch.rand(2, 3, 16, 16, generator=generator)}


def step(model, iteration=1, seed=0):
    model.feed_data(batch(seed))
    model.optimize_parameters(iteration)
    return {k: v.item() for k, v in model._terms.items()}


def test_student_starts_from_its_teacher_calibrated(opt):
    model = build_model(opt)
    teacher = model.net_t.state_dict()
    assert all(torch.equal(value, teacher[key]) for key, value in model.net_g.state_dict().items() if key in teacher)
    assert all(q.is_calibrated for q in quantizers(model.net_g).values())
    assert not model.net_t.training and not any(p.requires_grad for p in model.net_t.parameters())
    assert torch.load(opt['path']['experiments_root'] + '/calibration.pth', weights_only=True)['lq'].ndim == 4


def test_networks_of_spandrel_take_the_weight_files_of_their_authors(opt, tmp_path):
    """Such a file has no prefix `model.`."""
    base = {'type': 'spandrel', 'arch': 'Compact', 'args': {'num_feat': 8, 'num_conv': 2, 'upscale': 2}}
    theirs = build_network(copy.deepcopy(base)).model.state_dict()
    torch.save(theirs, tmp_path / 'theirs.pth')
    quant = {'weight_bits': 4, 'act_bits': 4, 'quantize_convs': True}
    opt.update(network_g={'type': 'CompSRTNet', 'base': base, 'quant': quant}, network_t=copy.deepcopy(base))
    opt['path'].update(pretrain_network_t=str(tmp_path / 'theirs.pth'), param_key_t=None)
    opt['train']['feature_opt'] = None
    model = build_model(opt)
    for network in (model.net_t, model.net_g):
        own = network.state_dict()
        assert all(torch.equal(own[f'model.{key}'], value) for key, value in theirs.items())
    opt['path']['strict_load_t'] = False
    own = build_model(opt).net_t.state_dict()
    assert all(torch.equal(own[f'model.{key}'], value) for key, value in theirs.items())
    opt['path']['strict_load_t'] = True
    opt['network_t']['args']['num_feat'] = 16
    with pytest.raises(CompSRTError, match=r'model\.body\.0\.weight is \(8, 3, 3, 3\), not \(16, 3, 3, 3\)'):
        build_model(opt)


def test_a_student_takes_over_the_batch_norms_that_it_has_folded(opt, tmp_path):
    base = {'type': 'spandrel', 'arch': 'DCTLSA', 'args': {'nf': 10, 'num_modules': 6, 'upscale': 2, 'num_head': 5}}
    teacher = build_network(copy.deepcopy(base)).train()
    with torch.no_grad():
        for seed in range(3):  # statistics of batch norms that are not those of a new network
            teacher(batch(seed)['lq'])
    torch.save(teacher.model.state_dict(), tmp_path / 'theirs.pth')
    quant = {'weight_bits': 8, 'act_bits': 8, 'quantize_convs': True, 'fold_norms': True}
    opt.update(network_g={'type': 'CompSRTNet', 'base': base, 'quant': quant}, network_t=copy.deepcopy(base))
    opt['path'].update(pretrain_network_t=str(tmp_path / 'theirs.pth'), param_key_t=None)
    opt['train']['feature_opt'] = None
    model = build_model(opt)
    norms = [sum(isinstance(m, torch.nn.BatchNorm2d) for m in net.modules()) for net in (model.net_g, model.net_t)]
    assert 0 < norms[0] < norms[1]
    image = batch(5)['lq']
    with torch.no_grad():
        error = (model.net_g(image) - model.net_t(image)).std() / model.net_t(image).std()
    assert error < 0.05
    opt['network_t']['args']['nf'] = 20
    torch.save(build_network(copy.deepcopy(opt['network_t'])).model.state_dict(), tmp_path / 'theirs.pth')
    with pytest.raises(CompSRTError, match=r'^`network_g` cannot start from the weights of `network_t`: .{,400}$'):
        build_model(opt)


def test_only_the_quantizers_train(opt):
    model = build_model(opt)
    before = {k: v.clone() for k, v in model.net_g.state_dict().items()}
    for iteration in (1, 2, 3):
        step(model, iteration, iteration)
    changed = {k for k, v in model.net_g.state_dict().items() if not torch.equal(v, before[k])}
    learned = {
        f'{name}.{part}'
        for name in quantizers(model.net_g)
        for part in ('lower', 'upper', 'scale_offset', 'zero_offset')
    }
    assert changed <= learned and len(changed) > 0.9 * len(learned)
    assert {n for n, p in model.net_g.named_parameters() if p.requires_grad} == learned


def test_everything_trains_when_asked(opt):
    opt['train']['trainable'] = 'all'
    model = build_model(opt)
    weight = model.net_g.layers[0].residual_group.blocks[0].mlp.fc1.weight
    before = weight.clone()
    step(model)
    assert all(p.requires_grad for p in model.net_g.parameters()) and not torch.equal(weight, before)


def sparsity(network):
    return summarize_sparsity(measure_sparsity(network))['sparsity']


@pytest.mark.parametrize('trainable', ['quantizers', 'all'])
def test_pruned_from_the_start(opt, trainable):
    opt['network_g']['quant']['prune_ratio'] = 0.4
    opt['train']['trainable'] = trainable
    model = build_model(opt)
    masks = [layer.keep_mask.clone() for layer in pruned_layers(model.net_g).values()]
    for iteration in (1, 2, 3):
        step(model, iteration, iteration)
        assert all(t.pruned == round(0.4 * t.size) for t in measure_sparsity(model.net_g))
    assert all(map(torch.equal, masks, (layer.keep_mask for layer in pruned_layers(model.net_g).values())))
    assert model.get_current_log()['sparsity'] == sparsity(model.net_g) == pytest.approx(0.4, abs=0.5 / 144)


def test_pruned_on_a_schedule(opt):
    """Closed form at each step, masks of the average with it; each of the tensors rounds to one of 144 weights."""
    opt['network_g']['quant']['prune_ratio'] = 0.4
    opt['train'].update(ema_decay=0.5, prune_schedule={'begin': 1, 'end': 4, 'frequency': 2})
    model = build_model(opt)
    assert sparsity(model.net_g) == 0
    for iteration, expected in ((1, 0), (2, 0), (3, 0.4 * (1 - (1 / 3) ** 3)), (4, 0.4), (5, 0.4)):
        step(model, iteration)
        assert sparsity(model.net_g) == pytest.approx(expected, abs=0.5 / 144), iteration
        assert sparsity(model.net_g_ema) == sparsity(model.net_g)


def test_training_lowers_the_loss(opt):
    opt['network_g']['quant'] = {'weight_bits': 2, 'act_bits': 2}
    model = build_model(opt)
    totals = [sum(step(model, i).values()) for i in range(1, 26)]  # one batch again and again
    assert totals[-1] < 0.9 * totals[0]


def test_loss_is_that_of_outputs_and_features(opt):
    """1e-6: float32, the same formulas."""
    from compsrt_basicsr.losses.distances import feature_distance

    model = build_model(opt)
    student, teacher = copy.deepcopy(model.net_g).eval(), copy.deepcopy(model.net_t)
    terms = step(model)
    features = [], []
    for network, seen in zip((student, teacher), features):
        group = network.layers[0].residual_group
        group._forward_hooks.clear()
        group.register_forward_hook(lambda m, i, y, seen=seen: seen.append(y))
    with torch.no_grad():
        pixel = (student(batch()['lq']) - teacher(batch()['lq'])).abs().mean()
    assert abs(terms['l_pix'] - float(pixel)) < 1e-6
    assert abs(terms['l_feature'] - 5 * float(feature_distance(features[0][0], features[1][0]))) < 1e-6


def test_gradients_are_clipped_by_value(opt):
    opt['train']['grad_clip_value'] = 1e-9
    model = build_model(opt)
    step(model)
    assert max(float(p.grad.abs().max()) for p in model._trained()) <= 1e-9


def test_log_has_shares_and_counts(opt):
    model = build_model(opt)
    step(model)
    log = model.get_current_log()
    assert {'l_pix', 'l_feature', 'feature_share', 'levels_max', 'levels_over'} <= set(log)
    assert 0 < log['feature_share'] < 1 and log['levels_over'] == 0 and log['levels_max'] <= 16
    assert model.distillation.taps[0].take() == []  # counting must leave no features behind


@pytest.mark.parametrize('trainable', ['quantizers', 'all'])
def test_average_is_used_as_it_is_now(opt, trainable):
    """Its weights change in place: a cached transform of old weights must not be used."""
    opt['train'].update(ema_decay=0.5, trainable=trainable)
    model = build_model(opt)
    model.feed_data(batch())
    for iteration in (1, 2):
        step(model, iteration)
        model.test()
        fresh = copy.deepcopy(model.net_g_ema)
        with torch.no_grad():
            assert torch.equal(model.output, fresh(batch()['lq']))


def test_average_is_exponential(opt):
    """1e-6: float32."""
    opt['train']['ema_decay'] = 0.75
    model = build_model(opt)
    name, tracked = next((n, p) for n, p in model.net_g.named_parameters() if n.endswith('.upper'))
    expected = tracked.item()
    for iteration in (1, 2, 3):
        step(model, iteration)
        expected = 0.75 * expected + 0.25 * tracked.item()
    average = model.net_g_ema.get_parameter(name).item()
    assert abs(average - expected) < 1e-6 * abs(expected) and average != tracked.item()


@pytest.mark.parametrize('size', [(16, 16), (13, 21), (5, 3)])
@pytest.mark.parametrize('pad', ['symmetric', 'reflect'])
def test_images_of_any_size(opt, size, pad):
    opt['val']['pad'] = pad
    model = build_model(opt)
    model.feed_data({'lq': torch.rand(1, 3, *size)})
    model.test()
    assert model.output.shape == (1, 3, 2 * size[0], 2 * size[1])
    assert model.net_g.training


def test_calibrated_checkpoint_is_not_calibrated_again(opt, tmp_path):
    first = build_model(opt)
    for iteration in (1, 2):
        step(first, iteration)
    first.save_network(first.net_g, 'net_g', 7)
    opt['path']['pretrain_network_g'] = str(tmp_path / 'net_g_7.pth')
    second = build_model(opt)
    assert all(torch.equal(v, second.net_g.state_dict()[k]) for k, v in first.net_g.state_dict().items())


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        (lambda o: o['train'].update(prune_schedule={}), '`train.prune_schedule`: there is nothing to schedule'),
        (lambda o: o.update(num_gpu=2), 'torchrun --nproc_per_node=2'),
        (lambda o: o.pop('network_t'), 'learns from a teacher'),
        (lambda o: o['path'].pop('pretrain_network_t'), 'give `network_t` and `path.pretrain_network_t`'),
        (lambda o: o.update(network_g={**o['network_t']}), '`network_g` has no quantizers'),
        (lambda o: o['network_t'].update(depths=[1]), r'teacher\.pth: The checkpoint does not fit SwinIR: .*blocks\.1'),
        (lambda o: o['network_t'].update(upscale=4), r'teacher\.pth: The checkpoint is of another scale: x2'),
        (lambda o: o['network_g'].update(depths=[1]), '`network_g` cannot start from the weights of `network_t`'),
        (lambda o: [o['train'].pop('pixel_opt'), o['train'].pop('feature_opt')], 'Nothing to learn from'),
        (lambda o: o['train']['feature_opt'].update(modules='layer.*'), 'No module of CompSRTSwinIR matches'),
    ],
)
def test_wrong_options(opt, change, text):
    change(opt)
    with pytest.raises(CompSRTError, match=text) as error:
        build_model(opt)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('network', ['network_g', 'network_t'])
@pytest.mark.parametrize(
    ('extra', 'name'), [('layers.0.residual_group.overlap_attn.qkv.weight', 'HAT'), (None, 'EDSR')]
)
def test_weights_of_another_architecture(opt, tmp_path, network, extra, name):
    """Advice on the arguments of SwinIR would lead nowhere."""
    state = torch.load(opt['path']['pretrain_network_t'], weights_only=True)['params']
    state = {**state, extra: torch.ones(1)} if extra else {'body.0.conv1.weight': torch.ones(1)}
    torch.save({'params': state}, tmp_path / 'other.pth')
    opt['path'][f'pretrain_{network}'] = str(tmp_path / 'other.pth')
    with pytest.raises(CompSRTError, match=f'other.pth.*look like {name}') as error:
        build_model(opt)
    assert 'embed_dim' not in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('arch', ['CompSRTSwinIR', 'CompSRTNet'])
def test_any_size_is_tested(opt, arch):
    """BasicSR's SwinIR does not tell its window; `CompSRTNet` is that network itself."""
    network = opt['network_g']
    if arch == 'CompSRTNet':
        base = {key: value for key, value in network.items() if key != 'quant'}
        opt['network_g'] = {'type': arch, 'base': {**base, 'type': 'SwinIR'}, 'quant': network['quant']}
    model = build_model(opt)
    model.feed_data({'lq': torch.rand(1, 3, 17, 30)})
    model.test()
    assert model.output.shape == (1, 3, 34, 60)


def test_former_names_of_options(opt):
    opt['train'].update(trainable='all', weight_lr=1e-3, float_lr=1e-4)
    assert [group['lr'] for group in build_model(opt).optimizer_g.param_groups] == [1e-2, 1e-3, 1e-4]


def test_full_precision_checkpoint_for_the_student(opt, tmp_path):
    """`pretrain_network_g` may be a full-precision file of another img_size; it is calibrated then."""
    other = build_network({**opt['network_t'], 'img_size': 32})
    torch.save({'params': other.state_dict()}, tmp_path / 'fp.pth')
    opt['path']['pretrain_network_g'] = str(tmp_path / 'fp.pth')
    model = build_model(opt)
    assert torch.equal(model.net_g.conv_first.weight, other.conv_first.weight)
    assert all(q.is_calibrated for q in quantizers(model.net_g).values())


def test_autocast_trains_in_bfloat16(opt):
    opt['train']['amp'] = 'bf16'
    model = build_model(opt)
    dtypes = set()
    block = model.net_g.layers[0].residual_group.blocks[0]
    block.mlp.fc1.register_forward_hook(lambda m, i, y: dtypes.add(y.dtype))
    block.mlp.fc1.act_quantizer.register_forward_hook(lambda m, i, y: dtypes.add(('quantizer', y.dtype)))
    terms = step(model)
    assert dtypes == {torch.bfloat16, ('quantizer', torch.float32)}
    assert all(torch.isfinite(torch.tensor(v)) for v in terms.values())
    assert {p.dtype for p in model.net_g.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ('quant', 'val', 'expected'),
    [
        ({}, {}, 'on integer codes and in float32'),
        ({'execution': 'fake'}, {}, 'by fake quantization in float32'),
        ({}, {'count_codes': 'all'}, 'by fake quantization in float32'),
        ({'code_range': 'paper'}, {}, 'by fake quantization in float32'),
    ],
)
def test_tests_compute_in_the_fastest_way(opt, kernel_home, quant, val, expected):
    """Unless the options say which. A training validates by fake quantization."""
    assert 'forward' not in vars(next(iter(quantized_layers(build_model(copy.deepcopy(opt)).net_g).values())))
    del opt['train']
    opt.update(is_train=False, val=val)
    opt['network_g']['quant'] = {**(opt['network_g'].get('quant') or {}), **quant}
    opt['path']['pretrain_network_g'] = None
    assert build_model(opt).choose_way() == expected
