#!/usr/bin/env bash
# Make the LMDBs that the option files read, from folders of HR images.
#
#   scripts/prepare_data.sh TRAIN_HR BENCHMARK [OUTPUT]
#
# TRAIN_HR holds the images of DF2K (DIV2K and Flickr2K), BENCHMARK/NAME/HR those of Set5, Set14, B100, Urban100 and
# Manga109; missing sets are skipped with a message. OUTPUT is datasets/ by default. Complete LMDBs are kept. To resume
# an interrupted run, give the same command again.
set -euo pipefail

if [ $# -lt 2 ] || [ $# -gt 3 ]; then
    sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
train=$1 benchmark=$2 output=${3:-datasets}

if [ -e "$output/DF2K/DF2K_HR_sub.lmdb" ]; then
    echo "$output/DF2K is complete."
else
    compsrt data prepare "$train" -o "$output/DF2K" --name DF2K --scale 2 --scale 3 --scale 4
fi

for name in Set5 Set14 B100 Urban100 Manga109; do
    if [ ! -d "$benchmark/$name/HR" ]; then
        echo "$benchmark/$name/HR does not exist: $name is skipped."
        continue
    fi
    for scale in 2 3 4; do
        folder=$output/$name/x$scale # test images are cropped to a multiple of their own scale
        if [ -e "$folder/${name}_HR.lmdb" ]; then
            echo "$folder is complete."
        else
            compsrt data prepare "$benchmark/$name/HR" -o "$folder" --name "$name" --scale "$scale" --crop 0
        fi
    done
done
