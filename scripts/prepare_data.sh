#!/usr/bin/env bash
# Makes the LMDBs that the option files read, from folders of HR pictures.
#
#   scripts/prepare_data.sh TRAIN_HR BENCHMARK [OUTPUT]
#
# TRAIN_HR holds the pictures of DF2K (DIV2K and Flickr2K); BENCHMARK/NAME/HR those of Set5, Set14, B100, Urban100 and
# Manga109. Sets that are not there are left out, and said to be. OUTPUT is datasets/ unless given. What is complete is
# left alone, and a run that was broken off goes on: give the same command again.
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
        echo "$benchmark/$name/HR is not there: $name is left out."
        continue
    fi
    for scale in 2 3 4; do
        folder=$output/$name/x$scale # test pictures are cropped to a multiple of their own scale
        if [ -e "$folder/${name}_HR.lmdb" ]; then
            echo "$folder is complete."
        else
            compsrt data prepare "$benchmark/$name/HR" -o "$folder" --name "$name" --scale "$scale" --crop 0
        fi
    done
done
