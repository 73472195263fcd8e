"""Real runs of the commands on a tiny network: training, testing, resuming, two processes, and their errors."""

import json
import os
import re
import signal
import time

import pytest
import torch
from compsrt_runs import TINY, distillation_options, make_teacher, options_for_testing

pytestmark = pytest.mark.integration


@pytest.fixture
def options(tiny_lmdb, tmp_path):
    return distillation_options(tiny_lmdb, make_teacher(tmp_path / 'teacher.pth'))


@pytest.fixture
def start(command_server, tmp_path, write_options):
    """Returns a function that runs `basicsr VERB` on options in a folder, and gives the finished process.

    With `kill_at`, a file, the process is killed without a chance to clean up once the file appears.
    """

    def run(verb, options, folder='run', *flags, kill_at=None):
        root = tmp_path / folder
        root.mkdir(exist_ok=True)

        def kill(pid):
            deadline = time.monotonic() + 120
            while not kill_at.exists() and time.monotonic() < deadline:
                time.sleep(0.002)
            os.kill(pid, signal.SIGKILL)

        words = [verb, '-opt', str(write_options(root / f'{verb}.yml', options)), *flags]
        return command_server.run('compsrt_basicsr', words, root, during=kill if kill_at else None)

    return run


def load(path):
    return torch.load(path, weights_only=True)


