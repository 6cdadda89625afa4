#!/bin/bash
# Restore a folder with a Slurm array: each task takes one part of the files.
#
#     sbatch --array=0-7 deploy/slurm-array.sh BUNDLE INPUTS OUTPUT
#
# BUNDLE, INPUTS and OUTPUT are folders that every node sees. A task that is requeued or started
# again skips what it has finished. How far all of them are:
#
#     maxim-run BUNDLE INPUTS --recursive -o OUTPUT --status
#
#SBATCH --job-name=maxim-run
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --requeue
#SBATCH --signal=TERM@60
#SBATCH --output=maxim-run.%A_%a.log
set -euo pipefail

if [ $# -ne 3 ]; then
    echo "usage: sbatch --array=0-7 $0 BUNDLE INPUTS OUTPUT" >&2
    exit 2
fi

# `exec`: the signal that Slurm sends before the time is up reaches maxim-run, which finishes the
# current image. Threads follow the processors that Slurm grants.
exec maxim-run "$1" "$2" --recursive -o "$3" --resume \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" \
    --max-memory "${SLURM_MEM_PER_NODE:-8192}MiB"
