"""What all subcommands of `compsrt` share: late imports, and errors in one sentence."""

from __future__ import annotations

import errno
import importlib
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from compsrt_basicsr.errors import CompSRTError, suggestion
from compsrt_basicsr.utils import interruption
from compsrt_basicsr.utils.out_of_memory import OutOfMemory, is_out_of_memory
from compsrt_basicsr.utils.threads import THREADS

if TYPE_CHECKING:
    import torch

EXIT_ERROR = 1
_NO_MEMORY = 'There is not enough memory: work on smaller images, or free some memory and give the command again.'


class SentenceGroup(click.Group):
    """A group whose commands end with `Error: sentence` instead of a traceback.

    `CompSRTError`, `OSError` and a lack of memory give exit status 1, Ctrl-C gives 130, SIGTERM 143. Other exceptions
    are bugs and keep their traceback.
    """

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the command; see `click.Command.main`."""
        return interruption.run(lambda: super(SentenceGroup, self).main(*args, **kwargs))

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a subcommand."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:  # click would end with status 1
            raise interruption.Interruption(signal.SIGINT) from error
        except Exception as error:
            message = error_sentence(error)
            if message is None:
                raise
        click.echo(f'Error: {message}', err=True)
        ctx.exit(EXIT_ERROR)


class LazyGroup(SentenceGroup):
    """A group that imports a subcommand only when it is called.

    Args:
        lazy: for each subcommand its place, as `module:attribute`, and its line in the help.
        renamed: new names of subcommands by their old ones, which still work and are not listed.
    """

    def __init__(
        self,
        *args: Any,
        lazy: Mapping[str, tuple[str, str]],
        renamed: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy)
        self.renamed = dict(renamed or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names of all subcommands, sorted."""
        return sorted({*super().list_commands(ctx), *self.lazy})

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the subcommand that the arguments name; an old name gives a line on stderr.

        Raises:
            click.UsageError: if there is none; the message names the nearest.
        """
        if new := self.renamed.get(args[0]):
            click.echo(f'`{ctx.command_path} {args[0]}` is now `{ctx.command_path} {new}`.', err=True)
            args = [new, *args[1:]]
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise click.UsageError(error.message + suggestion(args[0], self.list_commands(ctx)), ctx) from error

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports a subcommand."""
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        module, attribute = self.lazy[cmd_name][0].split(':')
        return getattr(importlib.import_module(module), attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of subcommands without importing them."""
        rows = []
        for name in self.list_commands(ctx):
            eager = self.commands.get(name)
            rows.append((name, eager.get_short_help_str() if eager else self.lazy[name][1]))
        if rows:
            with formatter.section('Commands'):
                formatter.write_dl(rows)


def error_sentence(error: Exception) -> str | None:
    """Returns the sentence for an error that the user can fix, or None for a bug."""
    if isinstance(error, OutOfMemory):
        return str(error)
    if is_out_of_memory(error):  # whatever it was taken for on its way here
        return _NO_MEMORY
    if isinstance(error, CompSRTError):
        return str(error)
    if isinstance(error, OSError) and error.errno != errno.EPIPE:  # EPIPE: nobody reads on, and click ends quietly
        return os_error_sentence(error)
    return None


def os_error_sentence(error: OSError) -> str:
    """Returns what the operating system refused, where, and what to do."""
    what = error.strerror or str(error) or type(error).__name__
    where = f' at `{error.filename}`' if error.filename else ''
    remedies = {
        errno.ENOSPC: 'free some space and give the command again',
        errno.EDQUOT: 'free some space and give the command again',
        errno.EACCES: 'change its permissions or give another path',
        errno.EROFS: 'give a path on a disk that can be written to',
    }
    return f'{what}{where}; {remedies.get(error.errno or 0, "check the path and give the command again")}.'


device_option = click.option('--device', help='cpu, cuda, cuda:1 ...  [default: cuda if there is one]')
execution_option = click.option(
    '--execution',
    type=click.Choice(['auto', 'integer', 'fake']),
    default='auto',
    show_default=True,
    help='How quantized models compute; auto: on integer codes where that is faster.',
)


def choose_device(name: str | None) -> torch.device:
    """Returns the device of that name; without a name the first GPU, or the CPU with as many threads as cores are free.

    Raises:
        CompSRTError: if there is no device of that name.
    """
    import torch

    name = name or ('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        if is_out_of_memory(error):
            raise OutOfMemory(f'The device `{name}` has no memory left: give another --device.') from error
        raise CompSRTError(f'There is no device `{name}` here: give cpu, or leave --device out.') from error
    if device.type == 'cpu':
        THREADS.choose()
    return device
