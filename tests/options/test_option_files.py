"""The committed option files: what the generator writes, parseable, and true to their own names and headers."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import jsonschema
import pytest
import yaml

from compsrt_basicsr.config.check import find_errors
from compsrt_basicsr.config.methods.expand import expand_run
from compsrt_basicsr.config.methods.presets import METHODS
from compsrt_basicsr.config.option_file import read_option_file
from compsrt_basicsr.data.catalog import load_catalog
from compsrt_basicsr.data.dataset_folder import DatasetFolder
from compsrt_basicsr.hub.catalog import find

ROOT = Path(__file__).resolve().parents[2]
WRITTEN = sorted(
    p for p in (ROOT / 'options').rglob('*.yml') if not {'grids', 'sweeps'} & {*p.parts}
)  # sweeps are made by hand
FILES = [path for path in WRITTEN if 'compsrt' in path.name]
NAME = re.compile(
    r'(?P<paper>paper/)?(?P<test>test_)?compsrt_x(?P<scale>[234])_w(?P<weight>[234])a(?P<act>[234])'
    r'(?:_p(?P<percent>\d\d))?\.yml'
)


class UniqueKeyLoader(yaml.SafeLoader):
    """Loads YAML, but rejects a mapping that names a key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        duplicates = {key for key in keys if keys.count(key) > 1}
        assert not duplicates, f'{duplicates} given twice near line {node.start_mark.line + 1}'
        return super().construct_mapping(node, deep)


