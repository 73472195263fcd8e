"""Building the C++ kernels: once, atomically, and without failing the run."""

import ctypes
import hashlib
import os
import stat
import subprocess

import pytest

from compsrt_basicsr.integer import cpp_kernels
from compsrt_basicsr.integer.arithmetic import is_exact
from compsrt_basicsr.kernels import build, signatures, trust
from compsrt_basicsr.utils.atomic_write import atomic_path


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty cache folder; loaded kernels are forgotten."""
    monkeypatch.setenv('COMPSRT_HOME', str(tmp_path / 'home'))
    monkeypatch.delenv(build.SWITCH, raising=False)
    build.compiled.cache_clear()
    yield tmp_path / 'home' / 'kernels'
    build.compiled.cache_clear()


@pytest.fixture
def built(kernel_home, home):
    """A cache folder that holds the kernels built for this session."""
    home.mkdir(parents=True)
    for path in (kernel_home / 'kernels').iterdir():
        (home / path.name).write_bytes(path.read_bytes())
    return home


def script(path, text):
    """A program that poses as a compiler."""
    path.write_text(f'#!/bin/sh\n{text}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_kernels_are_built_once(built, monkeypatch):
    monkeypatch.setattr(build, 'compile_kernels', lambda *_: pytest.fail('compiled again'))
    assert build.compiled() is not None


@pytest.mark.parametrize(
    'damage', [lambda data: data[: len(data) // 2], lambda data: b'', lambda data: data[:-1] + b'?']
)
def test_damaged_library_is_built_again(built, monkeypatch, damage):
    (library,) = built.glob('*.so')
    whole = library.read_bytes()
    library.write_bytes(damage(whole))

    def compile_again(compiler, target):
        target.with_suffix('.new').write_bytes(whole)
        os.replace(target.with_suffix('.new'), target)

    monkeypatch.setattr(build, 'compile_kernels', compile_again)
    assert build.compiled() is not None
    assert library.read_bytes() == whole


# Whom the cache belongs to


@pytest.fixture
def builds(built, monkeypatch):
    """The targets that were compiled anew in the cache of `built`; compiling writes the whole library again."""
    (library,) = built.glob('*.so')
    whole, targets = library.read_bytes(), []

    def compile_again(compiler, target):
        targets.append(target)
        with atomic_path(target) as temporary:
            temporary.write_bytes(whole)

    monkeypatch.setattr(build, 'compile_kernels', compile_again)
    return targets


def give_away(path, monkeypatch):
    """Makes a file or folder that of another user: by its owner if we are root, else by making us another user."""
    if os.geteuid() == 0:
        os.chown(path, 4321, -1)
    else:
        monkeypatch.setattr(os, 'geteuid', lambda: path.stat().st_uid + 1)


def test_a_folder_of_another_user_is_not_trusted(built, builds, monkeypatch, caplog):
    give_away(built, monkeypatch)
    assert build.compiled() is None
    assert not builds
    assert len(caplog.messages) == 1 and 'kernels` belongs to another user' in caplog.messages[0]


def test_a_folder_that_stays_writable_for_others_is_not_trusted(built, builds, monkeypatch, caplog):
    """As on a file system without permissions."""
    built.chmod(0o777)
    monkeypatch.setattr(trust, 'keep_others_out', lambda path: None)
    assert build.compiled() is None
    assert not builds
    assert len(caplog.messages) == 1 and 'can be written by others' in caplog.messages[0]


def test_an_own_folder_is_closed_and_what_others_could_write_is_built_again(built, builds):
    built.chmod(0o777)
    (library,) = built.glob('*.so')
    library.chmod(0o666)
    assert build.compiled() is not None
    assert builds == [library]
    assert not any(
        stat.S_IMODE(path.stat().st_mode) & 0o022 for path in (built, library, library.with_suffix('.sha256'))
    )


@pytest.mark.parametrize('suffix', ['.so', '.sha256'])
@pytest.mark.parametrize('kind', ['link', 'writable', 'foreign'])
def test_a_file_that_others_could_have_made_is_built_again(built, builds, suffix, kind, tmp_path, monkeypatch):
    (library,) = built.glob('*.so')
    file = library.with_suffix(suffix)
    if kind == 'link':
        (tmp_path / 'elsewhere').write_bytes(file.read_bytes())
        file.unlink()
        file.symlink_to(tmp_path / 'elsewhere')
    elif kind == 'writable':
        file.chmod(0o664)
    elif os.geteuid() == 0:
        os.chown(file, 4321, -1)
    else:
        pytest.skip('only root can give a file away')
    assert build.compiled() is not None
    assert builds == [library]


def test_a_read_only_cache_works(built, builds, monkeypatch):
    """Root may write everywhere, so the lock stands for the first thing that cannot be written."""
    monkeypatch.setattr(build, 'locked', lambda *_, **__: pytest.fail('asked for a lock'))
    built.chmod(0o555)
    try:
        assert build.compiled() is not None
    finally:
        built.chmod(0o755)
    assert not builds


# What cannot be loaded


def cut(library):
    return library[: len(library) // 2]


def other_symbols(library):
    return library.replace(b'cs_', b'xx_')


@pytest.mark.parametrize('damage', [cut, lambda library: library[:-1], lambda library: library[:50], other_symbols])
def test_a_library_that_cannot_be_used_is_built_again_though_its_checksum_is_right(built, builds, damage):
    (library,) = built.glob('*.so')
    library.write_bytes(damage(library.read_bytes()))
    library.with_suffix('.sha256').write_text(hashlib.sha256(library.read_bytes()).hexdigest())
    assert build.compiled() is not None
    assert builds == [library]


def test_a_checksum_that_is_no_text_is_written_again(built, builds):
    (library,) = built.glob('*.so')
    library.with_suffix('.sha256').write_bytes(b'\xff\xfe\x80')
    assert build.compiled() is not None
    assert builds == [library]
    assert library.with_suffix('.sha256').read_text() == hashlib.sha256(library.read_bytes()).hexdigest()


@pytest.mark.parametrize('damage', [cut, other_symbols])
def test_a_compiler_whose_library_cannot_be_used(built, monkeypatch, caplog, damage):
    """As on a full disk: torch is used, and a cut library is never mapped."""
    (library,) = built.glob('*.so')
    broken = damage(library.read_bytes())
    library.unlink()
    monkeypatch.setattr(build, 'compile_kernels', lambda compiler, target: target.write_bytes(broken))
    assert build.compiled() is None
    assert len([message for message in caplog.messages if 'torch computes instead' in message]) == 1


def test_a_library_that_only_mentions_its_kernels(built, monkeypatch, caplog, tmp_path):
    """The system's loader has the last word; no kernel is called."""
    names = b' '.join(name.encode() for name in signatures.SIGNATURES)
    monkeypatch.setattr(build, 'compile_kernels', lambda compiler, target: target.write_bytes(names))
    next(built.glob('*.so')).unlink()
    assert build.compiled() is None
    assert len([message for message in caplog.messages if 'torch computes instead' in message]) == 1


