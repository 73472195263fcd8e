"""What a resumed run does with options that have changed since its state was saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from compsrt_basicsr.config.check import resolve
from compsrt_basicsr.config.check_registries import defaults_of, registered_network
from compsrt_basicsr.config.run import NETWORKS, RunOptions
from compsrt_basicsr.errors import CompSRTError, shown


@dataclass(frozen=True)
class Rule:
    """What happens to a changed option, or to all options of a section.

    Attributes:
        kind: 'new' takes the new value and logs it, 'kept' refuses another value, 'unread' does not look at it.
        note: what the reader of the table should know.
    """

    kind: Literal['new', 'kept', 'unread']
    note: str = ''


# By place; the longest one that an option begins with counts.
RULES: dict[str, Rule] = {
    'name': Rule('new', '`--auto_resume` looks below `experiments/NAME`'),
    'model_type': Rule('kept'),
    'method': Rule('new', 'the options that it fills in count, each by its own row'),
    'scale': Rule('kept'),
    'num_gpu': Rule('new', 'the numbers are no longer those of an unbroken run'),
    'manual_seed': Rule('new', 'for the samples after the state'),
    'datasets': Rule('new', 'with another length of an epoch, the order of the samples does not continue'),
    'network_g': Rule('kept'),
    'network_g.drop_rate': Rule('new'),
    'network_g.attn_drop_rate': Rule('new'),
    'network_g.drop_path_rate': Rule('new'),
    'network_g.quant.execution': Rule('new'),
    'network_g.quant.method': Rule('new', 'as `method`'),
    'network_t': Rule('new', 'the run goes on with this teacher'),
    'network_d': Rule('kept'),
    'path': Rule('unread', 'the run goes on from its own weights'),
    'path.pretrain_network_t': Rule('new', 'the run goes on with this teacher'),
    'path.param_key_t': Rule('new'),
    'path.strict_load_t': Rule('new'),
    'calibration': Rule('kept', 'it lies behind the run'),
    'calibration.file': Rule('unread'),
    'train.trainable': Rule('kept'),
    'train.total_iter': Rule('new', 'not below the iteration of the state'),
    'train.optim_g': Rule('kept'),
    'train.optim_g.lr': Rule('new', 'the schedule is computed anew up to the iteration of the state'),
    'train.optim_g.weight_decay': Rule('new'),
    'train.optim_g.betas': Rule('new'),
    'train.optim_g.eps': Rule('new'),
    'train.optim_g.fused': Rule('new'),
    'train.optim_g.foreach': Rule('new'),
    'train.scheduler': Rule('new', 'the schedule is computed anew up to the iteration of the state'),
    'train.warmup_iter': Rule('new', 'as `train.scheduler`'),
    'train.weight_lr': Rule('new', 'as `train.scheduler`'),
    'train.unquantized_lr': Rule('new', 'as `train.scheduler`'),
    'train.pixel_opt': Rule('new'),
    'train.feature_opt': Rule('new'),
    'train.perceptual_opt': Rule('new'),
    'train.grad_clip_value': Rule('new'),
    'train.amp': Rule('new'),
    'train.fit_tail': Rule('unread', 'it lies behind the run'),
    'train.ema_decay': Rule('new', 'an average that there was not begins with the weights of the state'),
    'train.gate_phase': Rule('new', 'as the iteration then says; only the first iteration of the phase resets moments'),
    'train.prune_schedule': Rule('kept'),
    'val': Rule('new', 'the best value of an added or changed metric, or of another `pad`, begins anew'),
    'logger': Rule('new'),
    'dist_params': Rule('new'),
    'find_unused_parameters': Rule('new'),
}
_WORDS = {'new': 'takes the new value', 'kept': 'must stay', 'unread': 'is not read again'}


@dataclass(frozen=True)
class Change:
    """An option that differs from that of the state.

    Attributes:
        place: its dotted path.
        old: its value in the state, None where it was not given.
        new: its value now.
    """

    place: str
    old: Any
    new: Any

    @property
    def rule(self) -> Rule:
        """What a resumed run does with it."""
        return rule_of(self.place)

    def __str__(self) -> str:
        return f'`{self.place}`: {shown(self.old)} -> {shown(self.new)}'


def rule_of(place: str) -> Rule:
    """Returns the rule of an option by its dotted path; one that is not in the table must stay."""
    parts = place.split('.')
    names = ('.'.join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((RULES[name] for name in names if name in RULES), Rule('kept'))


def options_to_save(opt: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of a run as plain data, without paths and what is not read on resuming.

    Args:
        opt: the options as parsed, before BasicSR takes its parts out of them.
    """
    return {str(key): _plain(_read_again(str(key), value)) for key, value in resolve(opt).items()}