def same(first, second):
    """Equality to the last bit of anything that a checkpoint holds."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def failed(result):
    """The one sentence of a command that ended with exit status 1."""
    assert result.returncode == 1, result.stderr[-2000:]
    assert 'Traceback' not in result.stderr
    assert result.stderr.count('Error: ') == 1, result.stderr[-2000:]
    return result.stderr[result.stderr.index('Error: ') :]


def test_train_then_test(run_command, write_options, options, tmp_path):
    """The commands themselves: metrics.json tells PSNR and levels; a strict network uses at most 2^b."""
    basicsr = ['python', '-m', 'compsrt_basicsr']
    file = write_options(tmp_path / 'train.yml', options)
    trained = run_command([*basicsr, 'train', '-opt', file], tmp_path, new=True)
    assert trained.returncode == 0, trained.stderr[-2000:]
    assert 'l_feature' in trained.stderr + trained.stdout
    root = tmp_path / 'experiments/tiny'
    metrics = json.loads((root / 'metrics.json').read_text())
    assert {'2', '4'} <= set(metrics['TinyVal'])

    testing = options_for_testing(options, root / 'models/net_g_latest.pth')
    testing['network_g']['quant'] = {**(testing['network_g'].get('quant') or {}), 'execution': 'fake'}  # as validated
    tested = run_command([*basicsr, 'test', '-opt', write_options(tmp_path / 'test.yml', testing)], tmp_path)
    assert tested.returncode == 0, tested.stderr[-2000:]
    results = json.loads((tmp_path / 'results/tiny/metrics.json').read_text())
    (numbers,) = results['TinyVal'].values()
    assert 0 < numbers['levels_max'] <= 16 and numbers['levels_over'] == 0
    assert 'Codes used on the first image' in tested.stderr + tested.stdout
    assert numbers['psnr'] == metrics['TinyVal']['4']['psnr']  # the same images and network


def test_two_bits_with_weights_trained(start, options, tmp_path):
    options['network_g']['quant'] = {'weight_bits': 2, 'act_bits': 2}
    options['train']['trainable'] = 'all'
    options['val']['pad'] = 'reflect'
    trained = start('train', options)
    assert trained.returncode == 0, trained.stderr[-2000:]
    weights = tmp_path / 'run/experiments/tiny/models/net_g_latest.pth'
    tested = start('test', options_for_testing(options, weights))
    assert tested.returncode == 0, tested.stderr[-2000:]
    (numbers,) = json.loads((tmp_path / 'run/results/tiny/metrics.json').read_text())['TinyVal'].values()
    assert 0 < numbers['levels_max'] <= 4 and numbers['levels_over'] == 0
    trained_weight, before = (load(p)['params']['conv_first.weight'] for p in (weights, tmp_path / 'teacher.pth'))
    assert not torch.equal(trained_weight, before)


def test_pruned_run_reports_its_sparsity(start, options, tmp_path):
    """Trained and tested: the requested share of each tensor in metrics.json, next to the bits per weight."""
    options['network_g']['quant']['prune_ratio'] = 0.4
    assert start('train', options).returncode == 0
    root = tmp_path / 'run/experiments/tiny'
    result = start('test', options_for_testing(options, root / 'models/net_g_latest.pth'))
    assert result.returncode == 0, result.stderr[-2000:]
    (numbers,) = json.loads((tmp_path / 'run/results/tiny/metrics.json').read_text())['TinyVal'].values()
    sizes = [144] * 4 * 2 + [288] * 2 * 2  # q, k, v, proj; fc1, fc2; two blocks
    assert numbers['sparsity'] == sum(round(0.4 * size) for size in sizes) / sum(sizes)
    assert numbers['bits_paper'] == pytest.approx(3.4) and 0 < numbers['bits_entropy'] < 4
    assert json.loads((root / 'metrics.json').read_text())['TinyVal']['4']['sparsity'] == numbers['sparsity']
    assert f'asked {0.4:.2%}' in result.stderr + result.stdout


def test_paper_range_reports_its_codes(start, options, tmp_path):
    """A recipe like the published one; the number of codes is reported, however large."""
    options['network_g']['quant'].update(code_range='paper', transform='padded')
    options['train']['pixel_opt'] = {'type': 'PublishedPixelLoss', 'loss_weight': 1.0}
    options['train']['feature_opt'] = {'type': 'PublishedFeatureLoss', 'loss_weight': 5.0}
    result = start('train', options)
    assert result.returncode == 0, result.stderr[-2000:]
    assert 'levels_over' in result.stderr + result.stdout
    assert (tmp_path / 'run/experiments/tiny/models/net_g_latest.pth').exists()


def plain(options):
    """Validation and saving at the same iterations, as in the shipped files."""
    options['logger']['save_checkpoint_freq'] = options['val']['val_freq'] = 4


def averaged_and_random(options):
    """Averaged weights, random depth, all weights trained, and a validation between checkpoints."""
    options['network_g']['drop_path_rate'] = 0.3
    options['train'].update(ema_decay=0.9, trainable='all')
    options['logger']['save_checkpoint_freq'] = 4
    options['val']['val_freq'] = 3


def pruned_on_a_schedule(options):
    """Masks that change after the resumption, of weights that train, and an average that shares them."""
    options['network_g']['quant']['prune_ratio'] = 0.4
    options['train'].update(ema_decay=0.9, trainable='all', prune_schedule={'begin': 1, 'end': 9, 'frequency': 2})
    plain(options)


def pretraining(options):
    """Full precision on the ground truth, with an average and random depth, and a validation between checkpoints."""
    averaged_and_random(options)
    options['model_type'] = 'CompSRTPretrainModel'
    options['network_g'] = {**options.pop('network_t'), 'drop_path_rate': 0.3}
    options['path'] = {'resume_state': None}
    for name in ('trainable', 'feature_opt', 'grad_clip_value'):
        del options['train'][name]
    del options['calibration']


@pytest.mark.parametrize('variant', [plain, averaged_and_random, pruned_on_a_schedule, pretraining])
def test_killed_and_resumed_run_equals_an_unbroken_one(start, options, tmp_path, variant):
    """Weights, optimizer, random states and best metrics of the end, to the last bit."""
    variant(options)
    options['train']['total_iter'] = 16
    options['train']['scheduler']['milestones'] = [6, 10]
    unbroken = start('train', options, 'unbroken')
    assert unbroken.returncode == 0, unbroken.stderr[-2000:]

    root = tmp_path / 'broken/experiments/tiny'
    killed = start('train', options, 'broken', kill_at=root / 'training_states/4.state')
    assert killed.returncode == -signal.SIGKILL, 'the run was over before it was killed'
    resumed = start('train', options, 'broken', '--auto_resume')
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert 'Resuming training from epoch: ' in resumed.stderr + resumed.stdout

    whole = tmp_path / 'unbroken/experiments/tiny'
    for name in ('models/net_g_latest.pth', 'models/net_g_16.pth', 'training_states/16.state'):
        assert same(load(whole / name), load(root / name)), name
    best = load(root / 'training_states/16.state')['compsrt']['best_metric_results']
    assert best['TinyVal']['psnr']['iter'] > 0
    assert json.loads((whole / 'metrics.json').read_text()) == json.loads((root / 'metrics.json').read_text())


def test_an_extended_run_goes_on(start, options, tmp_path):
    """With a longer schedule, another rate and a new metric; its last validation is that of its last iteration."""
    options['train']['scheduler'] = {'type': 'CosineAnnealingRestartLR', 'periods': [4]}
    assert start('train', options).returncode == 0
    options['train'].update(total_iter=8, scheduler={'type': 'CosineAnnealingRestartLR', 'periods': [8]})
    options['train']['optim_g']['lr'] = 5e-3
    options['val']['metrics']['ssim'] = {'type': 'calculate_ssim', 'crop_border': 2}
    result = start('train', options, 'run', '--auto_resume')
    assert result.returncode == 0, result.stderr[-2000:]
    assert '`train.optim_g.lr`: 0.01 -> 0.005' in result.stderr + result.stdout
    root = tmp_path / 'run/experiments/tiny'
    metrics = json.loads((root / 'metrics.json').read_text())['TinyVal']
    assert list(metrics) == ['2', '4', '6', '8'] and 'ssim' in metrics['8'] and 'ssim' not in metrics['4']
    assert load(root / 'training_states/8.state')['compsrt']['options']['train']['total_iter'] == 8
    options['train']['trainable'] = 'all'
    sentence = failed(start('train', options, 'run', '--auto_resume'))
    assert '`train.trainable` is `all`' in sentence and '`quantizers`' in sentence


OWN_RUN = """
import sys
import torch
import compsrt_basicsr
from compsrt_basicsr.models.compsrt_model import CompSRTModel
from compsrt_basicsr.cli.basicsr import main

