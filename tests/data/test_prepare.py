"""From a folder of images to LMDBs: content, kill and resume, refusals."""

import errno
import itertools
import json
import sys
import types

import cv2
import lmdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from compsrt_basicsr.data import prepare as module
from compsrt_basicsr.data.bicubic import downscale
from compsrt_basicsr.data.images import read_image
from compsrt_basicsr.data.lmdb_writer import LmdbWriter
from compsrt_basicsr.data.prepare import entries, prepare
from compsrt_basicsr.data.prepare_settings import PrepareSettings, window_corners
from compsrt_basicsr.data.prepare_state import FINISHING, PrepareState
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.lock import Busy

SETTINGS = PrepareSettings('toy', (2, 3), crop=24, step=12)
NAMES = ['toy_HR_sub.lmdb', 'toy_LRx2_sub.lmdb', 'toy_LRx3_sub.lmdb']


class KilledError(BaseException):
    """Stands in for the end of the process."""


@pytest.fixture
def folder(tmp_path):
    """Four images: sizes that do and do not divide, one grey, one with blanks in its name."""
    rng = np.random.default_rng(0)
    made = tmp_path / 'images'
    made.mkdir()
    for name, shape in [('a.png', (36, 48, 3)), ('b.png', (31, 41, 3)), ('c d.png', (24, 24)), ('e.bmp', (25, 60, 3))]:
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(made / name)
    return made


def content(path) -> dict[str, bytes]:
    with lmdb.open(str(path), readonly=True, lock=False) as env, env.begin() as txn:
        return {key.decode(): value for key, value in txn.cursor()}


def contents(out) -> dict[str, dict[str, bytes]]:
    return {path.name: content(path) for path in sorted(out.glob('*.lmdb'))}


def pixels(value: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(value, np.uint8), cv2.IMREAD_UNCHANGED)[..., ::-1]


def kill_at(monkeypatch, count: int) -> None:
    """Lets `count` images be read for writing, then ends the run."""
    calls = []

    def read(path):
        calls.append(path)
        if len(calls) > count:
            raise KilledError
        return read_image(path)

    monkeypatch.setattr(module, 'read_image', read)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 100))
def test_windows_cover_the_image_and_stay_inside(crop, step, extra):
    corners = window_corners(crop + extra, crop, crop, step)
    tops = [top for top, _ in corners]
    assert tops[0] == 0
    assert tops[-1] + crop == crop + extra
    assert {left for _, left in corners} == {0}
    assert all(0 < b - a <= step for a, b in itertools.pairwise(tops))


@pytest.mark.parametrize('crop', [24, 0])
def test_lr_windows_are_cut_from_the_whole_reduced_image(crop):
    image = np.random.default_rng(1).integers(0, 256, (50, 61, 3), dtype=np.uint8)
    made = {(key, scale): made for key, scale, made in entries('p', image, PrepareSettings('n', (2, 3), crop, 12))}
    high = image[:48, :60]
    if not crop:
        assert made.keys() == {('p', 1), ('p', 2), ('p', 3)}
        np.testing.assert_array_equal(made['p', 3], downscale(high, 3))
        return
    assert len(made) == 3 * len(window_corners(48, 60, 24, 12)) == 36
    np.testing.assert_array_equal(made['p_s006', 1], high[12:36, 12:36])
    np.testing.assert_array_equal(made['p_s006', 2], downscale(high, 2)[6:18, 6:18])
    assert (made['p_s006', 2] != downscale(high[12:36, 12:36], 2)).any()  # borders would differ


def test_lmdbs_have_the_same_keys_and_the_right_pixels(folder, tmp_path):
    result = prepare(folder, tmp_path / 'out', SETTINGS)
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == NAMES
    high, half, third = (content(tmp_path / 'out' / name) for name in NAMES)
    assert high.keys() == half.keys() == third.keys()
    assert result.entries == len(high) == 15
    assert result.images == 4
    grey = np.array(Image.open(folder / 'c d.png'))
    np.testing.assert_array_equal(pixels(high['c_d_s001']), np.dstack([grey] * 3))
    np.testing.assert_array_equal(pixels(third['c_d_s001']), np.dstack([downscale(grey, 3)] * 3))
    lines = (tmp_path / 'out' / NAMES[1] / 'meta_info.txt').read_text().splitlines()
    assert lines == [f'{key}.png (12,12,3) 1' for key in sorted(half)]