def test_a_compiler_that_writes_no_utf8(home, tmp_path, monkeypatch, caplog):
    noisy = r'case "$*" in *--version*) printf "\377\376";; *) printf "\377 broken \033[2J" >&2; exit 1;; esac'
    monkeypatch.setenv('CXX', script(tmp_path / 'cxx', noisy))
    assert build.compiled() is None
    assert len(caplog.messages) == 1 and 'broken' in caplog.messages[0] and caplog.messages[0].isprintable()


def test_without_a_compiler(home, monkeypatch, caplog):
    monkeypatch.setenv('PATH', '')
    monkeypatch.delenv('CXX', raising=False)
    assert build.compiled() is build.compiled() is None
    assert len(caplog.messages) == 1 and 'No C++ compiler' in caplog.messages[0]


def test_switched_off(home, monkeypatch, caplog):
    monkeypatch.setenv('COMPSRT_KERNELS', '0')
    assert build.compiled() is None
    assert len(caplog.messages) == 1 and 'COMPSRT_KERNELS=0' in caplog.messages[0]
    assert not home.exists()


def test_failing_compiler(home, tmp_path, monkeypatch, caplog):
    refusing = 'case "$*" in *--version*) echo 1;; *) echo "no space left" >&2; exit 1;; esac'
    monkeypatch.setenv('CXX', script(tmp_path / 'cxx', refusing))
    assert build.compiled() is None
    assert len(caplog.messages) == 1 and 'no space left' in caplog.messages[0]
    assert not home.exists() or not list(home.iterdir())  # no partial library, no lock


def test_folder_that_cannot_be_created(tmp_path, home, monkeypatch, caplog):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('COMPSRT_HOME', str(tmp_path / 'file'))
    monkeypatch.setenv('CXX', script(tmp_path / 'cxx', 'echo 1'))
    assert build.compiled() is None
    assert len(caplog.messages) == 1


def test_another_compiler_is_another_build(home, tmp_path):
    compilers = [script(tmp_path / name, f'echo {name}') for name in ('first', 'second')]
    first, second = map(build.build_key, compilers)
    assert first != second == build.build_key(compilers[1])


def test_compiler_without_the_tuning_flag(tmp_path):
    """Some compilers only know -mcpu=native, or neither flag; the output is the last argument."""
    picky = 'case "$*" in *native*) exit 1;; *) for last; do :; done; echo built > "$last";; esac'
    build.compile_kernels(script(tmp_path / 'cxx', picky), tmp_path / 'kernels.so')
    assert (tmp_path / 'kernels.so').read_text() == 'built\n'


@pytest.mark.integration
@pytest.mark.parametrize('march', ['x86-64', 'x86-64-v3', 'x86-64-v4'])
def test_every_form_of_the_product_is_exact(tmp_path, march, kernel_home):
    """Without VNNI the codes have 16 or 32 bits; this compiles each form."""
    flags = (f'-march={march}',)
    try:
        build.compile_kernels(build.find_compiler(), tmp_path / 'kernels.so', (flags,))
    except subprocess.CalledProcessError:
        pytest.skip(f'no compiler for {march}')
    needed = {'x86-64': 'sse2', 'x86-64-v3': 'avx2', 'x86-64-v4': 'avx512bw'}[march]
    if needed not in build._processor():
        pytest.skip(f'this machine lacks {needed}')
    library = signatures.bind(ctypes.CDLL(str(tmp_path / 'kernels.so')))
    for k, n in ((1, 1), (10, 64), (60, 60), (61, 17), (120, 60)):
        assert is_exact(lambda a, w: cpp_kernels.product(library, a, w), k, n)