def changed_options(saved: Mapping[str, Any], opt: Mapping[str, Any]) -> list[Change]:
    """Returns what has changed, defaults filled in on both sides.

    Args:
        saved: as `options_to_save` gave them, perhaps in an earlier version.
        opt: the options now.
    """
    before, now = (dict(_leaves(_complete(resolve(options)))) for options in (saved, opt))
    changes = (Change(place, before.get(place), now.get(place)) for place in {**before, **now})
    return [change for change in changes if change.old != change.new and change.rule.kind != 'unread']


def check_resumed(saved: Mapping[str, Any] | None, opt: Mapping[str, Any], iteration: int) -> None:
    """Compares the options with those of the state that a run resumes from.

    Args:
        saved: the options in the state; None in one of an earlier version.
        opt: the options now.
        iteration: that of the state.

    Raises:
        CompSRTError: an option differs that must stay, or the training ends before the state.
    """
    total = (opt.get('train') or {}).get('total_iter')
    if isinstance(total, (int, float)) and total < iteration:
        raise CompSRTError(
            f'`train.total_iter` is {total:g}, but the state is of iteration {iteration}: give at least {iteration}, '
            'or an earlier state as `path.resume_state`.'
        )
    kept = [change for change in changed_options(saved or {}, opt) if change.rule.kind == 'kept'] if saved else []
    if kept:
        differences = ' '.join(
            f'`{change.place}` is {shown(change.new)}, but the saved run has {shown(change.old)}.' for change in kept
        )
        raise CompSRTError(
            f'{differences} Give the old value to resume, or begin a run of another `name` from its weights with '
            '`path.pretrain_network_g`.'
        )


def resume_table() -> str:
    """Returns the rules as a Markdown table."""
    rows = [f'| `{place}` | {_WORDS[rule.kind]} | {rule.note} |' for place, rule in RULES.items()]
    return '\n'.join(['| changed option | a resumed run | |', '|---|---|---|', *rows])


def _read_again(key: str, value: Any, place: str = '') -> Any:
    place = f'{place}.{key}' if place else key
    if not isinstance(value, Mapping):
        return value
    kept = {k: v for k, v in value.items() if isinstance(v, Mapping) or rule_of(f'{place}.{k}').kind != 'unread'}
    return {k: _read_again(str(k), v, place) for k, v in kept.items()}


def _complete(opt: Mapping[str, Any]) -> Mapping[str, Any]:
    """Fills in defaults, where the options are valid."""
    opt = {**opt, 'path': {}} if not isinstance(opt.get('path'), Mapping) else dict(opt)
    if opt.get('model_type') == 'CompSRTModel' and opt.get('calibration') is None:
        opt['calibration'] = {}
    valid = not RunOptions.errors_of(opt)
    completed: dict[str, Any] = RunOptions.from_opt(opt).model_dump() if valid else opt
    for network in NETWORKS:
        if isinstance(completed.get(network), Mapping):
            completed[network] = _with_defaults(completed[network])
    return completed


def _with_defaults(network: Mapping[str, Any]) -> dict[str, Any]:
    """Fills in the defaults of an architecture whose arguments no model of options describes."""
    target = registered_network(network.get('type'))
    result = {**(defaults_of(target) if target is not None else {}), **network}
    return {**result, 'base': _with_defaults(result['base'])} if isinstance(result.get('base'), Mapping) else result


def _leaves(value: Any, place: str = '') -> Iterator[tuple[str, Any]]:
    """Yields each option with its dotted path; lists are values."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f'{place}.{key}' if place else str(key))
    elif value is not None and not isinstance(value, Mapping):
        yield place, _plain(value)


def _plain(value: Any) -> Any:
    """Returns options as dictionaries, lists, texts and numbers, which a checkpoint can hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
