"""Rules that recognise errors which the user can fix, by where they were raised and what they say."""

from __future__ import annotations

import errno
import linecache
import re
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

from compsrt_basicsr.errors import first_line, suggestion

Rule = Callable[[Exception], str | None]

_REMEDIES = {
    errno.EACCES: 'check its permissions, or give the command in a folder where you may write',
    errno.EPERM: 'check its permissions, or give the command in a folder where you may write',
    errno.EROFS: 'give the command in a folder where you may write',
    errno.EEXIST: 'a file stands where a folder is needed, rename it',
    errno.ENOTDIR: 'a file stands where a folder is needed, check the path',
    errno.EISDIR: 'a folder stands where a file is needed, check the path',
    errno.ENAMETOOLONG: 'choose a shorter name',
    errno.ELOOP: 'its links lead back to themselves, check them',
    errno.EMFILE: 'raise the limit with `ulimit -n`, or lower `num_worker_per_gpu`',
    errno.EIO: 'check the disk',
    errno.ESTALE: 'check the network file system',
}
# How code of BasicSR reads an option: opt['val']['suffix'], train_opt['optim_g'].pop('type').
_READS_OPTION = re.compile(r"""opt\w*((?:\[['"]\w+['"]\])*)(?:\[['"](\w+)['"]\]|\.pop\(['"](\w+)['"]\))""")
_ABSENT_NAME = re.compile(r"No object named '(.*)' found in '(\w+)' registry")
_ARGUMENTS = re.compile(
    r'(\w+)(?:\.__init__)?\(\) (?:got an unexpected keyword argument (?P<unknown>\'\w+\')'
    r'|missing \d+ required (?:positional|keyword-only) arguments?: (?P<missing>.*))'
)
# Where BasicSR hands the options of a section to what they name.
_HANDS_OPTIONS_ON = ('build_network', 'build_loss', 'calculate_metric', 'get_optimizer', 'setup_schedulers')
_SHAPES = re.compile(
    r"shape '\[.*\]' is invalid for input|The size of tensor a \(\d+\) must match|shapes cannot be multiplied"
    r'|expected input.* to have \d+ channels|Expected size \d+ but got size \d+'
)
_ARCHS = 'basicsr.archs.'
_REGISTRIES = {
    'arch': ('ARCH_REGISTRY', 'network'),
    'dataset': ('DATASET_REGISTRY', 'data set'),
    'loss': ('LOSS_REGISTRY', 'loss'),
    'metric': ('METRIC_REGISTRY', 'metric'),
    'model': ('MODEL_REGISTRY', 'model'),
}


def explain(error: Exception) -> str | None:
    """Returns what is wrong and what helps, by the rules of every stage; None for an error of a program."""
    return next((text for rule in _RULES if (text := rule(error))), None)


def missing_file(error: Exception) -> str | None:
    """Recognises a file that does not exist, where a stage only opens files that the user has named."""
    if isinstance(error, FileNotFoundError) and error.filename:
        return f'`{error.filename}` does not exist; check the path (it is relative to the working directory).'
    return None


def _system(error: Exception) -> str | None:
    """Recognises what the system refuses for a file."""
    if isinstance(error, OSError) and error.filename and error.errno in _REMEDIES:
        return f'`{error.filename}`: {error.strerror}; {_REMEDIES[error.errno]}.'
    return None


def _unwritten_image(error: Exception) -> str | None:
    """Recognises an image that OpenCV could not write: it says neither which nor why."""
    place = _innermost(error)
    if isinstance(error, OSError) and place and place[0].f_code.co_name == 'imwrite' and _is_basicsrs(place[0]):
        path = place[0].f_locals.get('file_path')
        return f'The image `{path}` could not be written: is the disk full, or the folder not yours to write to?'
    return None


def _absent_option(error: Exception) -> str | None:
    """Recognises an option that BasicSR reads without asking whether it is there."""
    place = _innermost(error)
    if not isinstance(error, KeyError) or not place or not _is_basicsrs(place[0]):
        return None
    for found in _READS_OPTION.findall(_line(place)):
        keys = [*re.findall(r'\w+', found[0]), found[1] or found[2]]
        if error.args and error.args[0] in keys:
            path = '.'.join(keys[: keys.index(error.args[0]) + 1])
            return f'the option `{path}` is missing, which {_name(place[0])} of BasicSR needs; add it to the options.'
    return None


