"""From a web server to LMDBs: what is made, what is kept, kills and resumption, refusals, disks that are full."""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
from collections import namedtuple

import data_sets
import lmdb
import pytest
import web_server

from compsrt_basicsr.data import archives, fetch_dataset
from compsrt_basicsr.data.catalog import parse_catalog
from compsrt_basicsr.data.get import ensure, plan
from compsrt_basicsr.data.lmdb_writer import LmdbWriter
from compsrt_basicsr.data.prepare_state import PrepareState
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.hub import answer, transfer
from compsrt_basicsr.hub.home import home
from compsrt_basicsr.utils.lock import locked

FILES = data_sets.archives()
FREE = namedtuple('FREE', 'free')


class KilledError(BaseException):
    """Stands in for the end of the process."""


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setattr(transfer, 'FIRST_PAUSE', 0.001)
    monkeypatch.setattr(answer, 'READ_TIMEOUT', 0.2)
    monkeypatch.setenv('COMPSRT_HOME', str(tmp_path / 'home'))
    monkeypatch.delenv('COMPSRT_OFFLINE', raising=False)
    with web_server.running_server() as running:
        running.files.update(FILES)
        yield running


@pytest.fixture
def catalog(server):
    return parse_catalog(data_sets.catalog_text(server.url(), FILES), 'test')


@pytest.fixture
def get(catalog, tmp_path):
    def run(*names, scales=(2, 3), out=tmp_path / 'datasets', **options):
        return ensure(names, out, scales, catalog=catalog, **options)

    return run


def content(path):
    with lmdb.open(str(path), readonly=True, lock=False) as env, env.begin() as txn:
        return {bytes(key): bytes(value) for key, value in txn.cursor()}


def everything(out):
    """Content of all files below a folder, LMDBs entry by entry, records left out."""
    found = {}
    for path in sorted(out.rglob('*')):
        if path.suffix == '.lmdb':
            found[str(path.relative_to(out))] = content(path)
        elif path.is_file() and path.parent.suffix != '.lmdb':
            found[str(path.relative_to(out))] = path.read_bytes()
    return found


def test_a_joined_training_set(get, server, tmp_path):
    (ready,) = get('both')
    folder = tmp_path / 'datasets/Both'
    numbers = ('0000', '0001', '0002', '000000', '000001')
    assert {path.name for path in (folder / 'HR').iterdir()} == {f'{number}.png' for number in numbers}
    assert (ready.name, ready.images) == ('Both', folder / 'HR')
    assert ready.pairs == {
        scale: (folder / 'Both_HR_sub.lmdb', folder / f'Both_LRx{scale}_sub.lmdb') for scale in (2, 3)
    }
    keys = content(ready.pairs[2][0]).keys()
    assert keys == content(ready.pairs[3][1]).keys()
    assert {key.decode().split('_')[0] for key in keys} == set(numbers)
    assert (home() / 'archives/more.tar.sha256').exists(), 'the checksum found is recorded where none was published'


def test_benchmarks_have_a_pair_for_each_scale(get, server, tmp_path):
    five, _ = get('Five', 'Grey')
    assert five.pairs[3] == tuple(tmp_path / f'datasets/Five/x3/Five_{part}.lmdb' for part in ('HR', 'LRx3'))
    assert content(five.pairs[2][0]).keys() == {b'bird', b'head'}
    assert (tmp_path / 'datasets/Grey/x2/Grey_HR.lmdb/meta_info.txt').read_text() == 'bridge.png (24,24,3) 1\n'
    assert [request[0] for request in server.requests] == ['bench.tar.gz'], 'one archive serves both'


def test_what_is_there_is_kept(get, server, tmp_path, monkeypatch):
    get('Big', 'Five')
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / 'datasets').rglob('*') if path.is_file()}
    server.requests.clear()
    monkeypatch.setattr(fetch_dataset, 'extract', None)
    lines = []
    get('Big', 'Five', report=lines.append)
    assert (server.requests, lines) == ([], [])
    shutil.rmtree(home())
    shutil.rmtree(tmp_path / 'datasets/Big/HR')
    get('Big', 'Five')  # neither the archive nor the images are missed once the LMDBs are there
    assert server.requests == []
    after = {path: path.stat().st_mtime_ns for path in before if path.exists()}
    assert after and all(before[path] == time for path, time in after.items())