def test_basicsr_reads_the_pairs(folder, tmp_path, monkeypatch):
    try:
        import torchvision.transforms.functional_tensor  # noqa: F401
    except ModuleNotFoundError:  # removed from torchvision, but imported by BasicSR
        stand_in = types.ModuleType('torchvision.transforms.functional_tensor')
        stand_in.rgb_to_grayscale = None
        monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    from basicsr.data.paired_image_dataset import PairedImageDataset

    outputs = prepare(folder, tmp_path / 'out', PrepareSettings('toy', (2, 3), crop=0)).outputs
    assert [path.name for path in outputs.values()] == ['toy_HR.lmdb', 'toy_LRx2.lmdb', 'toy_LRx3.lmdb']
    options = {'phase': 'val', 'scale': 3, 'io_backend': {'type': 'lmdb'}}
    dataset = PairedImageDataset({**options, 'dataroot_gt': str(outputs[1]), 'dataroot_lq': str(outputs[3])})
    assert len(dataset) == 4
    high = np.array(Image.open(folder / 'b.png'))[:30, :36]
    pair = {dataset[i]['gt_path']: dataset[i] for i in range(4)}['b']
    np.testing.assert_array_equal(np.rint(pair['gt'].numpy() * 255), high.transpose(2, 0, 1))
    np.testing.assert_array_equal(np.rint(pair['lq'].numpy() * 255), downscale(high, 3).transpose(2, 0, 1))


@pytest.mark.parametrize('count', [0, 1, 3])
@pytest.mark.parametrize('commit_bytes', [1, 10**9])
def test_a_killed_run_goes_on_to_the_same_bytes(folder, tmp_path, monkeypatch, count, commit_bytes):
    prepare(folder, tmp_path / 'whole', SETTINGS)
    out = tmp_path / 'out'
    with monkeypatch.context() as patch:
        kill_at(patch, count)
        with pytest.raises(KilledError):
            prepare(folder, out, SETTINGS, commit_bytes=commit_bytes, map_size=2**16)
    assert not any((out / name).exists() for name in NAMES)
    read = []
    monkeypatch.setattr(module, 'read_image', lambda path: read.append(path) or read_image(path))
    prepare(folder, out, SETTINGS)
    assert len(read) == 4 - (count if commit_bytes == 1 else 0)
    assert contents(out) == contents(tmp_path / 'whole')
    assert sorted(path.name for path in out.iterdir()) == NAMES


def test_a_run_killed_between_two_commits_goes_on_to_the_same_bytes(folder, tmp_path, monkeypatch):
    """The LR LMDBs are ahead of the HR LMDB then."""
    prepare(folder, tmp_path / 'whole', SETTINGS)
    out, commit = tmp_path / 'out', LmdbWriter.commit

    def fail(self):
        if '_HR_' in self.path.name:
            raise KilledError
        commit(self)

    with monkeypatch.context() as patch:
        patch.setattr(LmdbWriter, 'commit', fail)
        with pytest.raises(KilledError):
            prepare(folder, out, SETTINGS, commit_bytes=1)
    partial = contents(out)
    assert partial['toy_LRx2_sub.partial.lmdb']
    assert not partial['toy_HR_sub.partial.lmdb']
    prepare(folder, out, SETTINGS)
    assert contents(out) == contents(tmp_path / 'whole')


def test_a_run_killed_while_renaming_is_finished(folder, tmp_path, monkeypatch):
    prepare(folder, tmp_path / 'whole', SETTINGS)
    out, finish = tmp_path / 'out', PrepareState.finish

    def rename_one(self):
        assert self.stage == FINISHING
        self.partials[1].rename(self.outputs[1])
        raise KilledError

    monkeypatch.setattr(PrepareState, 'finish', rename_one)
    with pytest.raises(KilledError):
        prepare(folder, out, SETTINGS)
    monkeypatch.setattr(PrepareState, 'finish', finish)
    prepare(folder, out, SETTINGS)
    assert contents(out) == contents(tmp_path / 'whole')
    assert sorted(path.name for path in out.iterdir()) == NAMES


def test_an_unfinished_run_refuses_other_settings_and_images(folder, tmp_path, monkeypatch):
    out = tmp_path / 'out'
    with monkeypatch.context() as patch:
        kill_at(patch, 2)
        with pytest.raises(KilledError):
            prepare(folder, out, SETTINGS, commit_bytes=1)
    other = PrepareSettings('toy', (2, 3), crop=24, step=24)
    with pytest.raises(CompSRTError, match=r'`step` 12, not 24.*--restart'):
        prepare(folder, out, other)
    Image.new('RGB', (30, 30)).save(folder / 'new.png')
    with pytest.raises(CompSRTError, match=r'1, the first is `new\.png`.*--restart'):
        prepare(folder, out, SETTINGS)
    result = prepare(folder, out, other, restart=True)
    assert result.images == 5
    assert contents(out)['toy_HR_sub.lmdb'].keys() == contents(out)['toy_LRx3_sub.lmdb'].keys()
    assert 'a_s005' not in contents(out)['toy_HR_sub.lmdb']  # nothing of the first run is left


