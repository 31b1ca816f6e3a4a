#!/usr/bin/env bash
# The prompts of the original article with the reference pair, on a GPU: installs vqclip, fetches the models, makes ten pictures with the
# original recipe and ten with from_noise, and writes what it took to quick_start_times.csv.
#
#   git clone URL vqclip && cd vqclip && bash experiments/quick_start_gpu.sh            on Colab: !bash experiments/…
#   STEPS=100 SIZE=[224,224] bash experiments/quick_start_gpu.sh                        a shorter try
#
# NEVER RUN ON A GPU BY ITS MAKERS (docs/measured.md): its times are yours to fill in. About 1.4 GB are fetched.
set -euo pipefail
steps=${STEPS:-300}
size=${SIZE:-[448,448]}
pair=${PAIR:-imagenet_f16_16384}
prompts="primeminister,bull,dog,road,monkey,paragliding,football,jacket,chess,elephant"

times=quick_start_times.csv
echo "what,seconds" > "$times"
timed() {
    local began=$SECONDS what=$1
    shift
    "$@"
    echo "$what,$((SECONDS - began))" >> "$times"
}

[ -x .venv/bin/vqclip ] || { python3 -m venv .venv && timed install .venv/bin/pip install -q .; }
vqclip=.venv/bin/vqclip
if [ "$pair" != embedded ]; then
    timed fetch "$vqclip" models fetch "$pair" vit_b_32
fi
for recipe in reference from_noise; do
    timed "ten pictures, $recipe, $steps steps, $size" "$vqclip" -m "experiment=$recipe" "checkpoints=$pair" \
        "prompts=$prompts" "size=$size" "steps=$steps" "snapshot_every=$steps" logger=none
done
nvidia-smi --query-gpu=name,memory.total --format=csv,noheader 2>/dev/null || echo "no NVIDIA GPU seen"
cat "$times"
