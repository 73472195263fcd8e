"""Building of the C++ kernels: compiled at first use by the system's compiler, cached, and loaded with ctypes.

Installation compiles nothing. Without a compiler, `compiled` returns None and torch computes instead.
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

from compsrt_basicsr.hub.home import home
from compsrt_basicsr.kernels.signatures import SIGNATURES, bind
from compsrt_basicsr.kernels.trust import is_ours, is_whole, keep_others_out, secure_folder
from compsrt_basicsr.utils.atomic_write import atomic_path
from compsrt_basicsr.utils.lock import locked
from compsrt_basicsr.utils.log import logger

SOURCES = Path(__file__).parent / 'sources'
SWITCH = 'COMPSRT_KERNELS'
FLAGS = ('-O3', '-std=c++17', '-fPIC', '-shared', '-w')
TUNING = (('-march=native',), ('-mcpu=native',), ())  # tried in this order until the compiler accepts one
BUILD_SECONDS = 300
_LONGEST_REASON = 300  # characters of a compiler's message


def cache_folder() -> Path:
    """Returns the folder of compiled kernels, in `$COMPSRT_HOME` or the platform's cache folder."""
    return home() / 'kernels'


@lru_cache(maxsize=1)
def compiled() -> ctypes.CDLL | None:
    """Loads the kernels, building them if needed; returns None with a warning if that fails or is switched off."""
    if os.environ.get(SWITCH, '1') == '0':
        logger.warning(f'The C++ kernels are switched off ({SWITCH}=0): torch computes instead.')
        return None
    compiler = find_compiler()
    if compiler is None:
        logger.warning('No C++ compiler found (c++, g++, clang++ or $CXX): torch computes instead.')
        return None
    try:
        return _load_or_build(compiler)
    except (OSError, ValueError, AttributeError, subprocess.SubprocessError) as error:
        logger.warning(f'The C++ kernels cannot be used ({_reason(error)}): torch computes instead.')
        return None


def find_compiler() -> str | None:
    """Returns the path of `$CXX`, or of the first of c++, g++ and clang++ that exists."""
    names = [os.environ['CXX']] if os.environ.get('CXX') else ['c++', 'g++', 'clang++']
    return next((path for path in map(shutil.which, names) if path), None)


def build_key(compiler: str) -> str:
    """Hashes sources, compiler, flags and the processor's instruction sets, so that machines can share a cache."""
    digest = hashlib.sha256(repr((FLAGS, TUNING, platform.platform(), _processor())).encode())
    version = subprocess.run([compiler, '--version'], capture_output=True, check=True, timeout=60)
    digest.update(version.stdout)
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
            result = subprocess.run(command, capture_output=True, timeout=BUILD_SECONDS)
            if result.returncode == 0:
                keep_others_out(temporary)
                break
            if number == len(tuning) - 1:
                result.check_returncode()


def _load_or_build(compiler: str) -> ctypes.CDLL:
    folder = cache_folder()
    secure_folder(folder)
    target = folder / f'kernels-{build_key(compiler)}.so'
    if not _is_ready(target):  # asked without the lock first: a cache that is ready may be read-only
        with locked(f'{target}.lock', f'`{target}`', waiting=logger.info):
            if not _is_ready(target):
                _build(compiler, target)
    return bind(ctypes.CDLL(str(target)))


def _build(compiler: str, target: Path) -> None:
    logger.info(f'Compiling the C++ kernels into {target}.')
    checksum = _checksum(target)
    checksum.unlink(missing_ok=True)
    compile_kernels(compiler, target)
    with atomic_path(checksum) as temporary:
        temporary.write_bytes(_sha256(target.read_bytes()))
        keep_others_out(temporary)
    if not _is_ready(target):
        raise OSError(f'`{compiler}` wrote a library that is cut or has no kernels')


def _is_ready(target: Path) -> bool:
    """Returns whether a library is ours, as it was built, whole, and has the kernels; only then it may be loaded."""
    try:
        if not (is_ours(target) and is_ours(_checksum(target))):
            return False
        library = target.read_bytes()
        expected = _checksum(target).read_bytes().strip()
    except OSError:
        return False
    return expected == _sha256(library) and is_whole(library) and all(name.encode() in library for name in SIGNATURES)


def _checksum(target: Path) -> Path:
    return target.with_suffix('.sha256')


def _sha256(library: bytes) -> bytes:
    return hashlib.sha256(library).hexdigest().encode()


def _processor() -> str:
    """Describes the processor's instruction sets as far as the system reports them."""
    try:
        lines = Path('/proc/cpuinfo').read_text(errors='replace').splitlines()
        return next(line for line in lines if line.startswith(('flags', 'Features')))
    except (OSError, StopIteration):
        return f'{platform.machine()} {platform.processor()}'


def _reason(error: Exception) -> str:
    output = getattr(error, 'stderr', None) or str(error)
    text = output.decode(errors='replace') if isinstance(output, bytes) else output
    line = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    return ''.join(character for character in line if character.isprintable())[:_LONGEST_REASON]