def test_steps_can_be_skipped(get, server, tmp_path):
    (ready,) = get('Five', lmdb=False, keep_archives=False)
    assert ready.pairs == {}
    assert sorted(path.name for path in (tmp_path / 'datasets/Five').iterdir()) == ['HR', 'pictures.json']
    assert not (home() / 'archives/bench.tar.gz').exists()
    get('Five', scales=[2])
    get('Five', scales=[4])
    assert sorted(path.name for path in (tmp_path / 'datasets/Five').glob('x*')) == ['x2', 'x4']
    assert len(server.requests) == 1


STEPS = {
    'download': (transfer.time, 'sleep'),  # between two tries
    'unpack': (archives, '_write'),
    'check': (fetch_dataset, 'check_images'),
    'record': (fetch_dataset, 'write_record'),
    'layout': (os, 'replace'),
    'lmdb': (LmdbWriter, 'commit'),
    'finish': (PrepareState, 'finish'),
}


@pytest.mark.parametrize('step', STEPS)
@pytest.mark.parametrize('name', ['Both', 'Five'])
@pytest.mark.parametrize('when', [0, 1])
def test_killed_in_any_step_and_resumed(get, server, tmp_path, monkeypatch, step, name, when):
    """At the first and, where there is one, the second call of what makes up the step."""
    get(name, out=tmp_path / 'whole')
    shutil.rmtree(home())
    if step == 'download':
        server.behaviours['big.zip'] = server.behaviours['bench.tar.gz'] = [web_server.cut(200), web_server.cut(100)]
    (place, attribute), calls = STEPS[step], []
    original = getattr(place, attribute)

    def kill(*args, **kwargs):
        if step != 'layout' or args[-1].name == 'HR':
            calls.append(args)
            if len(calls) > when:
                raise KilledError
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(place, attribute, kill)
        try:
            get(name)
        except KilledError:
            assert everything(tmp_path / 'datasets') != everything(tmp_path / 'whole')
        else:
            assert len(calls) == when == 1
    get(name)
    assert everything(tmp_path / 'datasets') == everything(tmp_path / 'whole')


def test_a_full_disk_at_each_step(get, server, tmp_path, monkeypatch):
    """Reported before the step, with what is needed and what is free; then the work resumes."""
    free = [0]
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: FREE(free[0]))
    with pytest.raises(CompSRTError, match=rf'big\.zip needs .*{len(FILES["big.zip"]):,} bytes.* has 0 bytes'):
        get('Both')
    free[0] = 17_500  # enough for the zip
    with pytest.raises(CompSRTError, match=r'Downloading more\.tar needs about 20 kB \(20,000 bytes\) .*17,500 bytes'):
        get('Both')
    free[0] = 10**6
    get('More', lmdb=False)
    free[0] = 10_000
    with pytest.raises(CompSRTError, match=r'Unpacking `big\.zip` needs .* bytes.* has .*10,000 bytes'):
        get('Both')
    free[0] = 17_500
    with pytest.raises(
        CompSRTError, match=r'LMDBs of Both for x2, x3 needs about [\d.]+ kB .* has about 18 kB \(17,500'
    ):
        get('Both')
    free[0] = 10**6
    get('Both')


