"""The check of a run: a good one passes; each error is reported with its place, and all are reported at once."""

import copy

import pytest
from compsrt_runs import distillation_options, make_teacher

from compsrt_basicsr.config.check import check_options, find_errors
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.hub.catalog import find


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
OURS = {'type': 'FeatureDistillationLoss'}
COSINE = {'type': 'CosineAnnealingRestartLR', 'periods': [2]}
ERRORS = [
    ('nmae', 1, '`nmae` is not an option. Did you mean `name`?'),
    ('name', DELETE, '`name` is missing.'),
    ('name', None, '`name` is missing.'),
    ('name', 5, '`name` must be text that can name a folder'),
    ('name', 'a/b', '`name` must be text that can name a folder'),
    ('model_type', 'SwinIRModle', 'Did you mean `SwinIRModel`?'),
    ('scale', 0, '`scale` must be a whole number, 1 or more, got 0.'),
    ('scale', 4, '`network_g.upscale` is 2 but `scale` is 4'),
    ('num_gpu', -1, '`num_gpu` must be auto or a whole number, 0 or more'),
    ('method', 'lqs', 'Did you mean `lsq`?'),
    ('method', 3, '`method` must be a'),
    ('manual_seed', -1, '`manual_seed` must be'),
    ('datasets', {}, '`datasets.train` is missing.'),
    ('datasets', [], '`datasets` must be a section'),
    ('datasets.train', 5, '`datasets.train` must be a section'),
    ('datasets.test', {}, '`datasets.test`: when training'),
    ('datasets.train', DELETE, '`datasets.train` is missing.'),
    ('datasets.train.gtsize', 1, 'Did you mean `gt_size`?'),
    ('datasets.train.gt_size', 33, '`datasets.train.gt_size` is 33, which `scale` 2 does not divide'),
    ('datasets.train.type', 'PairedImageDataSet', 'Did you mean `PairedImageDataset`?'),
    ('datasets.train.batch_size_per_gpu', DELETE, '`datasets.train.batch_size_per_gpu` is missing.'),
    ('datasets.train.batch_size_per_gpu', 2.0, 'must be a whole number, 1 or more, or ~, got 2.0.'),
    ('datasets.train.num_worker_per_gpu', True, 'must be a whole number, 0 or more, or ~, got True.'),
    ('datasets.train.dataroot_gt', 'no/such.lmdb', '`compsrt data prepare`'),
    ('datasets.train.io_backend.type', 'lmbd', 'Did you mean `lmdb`?'),
    ('datasets.train.io_backend.typ', 'lmdb', '`datasets.train.io_backend.typ` is not an option'),
    ('datasets.train.io_backend.type', 'disk', 'is an LMDB'),
    ('datasets.train.prefetch_mode', 'cuda', 'needs `pin_memory: true`'),
    ('datasets.train.persistent_workers', True, '`datasets.train`: `persistent_workers` needs'),
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
    ('train.scheduler.type', 'MultiStep', 'Did you mean `MultiStepLR`?'),
    ('train.scheduler.type', DELETE, '`train.scheduler.type` is missing.'),
    ('train.scheduler.milestones', DELETE, '`train.scheduler.milestones` is missing.'),
    ('train.scheduler.milestones', [4, 'x'], '`train.scheduler.milestones[1]` must be a whole number, got `x`.'),
    ('train.scheduler.milestones', 4, '`train.scheduler.milestones` must be a list'),
    ('train.scheduler.periods', [1], '`train.scheduler.periods` is not an option'),
    ('train.scheduler', COSINE, '`train.scheduler.periods` end at iteration 2, before `train.total_iter` (4)'),
    ('train.scheduler.restarts', [0, 2], 'must have the same length'),
    ('train.total_iter', 'many', '`train.total_iter` must be a whole number'),
    ('train.total_iter', 2.5, '`train.total_iter` must be a whole number'),
    ('train.ema_decay', 1.5, '`train.ema_decay` must be a number from 0 to below 1'),
    ('train.trainable', 'weights', '`train.trainable` must be one of none, quantizers, all, got `weights`.'),
    ('train.amp', 'bf61', '`train.amp` must be one of bf16, false, or ~, got `bf61`. Did you mean `bf16`?'),
    ('train.weight_lr', 0, '`train.weight_lr` must be a number above 0'),
    ('train.prune_schedule', {'begn': 0}, '`train.prune_schedule.begn` is not an option. Did you mean `begin`?'),
    ('train.pixel_opt.type', 'L1', 'is not a registered loss'),
    ('train.pixel_opt.weight', 1, '`train.pixel_opt.weight` is not an argument of L1Loss'),
    ('train.feature_opt', OURS | {'normalize': 'tokn'}, '`train.feature_opt.normalize` must be one of token, sample'),
    (
        'train.feature_opt',
        OURS | {'module': 'x'},
        '`train.feature_opt.module` is not an option. Did you mean `modules`?',
    ),
    ('val.val_frq', 1, 'Did you mean `val_freq`?'),
    ('val.pad', 'mirror', '`val.pad` must be one of symmetric, reflect, got `mirror`.'),
    ('val.count_codes', 'none', '`val.count_codes` must be one of first, all, skip, got `none`.'),
    ('val.val_freq', DELETE, '`val.val_freq` is missing.'),
    ('val.metrics.psnr.type', 'psnr', 'is not a registered metric'),
    ('val.metrics.psnr.border', 2, '`val.metrics.psnr.border` is not an argument of calculate_psnr'),
    ('val.metrics.psnr.crop_border', DELETE, '`val.metrics.psnr.crop_border` is missing'),
    ('val.metrics.psnr.better', 'more', '`val.metrics.psnr.better` must be'),
    ('logger.print_frequency', 1, 'Did you mean `print_freq`?'),
    ('logger.save_checkpoint_freq', DELETE, '`logger.save_checkpoint_freq` is missing.'),
    ('logger.wandb', {'project': 'x'}, '`logger`: `wandb.project` needs `use_tb_logger: true`.'),
    ('calibration', {'methd': 'dobi'}, '`calibration.methd` is not an option. Did you mean `method`?'),
    ('calibration', {'file': 'no/such.pth'}, '`calibration.file`: `no/such.pth` does not exist'),
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
    assert '`datasets` is empty' in ' '.join(find_errors({**tested, 'datasets': {}}, False))
    tested['datasets']['train'] = good['datasets']['train']
    with pytest.raises(CompSRTError, match='when testing a data set must be called'):
        check_options(tested, False)


def test_a_slash_at_the_end_of_a_folder_changes_nothing(good):
    train = good['datasets']['train']
    train.update(dataroot_gt=train['dataroot_gt'] + '/', dataroot_lq=train['dataroot_lq'] + '//')
    check_options(good, True)
    train['io_backend'] = {'type': 'disk'}
    with pytest.raises(CompSRTError, match='is an LMDB'):
        check_options(good, True)


@pytest.mark.parametrize(('path', 'value', 'message'), ERRORS)
def test_each_error_is_reported(good, path, value, message):
    put(good, path, copy.deepcopy(value))
    assert any(message in error for error in find_errors(good, True)), list(find_errors(good, True))


def test_all_errors_are_reported_together(good):
    put(good, 'nmae', 1)
    put(good, 'train.optim_g.lr', -1)
    put(good, 'logger.print_freq', 0)
    with pytest.raises(CompSRTError) as caught:
        check_options(good, True, source='some/run.yml')
    text = str(caught.value)
    assert 'run.yml' in text
    assert [line.split('`')[1] for line in text.splitlines()[1:]] == ['train.optim_g.lr', 'logger.print_freq', 'nmae']


def test_iterations_may_be_written_as_floats(good):
    put(good, 'train.total_iter', 5e5)
    check_options(good, True)


def test_zoo_names_need_no_file_but_must_be_known(good):
    put(good, 'path.pretrain_network_g', 'zoo://swinir_light_x2')
    check_options(good, True, find_model=find)
    put(good, 'path.pretrain_network_g', 'zoo://swinir_light_x22')
    check_options(good, True)
    with pytest.raises(CompSRTError, match=r'`path\.pretrain_network_g`: .* `swinir_light_x2`\?'):
        check_options(good, True, find_model=find)


@pytest.mark.parametrize('junk', [None, 5, 'x', [1], {}, {'a': None}])
@pytest.mark.parametrize(
    'path', ['datasets', 'datasets.train', 'network_g', 'path', 'train', 'train.optim_g', 'train.scheduler', 'val',
             'train.prune_schedule', 'val.metrics', 'logger', 'logger.wandb', 'calibration', 'scale',
             'datasets.train.io_backend']
)  # fmt: skip
def test_junk_never_crashes_the_check(good, path, junk):
    """Whatever stands where a section should be, the check reports and does not fail itself."""
    put(good, path, junk)
    assert all(isinstance(error, str) for error in find_errors(good, True))


def test_a_network_of_another_package_that_takes_quant(good, monkeypatch):
    from basicsr.utils.registry import ARCH_REGISTRY

    def StandIn(upscale, quant=None):
        pass

    monkeypatch.setitem(ARCH_REGISTRY._obj_map, 'StandIn', StandIn)
    good['network_g'] = {'type': 'StandIn', 'upscale': 2, 'quant': {'weight_bit': 4}, 'x': 1}
    first, second = find_errors(good, True)
    assert first.startswith('`network_g.x` is not an argument of StandIn')
    assert second == '`network_g.quant.weight_bit` is not an option. Did you mean `weight_bits`?'


@pytest.mark.parametrize(
    ('network', 'place'),
    [
        ({'quant': {'weight_bits': 9, 'act_bits': 'x'}}, ['network_g.quant.weight_bits', 'network_g.quant.act_bits']),
        ({'quant': {'prune_pattern': '2:4', 'prune_scope': 'global'}}, ['network_g.quant']),
        ({'quant': 4}, ['network_g.quant']),
        ({'depths': [2, 2]}, ['network_g']),
        ({'depths': None, 'embed_dims': 8}, ['network_g.depths', 'network_g.embed_dims']),
    ],
)
def test_errors_of_a_quantized_network(good, network, place):
    good['network_g'].update({'type': 'CompSRTSwinIR', 'embed_dim': 12, **network})
    assert [error.split('`')[1] for error in find_errors(good, True)] == place


def test_the_base_of_a_network_is_checked_too(good):
    good['network_g'] = {'type': 'CompSRTNet', 'base': {**good['network_g'], 'embed_dims': 8}, 'quant': {'convs': 1}}
    assert [error.split('`')[1] for error in find_errors(good, True)] == [
        'network_g.quant.quantize_convs',
        'network_g.base.embed_dims',
    ]


def test_a_method_is_checked_with_the_options_that_it_gives(good):
    """`lsq` has symmetric grids, which the published formula has not."""
    good['network_g'].update(type='CompSRTSwinIR', embed_dim=12, quant={'code_range': 'paper'})
    assert list(find_errors(good, True)) == []
    (error,) = find_errors({**good, 'method': 'lsq'}, True)
    assert error.startswith('`network_g.quant`') and 'symmetric' in error


def test_counting_on_integer_codes_is_refused(good):
    tested = {key: good[key] for key in ('name', 'model_type', 'scale', 'num_gpu', 'network_g', 'path', 'val')}
    tested['datasets'] = {'test_1': good['datasets']['val']}
    tested['network_g'].update(type='CompSRTSwinIR', embed_dim=12, quant={'execution': 'integer'})
    assert list(find_errors(tested, False)) == []
    put(tested, 'val.levels', 'all')
    (error,) = find_errors(tested, False)
    assert error.startswith('`network_g.quant.execution`') and 'count_codes' in error


def test_a_blank_counts_as_not_given(good):
    for path in ('train.ema_decay', 'val.pad', 'path.strict_load_g', 'manual_seed', 'datasets.train.pin_memory'):
        put(good, path, None)
    check_options(good, True)


@pytest.mark.parametrize(
    ('schedule', 'quant', 'message'),
    [
        ({'end': 0}, {'prune_ratio': 0.4}, '`train.prune_schedule.end` must be a whole number from 1'),
        ({'end': 5}, {'prune_ratio': 0.4}, '`train.prune_schedule`: `end` 5 is beyond `train.total_iter` 4'),
        ({'begin': 4, 'end': 4}, {'prune_ratio': 0.4}, '`train.prune_schedule`: `begin` 4 must come before'),
        ({'end': 4}, {}, '`train.prune_schedule`: there is nothing to schedule'),
        ({'end': 4}, {'prune_pattern': '2:4'}, '`train.prune_schedule`: the pattern 2:4 prunes all at once'),
    ],
)
def test_errors_of_the_prune_schedule(good, schedule, quant, message):
    good['network_g'].update(type='CompSRTSwinIR', quant=quant)
    put(good, 'train.prune_schedule', {'begin': 0, 'end': 4, 'frequency': 2})
    if quant == {'prune_ratio': 0.4}:
        check_options(good, True)
    put(good, 'train.prune_schedule', schedule)
    (error,) = find_errors(good, True)
    assert error.startswith(message)


@pytest.mark.parametrize(
    ('path', 'value', 'message'),
    [
        ('network_t', DELETE, '`network_t` is missing'),
        ('path.pretrain_network_t', None, '`path.pretrain_network_t` is missing'),
        ('train.weight_lr', 1e-3, '`train.weight_lr` needs `train.trainable: all`'),
        ('train.unquantized_lr', 1e-3, '`train.unquantized_lr` needs `train.trainable: all`'),
    ],
)
def test_what_a_distillation_needs(tiny_lmdb, tmp_path, path, value, message):
    opt = distillation_options(tiny_lmdb, make_teacher(tmp_path / 'teacher.pth'))
    check_options(opt, True)
    put(opt, path, value)
    (error,) = find_errors(opt, True)
    assert error.startswith(message)


def test_a_distillation_needs_a_loss(tiny_lmdb, tmp_path):
    opt = distillation_options(tiny_lmdb, make_teacher(tmp_path / 'teacher.pth'))
    del opt['train']['pixel_opt']
    check_options(opt, True)
    opt['train']['feature_opt'] = None
    assert [error.split('`')[1] for error in find_errors(opt, True)] == ['train.pixel_opt']


def test_options_of_a_distillation_have_no_effect_in_full_precision(good):
    good.update(model_type='CompSRTPretrainModel', calibration={'seed': 1})
    good['train'].update(gate_phase=0.5, feature_opt=None)
    places = [error.split('`')[1] for error in find_errors(good, True) if 'no effect' in error]
    assert places == ['calibration', 'train.gate_phase']


def test_options_of_a_pretraining_have_no_effect_in_a_distillation(good):
    good['train'].update(fit_tail=8)
    assert [error.split('`')[1] for error in find_errors(good, True)] == ['train.fit_tail']
