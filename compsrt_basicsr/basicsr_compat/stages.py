"""The steps of BasicSR's pipelines in which users' errors show: building the model, loading weights, validating."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from torch import Tensor, nn

from compsrt_basicsr.basicsr_compat.datasets import check_metrics
from compsrt_basicsr.basicsr_compat.error_messages import stage
from compsrt_basicsr.basicsr_compat.error_rules import missing_file
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.torch_io import read_checkpoint
from compsrt_basicsr.utils.weight_names import architecture_of, origin_of

_SCHEME = 'zoo://'


def build_model(original: Callable[[Any], Any], opt: MutableMapping[str, Any]) -> Any:
    """Builds the model of a run as BasicSR does.

    Raises:
        CompSRTError: If a name is not registered, or options are missing or do not fit what they are for.
    """
    with stage(f'The model `{opt.get("model_type")}`', missing_file):
        return original(opt)


def load_network(
    original: Callable[..., None],
    model: Any,
    net: nn.Module,
    load_path: str,
    strict: bool = True,
    param_key: str | None = 'params',
) -> None:
    """Loads weights as BasicSR does; looks for the reason when that fails.

    Raises:
        CompSRTError: If the file is missing, damaged or no checkpoint, has no such entry, or does not fit the network;
            in a loose load, if it has none of its weights.
    """
    bare, cause = model.get_bare_model(net), None
    try:
        original(model, net, load_path, strict, param_key)
        if strict:
            return
    except CompSRTError:
        raise
    except Exception as error:
        cause = error
    problem = _weights_problem(bare, load_path, strict, param_key)  # a loose load of nothing is no error of BasicSR's
    if problem is not None:
        raise CompSRTError(problem) from cause
    if cause is not None:
        raise cause


def validation(
    original: Callable[..., None],
    model: Any,
    dataloader: Any,
    current_iter: int | str,
    tb_logger: Any,
    save_img: bool = False,
) -> None:
    """Validates on one data set as BasicSR does, once its images are known to fit the metrics.

    Raises:
        CompSRTError: If a metric cannot take the images, or the result has another size than the ground truth. The
            message names the data set, and the image if there is one.
    """
    dataset = dataloader.dataset
    check_metrics(dataset, (model.opt.get('val') or {}).get('metrics'))
    with stage(f'Validation on `{dataset.opt.get("name")}`', lambda error: _unfit_image(error, dataset)):
        original(model, dataloader, current_iter, tb_logger, save_img)


def _unfit_image(error: Exception, dataset: Any) -> str | None:
    """Recognises an image that is too small to be padded, and a result of another size than its ground truth."""
    if isinstance(error, RuntimeError) and 'Padding size should be less' in str(error):
        return (
            f'image `{getattr(dataset, "shown", None)}` is smaller than the padding to the window of the network: take '
            'it out of the data set, or use `model_type: CompSRTPretrainModel`, which repeats the mirror.'
        )
    if isinstance(error, AssertionError) and str(error).startswith('Image shapes are different'):
        return (
            f'the result for `{getattr(dataset, "shown", None)}` has another shape than its ground truth '
            f'({str(error).partition(": ")[2].rstrip(".")}): make `network_g.upscale` (or `scale`), its number of '
            "channels and the run's `scale` fit the images."
        )
    return None


def _weights_problem(network: nn.Module, path: str, strict: bool, param_key: str | None) -> str | None:
    """Returns why BasicSR cannot load a file into a network and what helps; None if the file is sound and fits."""
    if str(path).startswith(_SCHEME):
        return (
            f"`{path}`: BasicSR's own models load files alone: use `CompSRTPretrainModel` or `CompSRTModel`, or give "
            'the file of the model.'
        )
    try:
        loaded = read_checkpoint(path)
    except CompSRTError as error:
        return str(error)
    key = 'params' if param_key is not None and param_key not in loaded and 'params' in loaded else param_key
    state = loaded if key is None else loaded.get(key)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        return _no_weights(path, loaded, key, state)
    state = {str(name).removeprefix('module.'): value for name, value in state.items()}
    own = network.state_dict()
    missing, unknown = [name for name in own if name not in state], [name for name in state if name not in own]
    wrong = [name for name in own if name in state and own[name].shape != state[name].shape] if strict else []
    if not (wrong or (strict and (missing or unknown)) or len(missing) == len(own)):
        return None
    kind = type(network).__name__
    if wrong and not missing and not unknown:
        name = wrong[0]
        masks = all(name.endswith('.attn_mask') for name in wrong)  # their number follows from img_size
        remedy = 'take the `img_size` of the checkpoint' if masks else 'check the arguments of the network, and `scale`'
        return (
            f'The checkpoint `{path}` does not fit {kind}: `{name}` is {tuple(state[name].shape)}, not '
            f'{tuple(own[name].shape)} ({len(wrong)} weights differ in shape); {remedy}.'
        )
    examples = [f'`{names[0]}` is {what}' for names, what in ((missing, 'missing'), (unknown, 'unknown')) if names]
    theirs = architecture_of(state)
    remedy = 'give the architecture of the checkpoint, or a checkpoint of this one'
    if theirs is not None and theirs == architecture_of(own):
        remedy = 'check the arguments of the network'
    return (
        f'The checkpoint `{path}` does not fit {kind}: {" and ".join(examples)} ({len(missing)} missing, '
        f'{len(unknown)} unknown). {origin_of(state)[:-1]}; {remedy}.'
    )


def _no_weights(path: str, loaded: Mapping[Any, Any], key: str | None, state: Any) -> str:
    """Returns the sentence for a file that holds no weights under a key."""
    held = ', '.join(f'`{name}`' for name in list(loaded)[:5]) or 'nothing'
    if {'optimizers', 'schedulers'} <= loaded.keys():
        return f'`{path}` is a training state and holds no weights: give the `.pth` beside it.'
    if key is not None and key not in loaded:
        flat = loaded and all(isinstance(value, Tensor) for value in loaded.values())
        entries = [name for name, value in loaded.items() if isinstance(value, Mapping)]
        hint = 'set it to `~`, the weights stand in the file itself' if flat else 'set it to the entry with weights'
        hint = f'set it to `{entries[0]}`' if len(entries) == 1 else hint
        return f'The checkpoint `{path}` has no entry `{key}` (`path.param_key_g`); it has {held}: {hint}.'
    what = f'The entry `{key}` of' if key is not None else 'The checkpoint'
    return f'{what} `{path}` holds no weights but {_kind(state)}: give a checkpoint of weights.'


def _kind(state: Any) -> str:
    if not isinstance(state, Mapping):
        return f'a {type(state).__name__}'
    other = next(name for name, value in state.items() if not isinstance(value, Tensor))
    return f'a {type(state[other]).__name__} under `{other}`'
