"""The strict check: a good run passes, each fault is told with its path, and all at once."""

import copy

import pytest

from compsrt_basicsr.config import option_schema
from compsrt_basicsr.config.option_check import check_options, find_faults
from compsrt_basicsr.config.option_rules import KINDS
from compsrt_basicsr.errors import CompSRTError


def put(opt, path, value):
    """Sets `a.b.c`; the value DELETE removes it."""
    *sections, last = path.split('.')
    for key in sections:
        opt = opt.setdefault(key, {})
    if value == DELETE:
        del opt[last]
    else:
        opt[last] = value


DELETE = '<delete>'
COSINE = {'type': 'CosineAnnealingRestartLR', 'periods': [2]}
FAULTS = [
    ('nmae', 1, '`nmae` is not an option. Did you mean `name`?'),
    ('name', DELETE, '`name` is missing.'),
    ('name', 5, '`name` must be text that can name a folder'),
    ('name', 'a/b', '`name` must be text that can name a folder'),
    ('model_type', 'SwinIRModle', 'Did you mean `SwinIRModel`?'),
    ('scale', 0, '`scale` must be a whole number, 1 or more, got 0.'),
    ('scale', 4, '`network_g.upscale` is 2 but `scale` is 4'),
    ('num_gpu', -1, '`num_gpu` must be'),
    ('datasets', {}, '`datasets.train` is missing.'),
    ('datasets', [], '`datasets` must be a section'),
    ('datasets.test', {}, '`datasets.test`: when training'),
    ('datasets.train', DELETE, '`datasets.train` is missing.'),
    ('datasets.train.gtsize', 1, 'Did you mean `gt_size`?'),
    ('datasets.train.gt_size', 33, '`datasets.train.gt_size` is 33, which `scale` 2 does not divide'),
    ('datasets.train.type', 'PairedImageDataSet', 'Did you mean `PairedImageDataset`?'),
    ('datasets.train.batch_size_per_gpu', DELETE, '`datasets.train.batch_size_per_gpu` is missing.'),
    ('datasets.train.batch_size_per_gpu', 2.0, 'must be a whole number, 1 or more, got 2.0.'),
    ('datasets.train.num_worker_per_gpu', True, 'must be a whole number, 0 or more, got True.'),
    ('datasets.train.dataroot_gt', 'no/such.lmdb', '`compsrt data prepare`'),
    ('datasets.train.io_backend.type', 'lmbd', '`datasets.train.io_backend.type` must be'),
    ('datasets.train.io_backend.type', 'disk', 'is an LMDB'),
    ('datasets.train.prefetch_mode', 'cuda', 'needs `pin_memory: true`'),
    ('datasets.train.persistent_workers', True, 'needs `num_worker_per_gpu` above 0'),
    ('datasets.val.persistent_workers', True, 'works for `datasets.train` only'),
    ('network_g.type', 'SwinIRR', 'Did you mean `SwinIR`?'),
    ('network_g.embed_dims', 8, '`network_g.embed_dims` is not an argument of SwinIR. Did you mean `embed_dim`?'),
    ('network_g', 5, '`network_g` must be a section'),
    ('path.pretrained_network_g', 'x', 'Did you mean `pretrain_network_g`?'),
    ('path.pretrain_network_g', 'no/such.pth', '`path.pretrain_network_g`: `no/such.pth` does not exist'),
    ('path', 5, '`path` must be a section'),
    ('train', DELETE, '`train` is missing.'),
    ('train.optim_g.lr', 'fast', '`train.optim_g.lr` must be a number above 0'),
    ('train.optim_g.lr', DELETE, '`train.optim_g.lr` is missing.'),
    ('train.optim_g.type', 'Adamm', 'Did you mean `Adam`?'),
    ('train.optim_g.momentum', 0.9, '`train.optim_g.momentum` is not an argument of Adam'),
    ('train.scheduler.type', 'MultiStep', '`train.scheduler.type`'),
    ('train.scheduler.milestones', 4, '`train.scheduler.milestones` must be a list'),
    ('train.scheduler.periods', [1], '`train.scheduler.periods` is not an argument'),
    ('train.scheduler', COSINE, '`train.scheduler.periods` end at iteration 2, before `train.total_iter` (4)'),
    ('train.scheduler.restarts', [0, 2], 'must have the same length'),
    ('train.total_iter', 'many', '`train.total_iter` must be a whole number'),
    ('train.total_iter', 2.5, '`train.total_iter` must be a whole number'),
    ('train.ema_decay', 1.5, '`train.ema_decay` must be'),
    ('train.pixel_opt.type', 'L1', 'is not a registered loss'),
    ('train.pixel_opt.weight', 1, '`train.pixel_opt.weight` is not an argument of L1Loss'),
    ('val.val_frq', 1, 'Did you mean `val_freq`?'),
    ('val.val_freq', DELETE, '`val.val_freq` is missing.'),
    ('val.metrics.psnr.type', 'psnr', 'is not a registered metric'),
    ('val.metrics.psnr.border', 2, '`val.metrics.psnr.border` is not an argument of calculate_psnr'),
    ('val.metrics.psnr.crop_border', DELETE, '`val.metrics.psnr.crop_border` is missing'),
    ('val.metrics.psnr.better', 'more', '`val.metrics.psnr.better` must be'),
    ('logger.print_frequency', 1, 'Did you mean `print_freq`?'),
    ('logger.save_checkpoint_freq', DELETE, '`logger.save_checkpoint_freq` is missing.'),
    ('logger.wandb', {'project': 'x'}, 'needs `logger.use_tb_logger: true`'),
]