def _absent_name(error: Exception) -> str | None:
    """Recognises a name that no registry of BasicSR has."""
    match = _ABSENT_NAME.search(str(error)) if isinstance(error, KeyError) else None
    if match is None or match[2] not in _REGISTRIES:
        return None
    from basicsr.utils import registry

    attribute, what = _REGISTRIES[match[2]]
    return f'`{match[1]}` is no registered {what}.{suggestion(match[1], getattr(registry, attribute).keys())}'


def _arguments(error: Exception) -> str | None:
    """Recognises options that do not fit the arguments of what they name."""
    place = _innermost(error)
    match = _ARGUMENTS.match(str(error)) if isinstance(error, TypeError) else None
    if match is None or not place or place[0].f_code.co_name not in _HANDS_OPTIONS_ON:
        return None
    called = str(error).split('.__init__')[0].split('(')[0].rpartition('.')[2]
    if match['unknown']:
        return f'`{called}` has no argument `{match["unknown"][1:-1]}`; take it out of the options.'
    return f'`{called}` requires {match["missing"].replace(chr(39), "`")}; add it to the options.'


def _worker(error: Exception) -> str | None:
    """Recognises worker processes of a loader that the system has killed."""
    if isinstance(error, RuntimeError) and str(error).startswith('DataLoader worker (pid'):
        return (
            f'{first_line(error)}: workers are killed when memory, or shared memory (/dev/shm), '
            'runs out; lower `num_worker_per_gpu`.'
        )
    return None


def _network_input(error: Exception) -> str | None:
    """Recognises an input that a network of BasicSR cannot take: its shapes follow from the options."""
    if not isinstance(error, RuntimeError) or not _SHAPES.search(str(error)):
        return None
    frames = (frame for frame, _ in _frames(error) if str(frame.f_globals.get('__name__')).startswith(_ARCHS))
    network = next((frame for frame in frames if frame.f_code.co_name == 'forward'), None)
    if network is None:
        return None
    return (
        f'the network {_name(network)} cannot process its input ({first_line(error)}): make its '
        'arguments fit each other and the images (channels, `window_size`, `embed_dim` a multiple of `num_heads`), and '
        '`gt_size` divided by `scale` a multiple of `window_size`.'
    )


def _wandb(error: Exception) -> str | None:
    """Recognises what Weights & Biases reports, such as a missing login."""
    if not type(error).__module__.startswith('wandb.'):
        return None
    return f'Weights & Biases: {first_line(error)}: give `wandb login`, or set `logger.wandb.project` to `~`.'


def _refusal(error: Exception) -> str | None:
    """Recognises what BasicSR itself refuses: a `raise` or `assert` of its own, with a message."""
    place = _innermost(error)
    if not isinstance(error, (ValueError, AssertionError, NotImplementedError)) or not place:
        return None
    text = ' '.join(' '.join(map(str, error.args)).split())
    if text and _is_basicsrs(place[0]) and re.match(r'\s*(raise|assert)\b', _line(place)):
        return text if text.endswith(('.', '!', '?')) else f'{text}.'
    return None


Place = tuple[FrameType, int]


def _innermost(error: BaseException) -> Place | None:
    """Returns the frame that raised an error, and the number of its line."""
    return next(reversed(list(_frames(error))), None)


def _frames(error: BaseException) -> Iterator[Place]:
    """Yields the frames that an error went through, the outermost first."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next


def _is_basicsrs(frame: FrameType) -> bool:
    return str(frame.f_globals.get('__name__', '')).partition('.')[0] == 'basicsr'


def _line(place: Place) -> str:
    return linecache.getline(place[0].f_code.co_filename, place[1])


def _name(frame: FrameType) -> str:
    owner = frame.f_locals.get('self')
    return type(owner).__name__ if owner is not None else frame.f_code.co_name


_RULES: tuple[Rule, ...] = (
    _system, _unwritten_image, _absent_option, _absent_name, _arguments, _network_input, _worker, _wandb, _refusal
)  # fmt: skip
