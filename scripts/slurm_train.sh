#!/bin/bash
# Trains one option file on N GPUs of one or more nodes under Slurm. Submit it from the root of the checkout:
#
#   sbatch --nodes=1 --ntasks-per-node=4 --gpus-per-node=4 scripts/slurm_train.sh options/compsrt_x2_w4a4.yml
#
# N is nodes x ntasks-per-node; ntasks-per-node must equal gpus-per-node, one process per GPU. Each GPU gets BATCH_SIZE/N
# patches per step, so N must divide BATCH_SIZE: 16 for the recipes (default), 64 for options/pretrain_*.yml. Further
# arguments go to `basicsr train`. A requeued job resumes from its last checkpoint. Outputs: experiments/NAME and
# slurm-JOBID.out.
#
# LAUNCHER=slurm (default): Slurm starts every process, BasicSR reads the rank from Slurm.
# LAUNCHER=pytorch: one torchrun on a single node, also without Slurm:
#   LAUNCHER=pytorch GPUS=4 bash scripts/slurm_train.sh options/compsrt_x2_w4a4.yml

#SBATCH --job-name=compsrt
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=5
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --open-mode=append

set -euo pipefail

option_file=${1:?usage: sbatch [OPTIONS] scripts/slurm_train.sh OPTION_FILE [ARGUMENTS OF basicsr train]}
shift
launcher=${LAUNCHER:-slurm}
bin=${VENV:-.venv}/bin
batch_size=${BATCH_SIZE:-16}

case $launcher in
    slurm) gpus=${SLURM_NTASKS:?LAUNCHER=slurm works inside a Slurm job only; submit this with sbatch} ;;
    pytorch) gpus=${GPUS:-${SLURM_GPUS_ON_NODE:?set GPUS to the number of GPUs to use}} ;;
    *) echo "LAUNCHER must be slurm or pytorch, got $launcher." >&2; exit 1 ;;
esac
if ((batch_size % gpus)); then
    echo "The number of GPUs must divide the batch size of $batch_size, got $gpus." >&2
    exit 1
fi

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # one process per GPU; more threads would compete with the data loaders
command=(
    "$bin/basicsr" train -opt "$option_file" --launcher "$launcher" --auto_resume
    --force_yml "datasets:train:batch_size_per_gpu=$((batch_size / gpus))" "$@"
)

if [ "$launcher" = slurm ]; then
    export MASTER_PORT=${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 20000))} # jobs that share a node must differ
    exec srun --kill-on-bad-exit=1 "${command[@]}"
else
    exec "$bin/torchrun" --standalone --nproc_per_node="$gpus" "${command[@]}"
fi
