"""Building the C++ kernels: once, atomically, and without failing the run."""

import ctypes
import os
import stat
import subprocess

import pytest

from compsrt_basicsr.integer import cpp_kernels, kernel_build
from compsrt_basicsr.integer.arithmetic import is_exact


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty cache folder; loaded kernels are forgotten."""
    monkeypatch.setenv('COMPSRT_HOME', str(tmp_path / 'home'))
    monkeypatch.delenv(kernel_build.SWITCH, raising=False)
    kernel_build.compiled.cache_clear()
    yield tmp_path / 'home' / 'kernels'
    kernel_build.compiled.cache_clear()


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
    monkeypatch.setattr(kernel_build, 'compile_kernels', lambda *_: pytest.fail('compiled again'))
    assert kernel_build.compiled() is not None


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

    monkeypatch.setattr(kernel_build, 'compile_kernels', compile_again)
    assert kernel_build.compiled() is not None
    assert library.read_bytes() == whole


def test_without_a_compiler(home, monkeypatch, caplog):
    monkeypatch.setenv('PATH', '')
    monkeypatch.delenv('CXX', raising=False)
    assert kernel_build.compiled() is kernel_build.compiled() is None
    assert len(caplog.messages) == 1 and 'No C++ compiler' in caplog.messages[0]


def test_switched_off(home, monkeypatch, caplog):
    monkeypatch.setenv('COMPSRT_KERNELS', '0')
    assert kernel_build.compiled() is None
    assert len(caplog.messages) == 1 and 'COMPSRT_KERNELS=0' in caplog.messages[0]
    assert not home.exists()


def test_failing_compiler(home, tmp_path, monkeypatch, caplog):
    refusing = 'case "$*" in *--version*) echo 1;; *) echo "no space left" >&2; exit 1;; esac'
    monkeypatch.setenv('CXX', script(tmp_path / 'cxx', refusing))
    assert kernel_build.compiled() is None
    assert len(caplog.messages) == 1 and 'no space left' in caplog.messages[0]
    assert [path.suffix for path in home.iterdir()] == ['.lock']  # no partial library


def test_folder_that_cannot_be_created(tmp_path, home, monkeypatch, caplog):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('COMPSRT_HOME', str(tmp_path / 'file'))
    monkeypatch.setenv('CXX', script(tmp_path / 'cxx', 'echo 1'))
    assert kernel_build.compiled() is None
    assert len(caplog.messages) == 1


def test_another_compiler_is_another_build(home, tmp_path):
    compilers = [script(tmp_path / name, f'echo {name}') for name in ('first', 'second')]
    first, second = map(kernel_build.build_key, compilers)
    assert first != second == kernel_build.build_key(compilers[1])


def test_compiler_without_the_tuning_flag(tmp_path):
    """Some compilers only know -mcpu=native, or neither flag; the output is the last argument."""
    picky = 'case "$*" in *native*) exit 1;; *) for last; do :; done; echo built > "$last";; esac'
    kernel_build.compile_kernels(script(tmp_path / 'cxx', picky), tmp_path / 'kernels.so')
    assert (tmp_path / 'kernels.so').read_text() == 'built\n'


@pytest.mark.integration
@pytest.mark.parametrize('march', ['x86-64', 'x86-64-v3', 'x86-64-v4'])
def test_every_form_of_the_product_is_exact(tmp_path, march, kernel_home):
    """Without VNNI the codes have 16 or 32 bits; this compiles each form."""
    flags = (f'-march={march}',)
    try:
        kernel_build.compile_kernels(kernel_build.find_compiler(), tmp_path / 'kernels.so', (flags,))
    except subprocess.CalledProcessError:
        pytest.skip(f'no compiler for {march}')
    needed = {'x86-64': 'sse2', 'x86-64-v3': 'avx2', 'x86-64-v4': 'avx512bw'}[march]
    if needed not in kernel_build._processor():
        pytest.skip(f'this machine lacks {needed}')
    library = cpp_kernels.bind(ctypes.CDLL(str(tmp_path / 'kernels.so')))
    for k, n in ((1, 1), (10, 64), (60, 60), (61, 17), (120, 60)):
        assert is_exact(lambda a, w: cpp_kernels.product(library, a, w), k, n)
