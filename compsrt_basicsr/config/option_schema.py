"""The options of a run of this package, as data: key -> kind of value (the kinds are in option_rules.py)."""

from __future__ import annotations

Schema = dict[str, str]

NETWORKS = ('network_g', 'network_d', 'network_t')

TOP_LEVEL: Schema = {
    'name': 'folder name',
    'model_type': 'text',
    'scale': 'positive int',
    'num_gpu': 'gpu count',
    'manual_seed': 'count',
    'datasets': 'section',
    **dict.fromkeys(NETWORKS, 'section'),
    'path': 'section',
    'train': 'section',
    'val': 'section',
    'logger': 'section',
    'calibration': 'section',
    'dist_params': 'section',
    'find_unused_parameters': 'bool',
    # set by parse_options and on resuming
    'dist': 'bool',
    'rank': 'count',
    'world_size': 'positive int',
    'auto_resume': 'bool',
    'is_train': 'bool',
    'root_path': 'text',
    'resume_from': 'section',
}
TOP_LEVEL_REQUIRED = ('name', 'model_type', 'scale', 'num_gpu', 'datasets', 'network_g', 'path')
TRAIN_REQUIRED_SECTIONS = ('train', 'logger')

DATASET: Schema = {
    'name': 'text',
    'type': 'text',
    'dataroot_gt': 'text',
    'dataroot_lq': 'text',
    'meta_info_file': 'text',
    'io_backend': 'section',
    'filename_tmpl': 'text',
    'gt_size': 'positive int',
    'use_hflip': 'bool',
    'use_rot': 'bool',
    'use_shuffle': 'bool',
    'num_worker_per_gpu': 'count',
    'batch_size_per_gpu': 'positive int',
    'dataset_enlarge_ratio': 'positive number',
    'prefetch_mode': 'prefetch mode',
    'pin_memory': 'bool',
    'num_prefetch_queue': 'positive int',
    'persistent_workers': 'bool',
    'mean': 'list',
    'std': 'list',
    'color': 'text',
    'task': 'text',
    # set by parse_options
    'scale': 'positive int',
    'phase': 'text',
}
DATASET_REQUIRED = ('name', 'type')
PAIRED_REQUIRED = ('dataroot_gt', 'dataroot_lq', 'io_backend')
PAIRED_TRAIN_REQUIRED = ('gt_size', 'use_hflip', 'use_rot')
LOADER_REQUIRED = ('batch_size_per_gpu', 'num_worker_per_gpu')

IO_BACKEND: Schema = {
    'type': 'io backend',
    'db_paths': 'list',
    'client_keys': 'list',
    'readonly': 'bool',
    'lock': 'bool',
    'readahead': 'bool',
    'server_list_cfg': 'text',
    'client_cfg': 'text',
    'sys_path': 'text',
}

PATH: Schema = {
    **{f'pretrain_{network}': 'text' for network in NETWORKS},
    **{f'strict_load_{network.removeprefix("network_")}': 'bool' for network in NETWORKS},
    **{f'param_key_{network.removeprefix("network_")}': 'text' for network in NETWORKS},
    'resume_state': 'text',
    'ignore_resume_networks': 'names',
    # set by parse_options
    'experiments_root': 'text',
    'results_root': 'text',
    'models': 'text',
    'training_states': 'text',
    'log': 'text',
    'visualization': 'text',
}

TRAIN: Schema = {
    'ema_decay': 'fraction',
    'optim_g': 'section',
    'scheduler': 'section',
    'total_iter': 'iterations or none',
    'warmup_iter': 'int',
    'pixel_opt': 'section',
    'perceptual_opt': 'section',
    'feature_opt': 'section',
    'trainable': 'any',
    'weight_lr': 'positive number',
    'float_lr': 'positive number',
    'prune_schedule': 'section',
    'grad_clip_value': 'positive number',
    'amp': 'any',
}
TRAIN_REQUIRED = ('total_iter', 'optim_g', 'scheduler')
LOSSES = ('pixel_opt', 'perceptual_opt', 'feature_opt')

# What BasicSR's own schedulers are called in `scheduler.type`, and the class behind the name.
SCHEDULERS = {
    'MultiStepLR': 'MultiStepRestartLR',
    'MultiStepRestartLR': 'MultiStepRestartLR',
    'CosineAnnealingRestartLR': 'CosineAnnealingRestartLR',
}

VAL: Schema = {
    'val_freq': 'iterations',
    'save_img': 'bool',
    'suffix': 'text',
    'pbar': 'bool',
    'pad': 'any',
    'levels': 'any',
    'metrics': 'section',
}

LOGGER: Schema = {
    'print_freq': 'iterations',
    'save_checkpoint_freq': 'iterations',
    'use_tb_logger': 'bool',
    'wandb': 'section',
}
LOGGER_REQUIRED = ('print_freq', 'save_checkpoint_freq')
WANDB: Schema = {'project': 'text', 'resume_id': 'text'}
