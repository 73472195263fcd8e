"""Two runs of one name: the second ends before anything is renamed or made; archives of one second are all kept."""

from types import SimpleNamespace

import pytest
from basicsr.utils import misc

from compsrt_basicsr.basicsr_compat.run_lock import parse_options, run_pipeline
from compsrt_basicsr.utils.lock import Busy, holder, locked


def options(root, is_train=True, rank=0):
    kind = 'experiments' if is_train else 'results'
    folder = root / kind / 'tiny'
    paths = {'models': str(folder / 'models'), 'training_states': str(folder / 'training_states')} if is_train else {}
    path = {f'{kind}_root': str(folder), 'log': str(folder), **paths}
    return {'name': 'tiny', 'is_train': is_train, 'rank': rank, 'dist': False, 'path': path}


def pipeline(opt, then=lambda opt: None):
    """Runs what BasicSR's pipelines begin with."""

    def body(root_path):
        parsed, _ = parse_options(lambda root_path: (opt, SimpleNamespace()), root_path)
        misc.make_exp_dirs(parsed)
        return then(parsed)

    return run_pipeline(body, '.')


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*'))


@pytest.mark.parametrize('is_train', [True, False])
def test_the_second_run_of_a_name_is_refused(tmp_path, is_train):
    opt = options(tmp_path, is_train)
    root = tmp_path / ('experiments' if is_train else 'results')

    def second(_):
        (root / 'tiny/kept').touch()
        before = listing(tmp_path)
        with pytest.raises(Busy, match=r'tiny` is in use by process \d+.*`name`'):
            pipeline(options(tmp_path, is_train))
        assert listing(tmp_path) == before

    pipeline(opt, second)
    assert holder(root / '.tiny.lock') is None and not (root / '.tiny.lock').exists()
    pipeline(opt)
    assert len(list(root.glob('tiny_archived_*'))) == 1


def test_other_names_and_other_ranks_are_free(tmp_path):
    opt = options(tmp_path)
    other = options(tmp_path)
    other['path'] = {key: value.replace('tiny', 'other') for key, value in other['path'].items()}
    pipeline(opt, lambda _: pipeline(other))
    with locked(tmp_path / 'experiments/.tiny.lock', 'it'):
        pipeline(options(tmp_path, rank=1))


def test_a_failed_run_gives_its_name_back(tmp_path):
    def fail(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pipeline(options(tmp_path), fail)
    pipeline(options(tmp_path))


def test_leftovers_of_a_killed_run_are_removed_at_the_start(tmp_path):
    folder = tmp_path / 'experiments/tiny'
    for place in ('.', 'models', 'training_states'):
        (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / place / '.compsrt-0123456789abcdef.pth').write_text('half')
    run_pipeline(lambda: parse_options(lambda: (options(tmp_path), None)))  # as with --auto_resume
    assert listing(folder) == ['models', 'training_states']


def test_archives_of_one_second_are_all_kept(tmp_path):
    folder = tmp_path / 'tiny'
    for number in range(3):
        misc.mkdir_and_rename(str(folder))
        (folder / str(number)).touch()
    archived = [path for path in tmp_path.iterdir() if path != folder]
    assert sorted(name for path in archived for name in listing(path)) == ['0', '1']
    assert listing(folder) == ['2']