save_network = CompSRTModel.save_network


def save(self, net, label, iteration, param_key='params'):
    if iteration == -1:
        state = self.get_bare_model(self.net_g).state_dict()
        torch.save(state, f'rank{self.opt["rank"]}.pth')
    save_network(self, net, label, iteration, param_key)


CompSRTModel.save_network = save
if __name__ == '__main__':
    sys.exit(main())
"""


def test_two_processes_end_with_the_same_network(run_command, write_options, options, tmp_path):
    """Masks included, which change on the way."""
    options['network_g']['quant']['prune_ratio'] = 0.4
    options['train']['prune_schedule'] = {'begin': 0, 'end': 3, 'frequency': 1}
    (tmp_path / 'own.py').write_text(OWN_RUN)
    options['datasets']['train'].update(batch_size_per_gpu=1, num_worker_per_gpu=1)  # a spawned process
    options['train']['ema_decay'] = 0.5
    file = write_options(tmp_path / 'train.yml', options)
    launch = ['python', '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', 'own.py']
    result = run_command([*launch, 'train', '-opt', file, '--launcher', 'pytorch'], tmp_path, CUDA_VISIBLE_DEVICES='')
    assert result.returncode == 0, result.stderr[-3000:]
    first, second = (load(tmp_path / f'rank{rank}.pth') for rank in (0, 1))
    assert same(first, second)
    root = tmp_path / 'experiments/tiny'
    assert sorted(p.name for p in (root / 'training_states').iterdir()) == ['2.state', '4.state']
    saved = load(root / 'models/net_g_latest.pth')
    assert set(saved) == {'params', 'params_ema'} and same(saved['params'], first)
    calibrated = load(root / 'models/net_g_2.pth')['params']
    assert not same(calibrated, first)  # it did train
    assert len(load(root / 'training_states/4.state')['compsrt']['generators']) == 2
    log = (result.stderr + result.stdout).splitlines()
    assert sum('Save the latest model' in line for line in log) == 1


@pytest.mark.parametrize('code_range', ['strict', 'paper'])
def test_diverging_training_stops_and_names_a_quantizer(start, options, tmp_path, code_range):
    """The learning rate becomes absurd after the first checkpoint, which stays loadable."""
    options['network_g']['quant']['code_range'] = code_range
    options['train']['scheduler'] = {'type': 'MultiStepLR', 'milestones': [3], 'gamma': 1e42}
    options['train']['total_iter'] = 12
    options['logger']['save_checkpoint_freq'] = 2
    sentence = failed(start('train', options))
    assert 'quantizer' in sentence and 'layers.0.residual_group.blocks.' in sentence
    assert 'learning rate' in sentence or '.lr' in sentence
    root = tmp_path / 'run/experiments/tiny'
    saved = load(root / 'models/net_g_2.pth')['params']
    assert all(torch.isfinite(v).all() for v in saved.values() if v.is_floating_point())
    assert not (root / 'models/net_g_latest.pth').exists()


def test_broken_teacher_names_a_quantizer(start, options, tmp_path):
    state = load(tmp_path / 'teacher.pth')
    state['params']['layers.0.residual_group.blocks.1.mlp.fc1.weight'][0, 0] = float('nan')
    torch.save(state, tmp_path / 'teacher.pth')
    sentence = failed(start('train', options))
    assert 'layers.0.residual_group.blocks.1.mlp.fc1.weight_quantizer' in sentence and 'NaN' in sentence


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


ERRORS = {
    'top level': (lambda o: o.update(calibraton={}), ['`calibraton`', 'Did you mean `calibration`?']),
    'bits': (
        lambda o: o['network_g']['quant'].update(weight_bits=9),
        ['`network_g.quant.weight_bits`', '2 to 8', 'got 9'],
    ),
    'scale': (lambda o: o.update(scale=3), ['`network_g.upscale` is 2 but `scale` is 3']),
}


@pytest.mark.parametrize('case', ERRORS)
def test_wrong_options_by_command(start, options, case):
    change, texts = ERRORS[case]
    change(options)
    sentence = failed(start('train', options))
    assert all(text in sentence for text in texts), sentence


def test_all_typos_are_reported_at_once(start, options):
    """At several depths, each with the nearest name."""
    options['network_g']['quant']['act_bit'] = 4
    options['network_g']['embed_dims'] = 12
    options['train']['feature_opt']['los_weight'] = 1.0
    options['calibration']['num_patch'] = 4
    options['datasets']['train']['gt_sise'] = 32
    options['val']['pading'] = 'symmetric'
    result = start('train', options)
    assert result.returncode == 1 and 'Traceback' not in result.stderr
    for near in ('act_bits', 'embed_dim', 'loss_weight', 'num_patches', 'gt_size', 'pad'):
        assert f'Did you mean `{near}`?' in result.stderr, near
    assert re.search(r' have [67] ', result.stderr)  # `gt_size` is missing too


def test_teacher_of_another_scale(start, options, tmp_path):
    make_teacher(tmp_path / 'teacher.pth', upscale=4)
    assert 'another scale: x4, the network is x2' in failed(start('train', options))


def test_truncated_teacher(start, options, tmp_path):
    truncate(tmp_path / 'teacher.pth')
    sentence = failed(start('train', options))
    assert 'teacher.pth` is truncated' in sentence


def test_truncated_lmdb(start, options, tmp_path, tiny_lmdb):
    import shutil

    copied = tmp_path / 'lr.lmdb'
    shutil.copytree(tiny_lmdb.lr, copied)
    truncate(copied / 'data.mdb')
    options['datasets']['train']['dataroot_lq'] = str(copied)
    assert 'lr.lmdb' in failed(start('train', options))


def test_testing_weights_of_other_bits(start, options, tmp_path):
    from compsrt_basicsr.archs.compsrt_swinir_arch import CompSRTSwinIR

    network = CompSRTSwinIR(**TINY, quant={'weight_bits': 3, 'act_bits': 4})
    torch.save({'params': network.state_dict()}, tmp_path / 'net.pth')
    sentence = failed(start('test', options_for_testing(options, tmp_path / 'net.pth')))
    assert 'weight_bits 3 in the checkpoint, 4 in the options' in sentence


def test_testing_full_precision_weights_asks_for_calibration(start, options, tmp_path):
    sentence = failed(start('test', options_for_testing(options, tmp_path / 'teacher.pth')))
    assert 'is not calibrated' in sentence


def test_half_precision_training(start, options, tmp_path):
    """bfloat16 autocast: finite losses, float32 checkpoints."""
    options['train']['amp'] = 'bf16'
    result = start('train', options)
    assert result.returncode == 0, result.stderr[-2000:]
    saved = load(tmp_path / 'run/experiments/tiny/models/net_g_latest.pth')['params']
    assert all(v.dtype == torch.float32 and torch.isfinite(v).all() for v in saved.values() if v.is_floating_point())
