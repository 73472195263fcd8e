"""Archives: wanted members are unpacked completely, hostile ones refused, and nothing is written elsewhere."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import os
import shutil
import stat
import struct
import tarfile
import zipfile
from collections import namedtuple

import numpy as np
import pytest

from compsrt_basicsr.data import archives
from compsrt_basicsr.data.archives import extract
from compsrt_basicsr.errors import CompSRTError

FILES = {f'set/HR/{n}.png': np.random.default_rng(n).bytes(3000 + n) for n in range(5)}
ROOMY = 2**24  # bytes
KINDS = ['zip', 'tar', 'tar.gz', 'tar.bz2', 'tar.xz']


class KilledError(BaseException):
    """Stands in for the end of the process."""


def wanted(name):
    return name.startswith('set/HR/')


def anything(name):
    return True


def write(path, files):
    """Makes an archive of the kind that its name says."""
    if path.suffix == '.zip':
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as file:
            for name, content in files.items():
                file.writestr(name, content)
        return path
    with tarfile.open(path, f'w:{path.suffix[1:] if path.suffix != ".tar" else ""}') as file:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def write_tar(path, *infos):
    """Makes a tar of headers alone; what they announce is not there."""
    with tarfile.open(path, 'w') as file:
        for info in infos:
            file.addfile(info)
    return path


def special(name, kind, link=''):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def expected(files=FILES):
    return {name.rsplit('/', 1)[-1]: data for name, data in files.items() if wanted(name)}


@pytest.mark.parametrize('kind', KINDS)
def test_the_wanted_members_come_out(tmp_path, kind):
    path = write(tmp_path / f'a.{kind}', {**FILES, 'set/LR/0.png': b'no', 'readme.txt': b'no'})
    assert sorted(extract(path, tmp_path / 'new/out', wanted, ROOMY)) == sorted(expected())
    assert content(tmp_path / 'new/out') == expected()


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('count', [0, 1, 4])
def test_killed_and_resumed(tmp_path, monkeypatch, kind, count):
    path, out = write(tmp_path / f'a.{kind}', FILES), tmp_path / 'out'
    replace, calls = os.replace, []

    def kill(source, target):
        calls.append(target)
        if len(calls) > count:
            raise KilledError
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, 'replace', kill)
        with pytest.raises(KilledError):
            extract(path, out, wanted, ROOMY)
    assert len(content(out)) == count
    if count:
        (out / '0.png').write_bytes(b'x' * 3000)  # the right size, another content
    extract(path, out, wanted, ROOMY)
    assert content(out) == expected()


@pytest.mark.parametrize('kind', ['zip', 'tar'])
def test_what_is_there_is_not_written_again(tmp_path, kind):
    path, out = write(tmp_path / f'a.{kind}', FILES), tmp_path / 'out'
    extract(path, out, wanted, ROOMY)
    before = {file.name: file.stat().st_ino for file in out.iterdir()}
    (out / '2.png').write_bytes(b'short')
    extract(path, out, wanted, ROOMY)
    after = {file.name: file.stat().st_ino for file in out.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {'2.png'}
    assert content(out) == expected()


@pytest.mark.parametrize('kind', ['zip', 'tar', 'tar.gz'])
@pytest.mark.parametrize(
    ('name', 'reason'),
    [
        ('/etc/x.png', 'absolute'),
        ('\\x.png', 'absolute'),
        ('C:/x.png', 'absolute'),
        ('C:x.png', 'absolute'),
        ('set/HR/../../../x.png', 'leads out'),
        ('..\\x.png', 'leads out'),
        ('set/HR/a\\b.png', 'characters'),
        ('set/HR/a\nb.png', 'characters'),
    ],
)
def test_names_that_escape(tmp_path, kind, name, reason):
    path = write(tmp_path / f'a.{kind}', {**FILES, name: b'evil'})
    if kind == 'zip' and '\\' in name:  # zipfile writes what it is given
        assert name.encode() in path.read_bytes()
    before = sorted(tmp_path.rglob('*'))
    with pytest.raises(CompSRTError, match=f'refused: .*{reason}'):
        extract(path, tmp_path / 'out', anything, ROOMY)
    assert sorted(tmp_path.rglob('*')) == before


@pytest.mark.parametrize(
    ('info', 'refused'),
    [
        (special('set/HR/a.png', tarfile.SYMTYPE, '/etc/passwd'), True),
        (special('set/HR/a.png', tarfile.SYMTYPE, '../../../x'), True),
        (special('set/HR', tarfile.SYMTYPE, '..'), False),
        (special('set/HR/a.png', tarfile.LNKTYPE, 'set/HR/0.png'), False),
        (special('set/HR/a.png', tarfile.FIFOTYPE), True),
        (special('set/HR/a.png', tarfile.CHRTYPE), True),
    ],
    ids=['absolute link', 'link out', 'folder link', 'hard link', 'pipe', 'device'],
)
@pytest.mark.parametrize('has_filter', [True, False])
def test_links_and_devices_in_a_tar(tmp_path, monkeypatch, info, refused, has_filter):
    """None is ever made. Python's `data` filter refuses most; older versions lack it."""
    if not has_filter:
        monkeypatch.delattr(tarfile, 'data_filter', raising=False)
    path = write_tar(tmp_path / 'a.tar', info)
    if refused and hasattr(tarfile, 'data_filter'):
        with pytest.raises(CompSRTError, match=r'refused: .*set/HR/a'):
            extract(path, tmp_path / 'out', wanted, ROOMY)
        assert not (tmp_path / 'out').exists()
    else:
        assert extract(path, tmp_path / 'out', anything, ROOMY) == []
        assert content(tmp_path / 'out') == {}