@pytest.fixture
def good(stock_options):
    return stock_options


def test_a_good_run_passes_as_read_and_as_parsed(good):
    check_options(good, True)
    good.update(dist=False, rank=0, world_size=1, auto_resume=True, is_train=True, root_path='.')
    good['path'].update(experiments_root='x', models='x', training_states='x', log='x', visualization='x')
    good['datasets']['train'].update(phase='train', scale=2)
    check_options(good, True)


def test_a_good_test_passes(good):
    tested = {key: good[key] for key in ('name', 'model_type', 'scale', 'num_gpu', 'network_g', 'path', 'val')}
    del tested['val']['val_freq']
    tested['datasets'] = {'test_1': good['datasets']['val']}
    check_options(tested, False)
    assert '`datasets` is empty' in ' '.join(find_faults({**tested, 'datasets': {}}, False))
    tested['datasets']['train'] = good['datasets']['train']
    with pytest.raises(CompSRTError, match='when testing a data set must be called'):
        check_options(tested, False)


@pytest.mark.parametrize(('path', 'value', 'message'), FAULTS)
def test_each_fault_is_told(good, path, value, message):
    put(good, path, copy.deepcopy(value))
    assert any(message in fault for fault in find_faults(good, True)), list(find_faults(good, True))


def test_all_faults_are_told_together(good):
    put(good, 'nmae', 1)
    put(good, 'train.optim_g.lr', -1)
    put(good, 'logger.print_freq', 0)
    with pytest.raises(CompSRTError) as caught:
        check_options(good, True, source='some/run.yml')
    text = str(caught.value)
    assert text.startswith('The options in run.yml have 3 faults:')
    assert all(word in text for word in ('`nmae`', '`train.optim_g.lr`', '`logger.print_freq`'))


def test_iterations_may_be_written_as_floats(good):
    put(good, 'train.total_iter', 5e5)
    check_options(good, True)


def test_zoo_names_need_no_file_but_must_be_known(good):
    put(good, 'path.pretrain_network_g', 'zoo://swinir_light_x2')
    check_options(good, True)
    put(good, 'path.pretrain_network_g', 'zoo://swinir_light_x22')
    with pytest.raises(CompSRTError, match=r'`path\.pretrain_network_g`: The zoo has no model .* `swinir_light_x2`\?'):
        check_options(good, True)


@pytest.mark.parametrize('junk', [None, 5, 'x', [1], {}, {'a': None}])
@pytest.mark.parametrize(
    'path', ['datasets', 'datasets.train', 'network_g', 'path', 'train', 'train.optim_g', 'train.scheduler', 'val',
             'train.prune_schedule', 'val.metrics', 'logger', 'logger.wandb', 'calibration', 'scale',
             'datasets.train.io_backend']
)  # fmt: skip
def test_junk_never_crashes_the_check(good, path, junk):
    """Whatever stands where a section should be, the check reports and does not fail itself."""
    put(good, path, junk)
    assert all(isinstance(fault, str) for fault in find_faults(good, True))


def test_sections_of_the_quantizer_are_collected(good, monkeypatch):
    """The messages of QuantConfig and CalibrationConfig are listed with the other faults."""
    from basicsr.utils.registry import ARCH_REGISTRY

    def CompSRTStandIn(upscale, quant=None):
        pass

    monkeypatch.setitem(ARCH_REGISTRY._obj_map, 'CompSRTStandIn', CompSRTStandIn)
    good['network_g'] = {'type': 'CompSRTStandIn', 'upscale': 2, 'quant': {'weight_bit': 4}}
    good['calibration'] = {'methd': 'dobi'}
    faults = list(find_faults(good, True))
    assert len(faults) == 2
    assert faults[0].startswith('`network_g.quant`: ') and 'weight_bits' in faults[0]
    assert faults[1].startswith('`calibration`: ') and 'method' in faults[1]


@pytest.mark.parametrize(
    ('schedule', 'quant', 'message'),
    [
        ({'begn': 0}, {'prune_ratio': 0.4}, '`begn` is not an option of `train.prune_schedule`. Did you mean `begin`?'),
        ({'end': 0}, {'prune_ratio': 0.4}, '`end` must be a whole number from 1'),
        ({'end': 5}, {'prune_ratio': 0.4}, '`end` 5 is beyond `train.total_iter` 4'),
        ({'end': 4}, {}, 'give `network_g.quant.prune_ratio`'),
        ({'end': 4}, {'prune_pattern': '2:4'}, 'the pattern 2:4 prunes all at once'),
    ],
)
def test_faults_of_the_prune_schedule(good, schedule, quant, message):
    good['network_g'].update(type='CompSRTSwinIR', quant=quant)
    put(good, 'train.prune_schedule', {'begin': 0, 'end': 4, 'frequency': 2})
    if quant == {'prune_ratio': 0.4}:
        check_options(good, True)
    put(good, 'train.prune_schedule', schedule)
    (fault,) = find_faults(good, True)
    assert fault.startswith('`train.prune_schedule`: ') and message in fault


def test_every_kind_of_the_schema_is_known():
    schemas = [value for name, value in vars(option_schema).items() if name.isupper() and isinstance(value, dict)]
    kinds = {kind for schema in schemas if schema is not option_schema.SCHEDULERS for kind in schema.values()}
    assert kinds <= set(KINDS) and len(schemas) > 5
