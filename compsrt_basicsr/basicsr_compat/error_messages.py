"""The message of a command that fails: one sentence where the user can fix it, else the traceback.

The rules below recognise errors of BasicSR, torch, OpenCV and the system by where they were raised and what they say.
`stage` adds what was being done. An error that no rule recognises is an error of a program, and keeps its traceback.
"""

from __future__ import annotations

import contextlib
import errno
import linecache
import re
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

from compsrt_basicsr.errors import CompSRTError, suggestion

_WORKER_TRACEBACK = f'{CompSRTError.__module__}.{CompSRTError.__name__}: '
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
_REGISTRIES = {
    'arch': ('ARCH_REGISTRY', 'network'),
    'dataset': ('DATASET_REGISTRY', 'data set'),
    'loss': ('LOSS_REGISTRY', 'loss'),
    'metric': ('METRIC_REGISTRY', 'metric'),
    'model': ('MODEL_REGISTRY', 'model'),
}


def sentence(error: BaseException) -> str | None:
    """Returns the sentence for an error that the user can fix, or None for an error of the program.

    Args:
        error: What ended the command.
    """
    if isinstance(error, CompSRTError):
        # From a DataLoader worker it comes with the worker's traceback as its message.
        return str(error).rsplit(_WORKER_TRACEBACK, 1)[-1].strip()
    if isinstance(error, MemoryError) or _is_torch_out_of_memory(error):
        return 'Out of memory: lower `batch_size_per_gpu` or `gt_size`, or use smaller images.'
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        place = f' while writing `{error.filename}`' if error.filename else ''
        return f'The disk is full{place}: free some space and resume with --auto_resume.'
    return explain(error) if isinstance(error, Exception) else None


Rule = Callable[[Exception], str | None]


@contextlib.contextmanager
def stage(culprit: str, *rules: Rule) -> Iterator[None]:
    """Turns an error of the block that a rule recognises into a sentence about a culprit.

    Args:
        culprit: What the block works on, such as 'The data set `Set5`'.
        rules: Rules of this stage alone, which come before those of every stage; each returns what is wrong and what
            helps, or None.

    Raises:
        CompSRTError: For such an error.
    """
    try:
        yield
    except CompSRTError:
        raise
    except Exception as error:
        text = next((text for rule in (*rules, explain) if (text := rule(error))), None)
        if text is None:
            raise
        raise CompSRTError(f'{culprit}: {text}') from error


def explain(error: Exception) -> str | None:
    """Returns what is wrong and what helps, by the rules of every stage; None for an error of a program."""
    rules: tuple[Rule, ...] = (
        _system,
        _unwritten_image,
        _absent_option,
        _absent_name,
        _arguments,
        _worker,
        _wandb,
        _refusal,
    )
    return next((text for rule in rules if (text := rule(error))), None)


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
            f'{str(error).splitlines()[0].rstrip(". ")}: workers are killed when memory, or shared memory (/dev/shm), '
            'runs out; lower `num_worker_per_gpu`.'
        )
    return None


def _wandb(error: Exception) -> str | None:
    """Recognises what Weights & Biases reports, such as a missing login."""
    if not type(error).__module__.startswith('wandb.'):
        return None
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip('.')
    return f'Weights & Biases: {reason}: give `wandb login`, or set `logger.wandb.project` to `~`.'


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
    trace: TracebackType | None = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return None if trace is None else (trace.tb_frame, trace.tb_lineno)


def _is_basicsrs(frame: FrameType) -> bool:
    return str(frame.f_globals.get('__name__', '')).partition('.')[0] == 'basicsr'


def _line(place: Place) -> str:
    return linecache.getline(place[0].f_code.co_filename, place[1])


def _name(frame: FrameType) -> str:
    owner = frame.f_locals.get('self')
    return type(owner).__name__ if owner is not None else frame.f_code.co_name


def _is_torch_out_of_memory(error: BaseException) -> bool:
    """Tells whether torch ran out of memory: on the CPU it raises a bare RuntimeError."""
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        words in text for words in ('out of memory', "can't allocate memory", 'not enough memory')
    )