def test_a_link_in_a_zip_becomes_a_plain_file(tmp_path):
    info = zipfile.ZipInfo('set/HR/a.png')
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as file:
        file.writestr(info, '/etc/passwd')
    extract(tmp_path / 'a.zip', tmp_path / 'out', wanted, ROOMY)
    assert not (tmp_path / 'out/a.png').is_symlink()
    assert content(tmp_path / 'out') == {'a.png': b'/etc/passwd'}


@pytest.mark.parametrize('kind', ['zip', 'tar'])
@pytest.mark.parametrize('names', [('x/a.png', 'y/a.png'), ('A.png', 'a.PNG'), ('\u00e9.png', 'e\u0301.png')])
@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_names_that_collide(tmp_path, kind, names):
    path = write(tmp_path / f'a.{kind}', dict.fromkeys(names, b'1'))
    with pytest.raises(CompSRTError, match=r'refused: .* would be one file'):
        extract(path, tmp_path / 'out', anything, ROOMY)


@pytest.mark.parametrize('kind', KINDS)
def test_more_than_may_come_out(tmp_path, monkeypatch, kind):
    path = write(tmp_path / f'a.{kind}', FILES)
    with pytest.raises(CompSRTError, match=r'refused: .* 10,000 bytes'):
        extract(path, tmp_path / 'out', wanted, 10_000)
    monkeypatch.setattr(archives, 'MOST_MEMBERS', 4)
    with pytest.raises(CompSRTError, match=r'refused: .* more than 4 members'):
        extract(path, tmp_path / 'out', wanted, ROOMY)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('kind', ['zip', 'tar.gz', 'tar.bz2', 'tar.xz'])
def test_a_bomb(tmp_path, kind, monkeypatch):
    """Also where only what is not wanted is large."""
    monkeypatch.setattr(archives, '_ALWAYS_ALLOWED', 2**16)
    path = write(tmp_path / f'a.{kind}', {**FILES, 'other': bytes(2**23)})
    with pytest.raises(CompSRTError, match=r'refused: it unpacks to more than .* far more'):
        extract(path, tmp_path / 'out', wanted, ROOMY)


def test_a_zip_that_declares_less_than_it_holds(tmp_path):
    path = write(tmp_path / 'a.zip', {'set/HR/a.png': bytes(100_000)})
    path.write_bytes(path.read_bytes().replace(struct.pack('<I', 100_000), struct.pack('<I', 10)))
    with pytest.raises(CompSRTError, match='damaged or truncated'):
        extract(path, tmp_path / 'out', wanted, ROOMY)
    assert content(tmp_path / 'out') == {}