def test_a_disk_that_fills_while_unpacking(get, server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(archives, '_write', full)
        with pytest.raises(CompSRTError, match=r'is full while `bench\.tar\.gz` is unpacked'):
            get('Five')
    get('Five')


def test_terms_must_be_accepted(get, server):
    with pytest.raises(CompSRTError, match=r'Secret has terms .*https://example\.org/terms.*--accept-terms'):
        get('Big', 'Secret')
    assert server.requests == [], 'nothing is downloaded before all is known to be possible'
    get('Secret', accept_terms=True)


def test_what_has_no_address_is_asked_for(get, server, tmp_path, catalog):
    with pytest.raises(CompSRTError, match=r'(?s)Asked has no address.*write to the authors.*--from.*asked\.zip'):
        get('Asked', accept_terms=True)
    (step, *_) = plan(['Asked'], tmp_path, catalog=catalog)
    assert 'has no address' in step.obstacle
    assert not (tmp_path / 'datasets').exists()
    (home() / 'archives').mkdir(parents=True)
    (home() / 'archives/asked.zip').write_bytes(
        data_sets.zipped({f'{n}.png': data_sets.image(n, 24, 24, 3) for n in b'ab'})
    )
    get('Asked')
    assert (tmp_path / 'datasets/Asked/x3/Asked_LRx3.lmdb').is_dir()


@pytest.mark.parametrize('kind', ['archive', 'folder of archives', 'folder of images'])
def test_from_the_users_own(get, server, tmp_path, monkeypatch, kind):
    monkeypatch.setenv('COMPSRT_OFFLINE', '1')
    own = tmp_path / 'own'
    own.mkdir()
    images = {f'{n}.png': data_sets.image(n, 24, 24, 3) for n in range(2)}
    if kind == 'folder of images':
        for name, data in images.items():
            (own / name).write_bytes(data)
    else:
        (own / 'asked.zip').write_bytes(data_sets.zipped({f'any/{name}': data for name, data in images.items()}))
    (ready,) = get('Asked', source=own / 'asked.zip' if kind == 'archive' else own)
    assert {path.name: path.read_bytes() for path in ready.images.iterdir()} == images
    assert sorted(path.name for path in own.iterdir()) == (
        ['0.png', '1.png'] if kind == 'folder of images' else ['asked.zip']
    )


def test_what_from_cannot_be(get, server, tmp_path):
    with pytest.raises(CompSRTError, match='one at a time'):
        get('Big', 'More', source=tmp_path)
    with pytest.raises(CompSRTError, match=r'`.*none`, given with --from, does not exist'):
        get('Big', source=tmp_path / 'none')
    (tmp_path / 'big.zip').write_bytes(FILES['big.zip'][:-1] + b'x')
    with pytest.raises(CompSRTError, match=r'consists of big\.zip, more\.tar: give the folder'):
        get('Both', source=tmp_path / 'big.zip')
    with pytest.raises(CompSRTError, match=r'is not big\.zip: its SHA-256 is'):
        get('Big', source=tmp_path / 'big.zip')
    (tmp_path / 'few').mkdir()
    (tmp_path / 'few/a.png').write_bytes(data_sets.image(0, 24, 24, 3))
    with pytest.raises(CompSRTError, match='holds 1 image, Big has 3'):
        get('Big', source=tmp_path / 'few')


def test_a_killed_repair_is_finished(get, server, tmp_path, monkeypatch):
    """Though the LMDBs are there, which alone would be enough."""
    (ready,) = get('Five')
    (ready.images / 'bird.png').unlink()
    with monkeypatch.context() as patch:
        patch.setattr(fetch_dataset, 'extract', lambda *_, **__: (_ for _ in ()).throw(KilledError))
        with pytest.raises(KilledError):
            get('Five')
    assert not ready.images.exists()
    get('Five')
    assert len(list(ready.images.iterdir())) == 2


def test_a_wrong_archive(get, server, tmp_path):
    server.files['more.tar'] = data_sets.tarred({'M/HR/1.png': data_sets.image(0, 24, 24, 3)})
    with pytest.raises(CompSRTError, match=r'is not more\.tar: its MD5 is'):
        get('More')
    server.files['bench.tar.gz'] = data_sets.tarred({'bench/Five/HR/1.png': data_sets.image(0, 24, 24, 3)}, 'gz')
    with pytest.raises(CompSRTError, match=r'holds 1 image `bench/Five/HR/\*\.png`, not 2'):
        get('Five')
    assert not (tmp_path / 'datasets/Five/HR').exists()


def test_a_hostile_archive(get, server, tmp_path):
    server.files['secret.zip'] = data_sets.zipped({'../../../a.png': data_sets.image(0, 24, 24, 3)})
    with pytest.raises(CompSRTError, match=r'refused: .*leads out'):
        get('Secret', accept_terms=True)
    assert not list(tmp_path.rglob('*.png'))


def test_a_image_that_cannot_be_read(get, server, tmp_path):
    good = data_sets.image(0, 24, 24, 3)
    server.files['secret.zip'] = data_sets.zipped({'a.png': good[:-40]})
    with pytest.raises(CompSRTError, match=r'1 of 1 image .* the first: a\.png is damaged'):
        get('Secret', accept_terms=True)
    assert not (tmp_path / 'datasets/Secret/HR').exists()


def test_lost_images_are_restored(get, server, tmp_path):
    (ready,) = get('Big')
    before = everything(tmp_path / 'datasets')
    (ready.images / '0001.png').unlink()
    (ready.images / '0002.png').write_bytes(b'short')
    lines = []
    get('Big', report=lines.append)
    assert re.match(r'Big: repairing `.*HR`, which lacks 0001\.png', lines[0])
    assert everything(tmp_path / 'datasets') == before
    (ready.images / '0000.png').unlink()
    (ready.images / 'mine.png').write_bytes(b'')
    with pytest.raises(CompSRTError, match=r'also has mine\.png.*move the folder away'):
        get('Big')


def test_images_that_were_there_before_are_taken_or_refused(get, server, tmp_path):
    folder = tmp_path / 'datasets/Five/HR'
    folder.mkdir(parents=True)
    (folder / 'a.png').write_bytes(data_sets.image(0, 24, 24, 3))
    with pytest.raises(CompSRTError, match='holds 1 image, not 2, so it is not Five as known here'):
        get('Five')
    (folder / 'b.png').write_bytes(data_sets.image(1, 24, 24, 3))
    get('Five')
    assert server.requests == []
    assert (tmp_path / 'datasets/Five/pictures.json').exists()


def test_another_scale_of_a_training_set_needs_a_word(get, server, tmp_path):
    get('Big', scales=[2])
    with pytest.raises(CompSRTError, match=r'Big_LRx3_sub\.lmdb` is missing.*--force'):
        get('Big', scales=[3])
    get('Big', scales=[3], force=True)
    assert sorted(path.name for path in (tmp_path / 'datasets/Big').glob('*.lmdb')) == [
        'Big_HR_sub.lmdb',
        'Big_LRx2_sub.lmdb',
        'Big_LRx3_sub.lmdb',
    ]


def test_a_corrupt_lmdb_is_replaced_by_force(get, server, tmp_path):
    (ready,) = get('Five')
    (ready.pairs[2][1] / 'meta_info.txt').write_text('bird.png (15,21,3) 1\n')
    with pytest.raises(CompSRTError, match=r'differ in 1 key, the first is `head`.*--force'):
        get('Five')
    get('Five', force=True)
    get('Five')


@pytest.mark.parametrize('place', ['', 'HR.partial', 'x2', 'x2/Five_HR.partial.lmdb/data.mdb', '.lock'])
def test_links_are_not_written_through(get, server, tmp_path, place):
    other, link = tmp_path / 'other', tmp_path / 'datasets/Five' / place
    other.mkdir()
    link.parent.mkdir(parents=True)
    link.symlink_to(other)
    with pytest.raises(CompSRTError, match='is a link, through which nothing is written'):
        get('Five')
    assert list(other.iterdir()) == []


def test_the_output_folder_itself_may_be_a_link(get, server, tmp_path):
    (tmp_path / 'disk').mkdir()
    (tmp_path / 'datasets').symlink_to(tmp_path / 'disk')
    get('Five')
    assert (tmp_path / 'disk/Five/HR').is_dir()


def test_a_second_process_waits(get, server, tmp_path):
    lines = []
    with locked(tmp_path / 'datasets/Five/.lock', 'it'):
        thread = threading.Thread(target=get, args=('Five',), kwargs={'report': lines.append})
        thread.start()
        thread.join(0.3)
        assert thread.is_alive() and server.requests == []
        assert len(lines) == 1 and f'{tmp_path / "datasets/Five"}` is in use by process ' in lines[0]
    thread.join()
    assert (tmp_path / 'datasets/Five/x3/Five_LRx3.lmdb').is_dir()


def test_the_plan(get, server, tmp_path, catalog):
    out = tmp_path / 'datasets'
    steps = plan(['Both', 'Five', 'Grey'], out, (2, 3), catalog=catalog)
    assert [(step.dataset, step.kind, step.target.name, step.done) for step in steps] == [
        ('Both', 'download', 'big.zip', False),
        ('Both', 'download', 'more.tar', False),
        ('Both', 'unpack', 'HR', False),
        ('Both', 'lmdb', 'Both', False),
        ('Five', 'download', 'bench.tar.gz', False),
        ('Five', 'unpack', 'HR', False),
        ('Five', 'lmdb', 'x2', False),
        ('Five', 'lmdb', 'x3', False),
        ('Grey', 'download', 'bench.tar.gz', True),
        ('Grey', 'unpack', 'HR', False),
        ('Grey', 'lmdb', 'x2', False),
        ('Grey', 'lmdb', 'x3', False),
    ]
    assert [step.bytes for step in steps[:2]] == [len(FILES['big.zip']), 20_000]
    assert (server.requests, out.exists(), home().exists()) == ([], False, False)
    get('Both')
    assert all(step.done and not step.bytes for step in plan(['Both'], out, (2, 3), catalog=catalog))
    kinds = [step.kind for step in plan(['Five'], out, (2,), lmdb=False, source=out / 'Both/HR', catalog=catalog)]
    assert kinds == ['copy']
    with pytest.raises(CompSRTError, match='`scale` must be at least 2'):
        plan(['Five'], out, (), catalog=catalog)