def test_a_damaged_or_missing_record_asks_for_a_restart(folder, tmp_path, monkeypatch):
    out = tmp_path / 'out'
    with monkeypatch.context() as patch:
        kill_at(patch, 2)
        with pytest.raises(KilledError):
            prepare(folder, out, SETTINGS)
    record = out / 'toy_sub.partial.json'
    record.write_text(record.read_text()[:50])
    with pytest.raises(CompSRTError, match=r'damaged.*--restart'):
        prepare(folder, out, SETTINGS)
    record.write_text(json.dumps({'format': -1, 'stage': '', 'settings': {}, 'sources': [], 'bad': {}}))
    with pytest.raises(CompSRTError, match=r'version.*--restart'):
        prepare(folder, out, SETTINGS)
    record.unlink()
    with pytest.raises(CompSRTError, match=r'lacks its record.*--restart'):
        prepare(folder, out, SETTINGS)


def test_finished_output_is_replaced_only_by_force(folder, tmp_path):
    out = tmp_path / 'out'
    prepare(folder, out, SETTINGS)
    before = contents(out)
    (folder / 'a.png').unlink()
    with pytest.raises(CompSRTError, match=r'toy_HR_sub\.lmdb` exists.*--force'):
        prepare(folder, out, SETTINGS, restart=True)
    assert contents(out) == before
    prepare(folder, out, SETTINGS, force=True)
    assert contents(out)[NAMES[0]].keys() == {key for key in before[NAMES[0]] if not key.startswith('a_')}


def test_bad_images_stop_the_run_before_it_writes_or_are_left_out(folder, tmp_path):
    data = (folder / 'b.png').read_bytes()
    (folder / 'b.png').write_bytes(data[: len(data) // 2])
    Image.new('RGBA', (48, 48)).save(folder / 'f.png')
    Image.new('RGB', (23, 48)).save(folder / 'g.png')
    with pytest.raises(CompSRTError, match=r'(?s)3 of 6.*b\.png is damaged.*f\.png has an alpha.*g\.png is 23x48'):
        prepare(folder, tmp_path / 'out', SETTINGS)
    assert not (tmp_path / 'out').exists()
    result = prepare(folder, tmp_path / 'out', SETTINGS, skip_bad=True)
    assert result.skipped.keys() == {'b.png', 'f.png', 'g.png'}
    assert {key[:-5] for key in contents(tmp_path / 'out')[NAMES[0]]} == {'a', 'c_d', 'e'}


def test_colliding_names_are_refused_at_once(folder, tmp_path):
    Image.new('RGB', (48, 48)).save(folder / 'c_d.bmp')
    with pytest.raises(CompSRTError, match=r'`c d\.png` and `c_d\.bmp`'):
        prepare(folder, tmp_path / 'out', SETTINGS)


def test_a_full_disk_is_one_sentence_and_can_be_resumed(folder, tmp_path, monkeypatch):
    prepare(folder, tmp_path / 'whole', SETTINGS)
    out, commit, calls = tmp_path / 'out', LmdbWriter.commit, []

    def full(self):
        calls.append(self)
        if len(calls) > 7:
            raise OSError(errno.ENOSPC, 'No space left on device', str(self.path))
        commit(self)

    with monkeypatch.context() as patch:
        patch.setattr(LmdbWriter, 'commit', full)
        with pytest.raises(CompSRTError, match=r'`.*out` is full .*same command again'):
            prepare(folder, out, SETTINGS, commit_bytes=1)
    prepare(folder, out, SETTINGS)
    assert contents(out) == contents(tmp_path / 'whole')


@pytest.mark.parametrize(
    'arguments,culprit',
    [
        ({'name': 'a/b'}, '`name`'),
        ({'name': 'a b'}, '`name`'),
        ({'scales': ()}, '`scale`'),
        ({'scales': (1, 2)}, '`scale`'),
        ({'crop': -12}, '`crop`'),
        ({'step': 0}, '`step`'),
        ({'crop': 20}, 'every scale, so of 12'),
        ({'step': 6}, 'every scale, so of 12'),
    ],
)
def test_bad_settings_are_named(arguments, culprit):
    with pytest.raises(CompSRTError, match=culprit):
        PrepareSettings(**{'name': 'n', 'scales': (4, 3, 2), 'crop': 24, 'step': 12, **arguments})


def test_a_second_preparation_disturbs_nothing(folder, tmp_path, monkeypatch):
    """Not even one that begins again; another name in the same folder is free."""
    refused = []

    def read(path):
        if not refused:
            with pytest.raises(Busy, match='toy_HR_sub') as error:
                prepare(folder, tmp_path / 'out', SETTINGS, restart=True, force=True)
            refused.append(error)
            prepare(folder, tmp_path / 'out', PrepareSettings('other', (2,), crop=24, step=12))
        return read_image(path)

    monkeypatch.setattr(module, 'read_image', read)
    result = prepare(folder, tmp_path / 'out', SETTINGS)
    monkeypatch.undo()
    prepare(folder, tmp_path / 'alone', SETTINGS)
    alone = contents(tmp_path / 'alone')
    assert len(refused) == 1 and result.entries == len(alone[NAMES[0]])
    assert {name: contents(tmp_path / 'out')[name] for name in NAMES} == alone
    assert [path.name for path in (tmp_path / 'out').iterdir() if path.suffix != '.lmdb'] == []