def load(path: Path) -> dict:
    return yaml.load(path.read_text(encoding='utf-8'), Loader=UniqueKeyLoader)


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location('make_options', ROOT / 'scripts/make_options.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def identify(path: Path) -> str:
    return path.relative_to(ROOT / 'options').with_suffix('').as_posix()


def parts(path: Path) -> dict[str, str | None]:
    match = NAME.fullmatch(path.relative_to(ROOT / 'options').as_posix())
    assert match, f'{path.name} does not follow [paper/][test_]compsrt_xSCALE_wBITSaBITS[_pPERCENT].yml'
    return match.groupdict()


def run_name(path: Path) -> str:
    """Returns the file's stem, marked in paper/ so that both recipes of a row can run in one folder."""
    return path.stem.replace('compsrt_', 'compsrt_paper_') if parts(path)['paper'] else path.stem


def test_loader_rejects_duplicate_keys():
    with pytest.raises(AssertionError, match='given twice'):
        yaml.load('a: {b: 1, b: 2}', Loader=UniqueKeyLoader)


def test_committed_files_equal_the_generator(tmp_path: Path):
    """`python scripts/make_options.py` would change nothing, add nothing and leave nothing behind."""
    written = [path.relative_to(tmp_path) for path in load_generator().write_options(tmp_path)]
    assert [path.relative_to(ROOT) for path in WRITTEN] == sorted(p for p in written if p.suffix == '.yml')
    assert {Path('options/schema.json'), Path('docs/options.md')} <= set(written)
    for path in written:
        expected = (tmp_path / path).read_text(encoding='utf-8')
        assert (ROOT / path).read_text(encoding='utf-8') == expected, f'{path}: run python scripts/make_options.py'


@pytest.fixture(scope='module')
def schema() -> jsonschema.Draft7Validator:
    content = json.loads((ROOT / 'options/schema.json').read_text(encoding='utf-8'))
    jsonschema.Draft7Validator.check_schema(content)
    return jsonschema.Draft7Validator(content)


@pytest.mark.parametrize('path', WRITTEN, ids=identify)
def test_files_name_the_schema_and_agree_with_it(path: Path, schema: jsonschema.Draft7Validator):
    first = path.read_text(encoding='utf-8').splitlines()[0]
    assert (
        path.parent / first.removeprefix('# yaml-language-server: $schema=')
    ).resolve() == ROOT / 'options/schema.json'
    assert [error.message for error in schema.iter_errors(load(path))] == []


@pytest.mark.parametrize(
    ('place', 'value'),
    [
        ('nmae', 'x'),
        ('method', 'lqs'),
        ('num_gpu', 'all'),
        ('network_g.depth', [6]),
        ('network_g.quant.weight_bits', 9),
        ('network_g.quant.transform', 'hadamart'),
        ('network_g.quant.bounds', True),
        ('network_g.quant.method', 'lsq'),
        ('train.trainable', 'weights'),
        ('train.optim_g.lr', 0),
        ('train.scheduler.period', [4000]),
        ('train.total_iter', 2.5),
        ('train.feature_opt', {'type': 'FeatureDistillationLoss', 'module': 'x'}),
        ('datasets.train.gt_sise', 128),
        ('datasets.val.io_backend.type', 'lmbd'),
        ('calibration.search', 'three'),
        ('val.pad', 'mirror'),
        ('val.metrics.psnr.better', 'more'),
    ],
)
def test_the_schema_refuses_typos(place: str, value: object, schema: jsonschema.Draft7Validator):
    opt = load(ROOT / 'options/compsrt_x2_w4a4.yml')
    *sections, last = place.split('.')
    section = opt
    for key in sections:
        section = section[key]
    section[last] = value
    assert list(schema.iter_errors(opt))


@pytest.mark.parametrize('method', METHODS)
def test_the_schema_lets_a_method_fill_the_rest(method: str, schema: jsonschema.Draft7Validator):
    opt = load(ROOT / 'options/compsrt_x2_w4a4.yml')
    train = {'total_iter': 300, 'optim_g': {'lr': 1e-3}, 'feature_opt': {'normalize': 'sample'}}
    opt.update(method=method, calibration={'seed': 1}, train=train)
    assert [error.message for error in schema.iter_errors(opt)] == []


@pytest.mark.parametrize('path', WRITTEN, ids=identify)
def test_files_pass_the_check(path: Path):
    """All but the files and folders, which a user has to get first."""
    opt, _ = read_option_file(str(path))
    training = not path.name.startswith('test_')
    expand_run(opt)  # as the commands do
    assert [error for error in find_errors(opt, training, find) if 'does not exist' not in error] == []


@pytest.mark.parametrize('path', FILES, ids=identify)
def test_header_names_row_and_command(path: Path):
    lines = path.read_text(encoding='utf-8').splitlines()
    header = lines[: lines.index('')]
    assert all(line.startswith('# ') for line in header)
    fields = parts(path)
    pruned = f', {fields["percent"]}% pruned' if fields['percent'] else ''
    assert f'# Table row: CompSRT, SwinIR-light x{fields["scale"]}, {fields["weight"]} bits{pruned}.' in header
    command = 'test' if fields['test'] else 'train'
    assert f'# Command: basicsr {command} -opt {path.relative_to(ROOT).as_posix()}' in header


@pytest.mark.parametrize('path', FILES, ids=identify)
def test_values_agree_with_the_file_name(path: Path):
    opt, fields = load(path), parts(path)
    scale = int(fields['scale'])
    quant = opt['network_g']['quant']
    metrics = opt['val']['metrics']

    assert opt['name'] == run_name(path)
    assert opt['scale'] == opt['network_g']['upscale'] == scale
    assert (quant['weight_bits'], quant['act_bits']) == (int(fields['weight']), int(fields['act']))
    assert quant['code_range'] == ('paper' if fields['paper'] else 'strict')
    assert quant['transform'] == ('padded' if fields['paper'] else 'blocks')
    assert quant.get('prune_ratio', 0) == int(fields['percent'] or 0) / 100
    assert {metric['crop_border'] for metric in metrics.values()} == {scale}
    assert opt['val']['pad'] == 'symmetric'
    assert opt['val']['save_img'] is False  # a key that BasicSR reads without a default


@pytest.mark.parametrize('path', [p for p in FILES if not parts(p)['test']], ids=identify)
def test_training_files(path: Path):
    opt = load(path)
    scale = opt['scale']
    assert opt['datasets']['train']['gt_size'] == 64 * scale
    assert opt['datasets']['train']['dataroot_lq'].endswith(f'LRx{scale}_sub.lmdb')
    teacher = find(opt['path']['pretrain_network_t']).entry
    assert (teacher.kind, teacher.scale) == ('teacher', scale) and teacher.sha256
    student = {key: value for key, value in opt['network_g'].items() if key not in ('type', 'quant')}
    assert student == {key: value for key, value in opt['network_t'].items() if key != 'type'}
    assert isinstance(opt['train']['optim_g']['lr'], float)  # 1e-2 without a point would be read as text
    losses = [opt['train'][name] for name in ('pixel_opt', 'feature_opt')]
    published = {loss['type'].startswith('Published') for loss in losses if loss}
    assert published == {bool(parts(path)['paper'])}


@pytest.mark.parametrize('path', [p for p in FILES if parts(p)['test']], ids=identify)
def test_test_files(path: Path):
    """A test file loads what its training file saves and measures the five sets with the same network."""
    opt = load(path)
    training = path.with_name(path.name.removeprefix('test_'))
    assert opt['network_g'] == load(training)['network_g']
    assert opt['path']['pretrain_network_g'] == f'experiments/{run_name(training)}/models/net_g_latest.pth'
    assert [d['name'] for d in opt['datasets'].values()] == ['Set5', 'Set14', 'B100', 'Urban100', 'Manga109']
    assert list(opt['datasets']) == [f'test_{i}' for i in range(1, 6)]
    assert all(f'/x{opt["scale"]}/' in d['dataroot_gt'] for d in opt['datasets'].values())
    assert opt['val']['suffix'] is None  # a key that BasicSR's test reads without a default


@pytest.mark.parametrize('path', FILES, ids=identify)
def test_one_lmdb_is_opened_once(path: Path):
    """py-lmdb refuses to open an environment twice in one process."""
    opt = load(path)
    roots = [dataset[key] for dataset in opt['datasets'].values() for key in ('dataroot_gt', 'dataroot_lq')]
    assert len(set(roots)) == len(roots)
    assert all(root.endswith('.lmdb') for root in roots)  # BasicSR demands the suffix


def test_pretraining_files_are_the_teachers_networks():
    """What they train is what the quantized files name as `network_t`; x3 and x4 start from x2."""
    for scale in (2, 3, 4):
        opt = load(ROOT / f'options/pretrain_swinir_light_x{scale}.yml')
        assert opt['network_g'] == load(ROOT / f'options/compsrt_x{scale}_w4a4.yml')['network_t']
        assert opt['model_type'] == 'CompSRTPretrainModel' and opt['name'] == f'pretrain_swinir_light_x{scale}'
        assert (opt['path']['pretrain_network_g'] is None) == (scale == 2)
        milestones = opt['train']['scheduler']['milestones']
        assert milestones == sorted(milestones) and milestones[-1] < opt['train']['total_iter']


@pytest.mark.parametrize('path', WRITTEN, ids=identify)
def test_data_lie_where_the_data_command_puts_them(path: Path):
    """Names and LMDBs are those that `compsrt data get` makes below datasets/."""
    opt, catalog = load(path), load_catalog()
    for dataset in opt['datasets'].values():
        made = DatasetFolder(catalog[dataset['name']], Path('datasets')).pair(opt['scale'])
        assert [dataset['dataroot_gt'], dataset['dataroot_lq']] == [made_path.as_posix() for made_path in made]