def test_an_encrypted_zip(tmp_path):
    path = write(tmp_path / 'a.zip', {'set/HR/a.png': b'x'})
    data = bytearray(path.read_bytes())
    data[data.index(b'PK\x01\x02') + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(CompSRTError, match='is encrypted'):
        extract(path, tmp_path / 'out', wanted, ROOMY)


@pytest.mark.parametrize('packer', [None, gzip.compress, bz2.compress])
def test_a_header_that_would_fill_the_memory(tmp_path, packer):
    info = tarfile.TarInfo('././@PaxHeader')
    info.type, info.size = tarfile.XHDTYPE, 2**24
    data = info.tobuf() + np.random.default_rng(0).bytes(1000)
    (tmp_path / 'a.tar').write_bytes(packer(data) if packer else data)
    with pytest.raises(CompSRTError, match='a header is longer'):
        extract(tmp_path / 'a.tar', tmp_path / 'out', wanted, ROOMY)


def test_a_sparse_member(tmp_path):
    info = special('set/HR/a.png', tarfile.GNUTYPE_SPARSE)
    buffer = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    buffer[483:495] = b'77777777777\0'  # real size
    buffer[148:156] = b' ' * 8
    buffer[148:156] = b'%06o\0 ' % sum(buffer)
    (tmp_path / 'a.tar').write_bytes(bytes(buffer) + bytes(1024))
    with pytest.raises(CompSRTError, match='refused: it unpacks to more than'):
        extract(tmp_path / 'a.tar', tmp_path / 'out', wanted, ROOMY)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('part', [0, 0.3, 0.6, 0.9])
def test_a_truncated_archive_is_a_sentence_or_lacks_files(tmp_path, kind, part):
    """A plain tar that is cut between two members, or in its padding, looks complete; the caller counts the files."""
    path = write(tmp_path / f'a.{kind}', FILES)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    try:
        extract(path, tmp_path / 'out', wanted, ROOMY)
        found = content(tmp_path / 'out')
        assert kind == 'tar' and found.items() <= expected().items()
        assert len(found) < len(FILES) or part == 0.9
    except CompSRTError as error:
        assert 'damaged or truncated' in str(error)


@pytest.mark.parametrize('kind', ['zip', 'tar.gz', 'tar.bz2', 'tar.xz'])
def test_a_flipped_bit_is_noticed(tmp_path, kind):
    """Except in a plain tar, which has no checksum of contents; the download has one."""
    path = write(tmp_path / f'a.{kind}', FILES)
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)
    with pytest.raises(CompSRTError, match='damaged or truncated'):
        extract(path, tmp_path / 'out', wanted, ROOMY)


def test_what_is_no_archive(tmp_path):
    (tmp_path / 'a.zip').write_bytes(b'<html>not found</html>' * 100)
    with pytest.raises(CompSRTError, match=r'a\.zip` is damaged or truncated'):
        extract(tmp_path / 'a.zip', tmp_path / 'out', wanted, ROOMY)


def test_links_in_the_target_lead_nowhere(tmp_path):
    path, out, other = write(tmp_path / 'a.zip', FILES), tmp_path / 'out', tmp_path / 'other'
    other.mkdir()
    (other / 'precious').write_bytes(b'precious')
    out.mkdir()
    (out / '0.png').symlink_to(other / 'precious')
    os.link(other / 'precious', out / '2.png')
    extract(path, out, wanted, ROOMY)
    assert content(out) == expected()
    assert content(other) == {'precious': b'precious'}
    shutil.rmtree(out)
    out.symlink_to(other)
    with pytest.raises(CompSRTError, match='out` is a link'):
        extract(path, out, wanted, ROOMY)
    assert content(other) == {'precious': b'precious'}


def test_too_little_space_is_reported_before_anything_is_written(tmp_path, monkeypatch):
    path = write(tmp_path / 'a.zip', FILES)
    usage = namedtuple('usage', 'free')
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: usage(15_009))
    with pytest.raises(CompSRTError, match=r'15,010 bytes.* has .*15,009 bytes'):
        extract(path, tmp_path / 'out', wanted, ROOMY)
    assert content(tmp_path / 'out') == {}
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: usage(15_010))
    extract(path, tmp_path / 'out', wanted, ROOMY)


def test_a_disk_that_fills_is_a_sentence_and_can_be_resumed(tmp_path, monkeypatch):
    path, out = write(tmp_path / 'a.zip', FILES), tmp_path / 'out'
    replace = os.replace

    def full(source, target):
        if target.name == '3.png':
            raise OSError(errno.ENOSPC, 'No space left on device', str(target))
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, 'replace', full)
        with pytest.raises(CompSRTError, match=r'is full while `a\.zip`'):
            extract(path, out, wanted, ROOMY)
    assert sorted(content(out)) == ['0.png', '1.png', '2.png']
    extract(path, out, wanted, ROOMY)
    assert content(out) == expected()
