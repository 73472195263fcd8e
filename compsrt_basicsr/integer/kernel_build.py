"""Building of the C++ kernels: compiled at first use by the system's compiler, cached, and loaded with ctypes.

Installation compiles nothing. Without a compiler, `compiled` returns None and integer execution uses torch instead.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

from compsrt_basicsr.hub.home import home
from compsrt_basicsr.utils.atomic_write import atomic_path
from compsrt_basicsr.utils.log import logger

SOURCES = Path(__file__).parent / 'kernels'
SWITCH = 'COMPSRT_KERNELS'
FLAGS = ('-O3', '-std=c++17', '-fPIC', '-shared', '-w')
TUNING = (('-march=native',), ('-mcpu=native',), ())  # tried in this order until the compiler accepts one
BUILD_SECONDS = 300


def cache_folder() -> Path:
    """Returns the folder of compiled kernels, in `$COMPSRT_HOME` or the platform's cache folder."""
    return home() / 'kernels'


@lru_cache(maxsize=1)
def compiled() -> ctypes.CDLL | None:
    """Loads the kernels, building them if needed; returns None with a warning if that fails or is switched off."""
    if os.environ.get(SWITCH, '1') == '0':
        logger.warning(f'The C++ kernels are switched off ({SWITCH}=0): integer execution uses torch.')
        return None
    compiler = find_compiler()
    if compiler is None:
        logger.warning('No C++ compiler found (c++, g++, clang++ or $CXX): integer execution uses torch.')
        return None
    try:
        return _load_or_build(compiler)
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning(f'The C++ kernels could not be built ({_reason(error)}): integer execution uses torch.')
        return None


def find_compiler() -> str | None:
    """Returns the path of `$CXX`, or of the first of c++, g++ and clang++ that exists."""
    names = [os.environ['CXX']] if os.environ.get('CXX') else ['c++', 'g++', 'clang++']
    return next((path for path in map(shutil.which, names) if path), None)


def build_key(compiler: str) -> str:
    """Hashes sources, compiler, flags and the processor's instruction sets, so that machines can share a cache."""
    digest = hashlib.sha256(repr((FLAGS, TUNING, platform.platform(), _processor())).encode())
    version = subprocess.run([compiler, '--version'], capture_output=True, text=True, check=True, timeout=60)
    digest.update(version.stdout.encode())
    for path in sorted(SOURCES.iterdir()):
        if path.suffix in ('.h', '.cpp'):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:20]


def compile_kernels(compiler: str, target: Path, tuning: tuple[tuple[str, ...], ...] = TUNING) -> None:
    """Compiles the kernels into `target`, atomically.

    Args:
        compiler: path of the compiler.
        target: the shared library to write.
        tuning: sets of flags to try, in order.

    Raises:
        subprocess.CalledProcessError: if the compiler fails with every set of flags; `stderr` has its last message.
    """
    with atomic_path(target) as temporary:
        for number, flags in enumerate(tuning):
            command = [compiler, *FLAGS, *flags, str(SOURCES / 'kernels.cpp'), '-o', str(temporary)]
            result = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS)
            if result.returncode == 0:
                break
            if number == len(tuning) - 1:
                result.check_returncode()


def _load_or_build(compiler: str) -> ctypes.CDLL:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f'kernels-{build_key(compiler)}.so'
    checksum = target.with_suffix('.sha256')
    with FileLock(f'{target}.lock', timeout=2 * BUILD_SECONDS):
        if not (target.exists() and checksum.exists() and checksum.read_text() == _sha256(target)):
            logger.info(f'Compiling the C++ kernels into {target}.')
            checksum.unlink(missing_ok=True)
            compile_kernels(compiler, target)
            checksum.write_text(_sha256(target))
    return ctypes.CDLL(str(target))


def _sha256(path: Path) -> str:
    """Hashes a library; checked before loading, because a truncated library can crash the process."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _processor() -> str:
    """Describes the processor's instruction sets as far as the system reports them."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        return next(line for line in lines if line.startswith(('flags', 'Features')))
    except (OSError, StopIteration):
        return f'{platform.machine()} {platform.processor()}'


def _reason(error: Exception) -> str:
    text = getattr(error, 'stderr', None) or str(error)
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__
