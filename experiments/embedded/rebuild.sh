#!/usr/bin/env bash
# The shipped files from nothing: `bash rebuild.sh`, some sixteen hours of one core, or a share of every stage's minutes,
# steps and pools: `bash rebuild.sh 0.03`. What stands after that goes to every training: `bash rebuild.sh 1 --device cuda`.
# After an interruption the same command goes on. It needs npm, `pip install resvg_py 'vqclip[judge]'`, and torch 2.9.
set -euo pipefail
cd "$(dirname "$0")"
share=${1:-1}
flags=("${@:2}")

part() { python -c "print($1 * $share)"; }                      # of minutes
count() { python -c "print(max($2, round($1 * $share)))"; }     # count WHOLE LEAST: of steps and pictures
stage() { echo "== $*"; python "$@" ${flags[@]+"${flags[@]}"}; }

[ -e work/icons_robust.safetensors ] || python data.py                              # icon packages → 419 concepts
stage train_generator.py --minutes "$(part 34)" --pool "$(count 4096 256)"          # VQGAN; 64 px crops, then whole pictures
stage train_perceptor.py --minutes "$(part 53)"                                     # CLIP
stage train_prior.py --minutes "$(part 19.5)" --targets "$(count 4096 256)"         # parser and painter
stage train_decoder.py --minutes "$(part 17)" --pool "$(count 1024 256)"            # on encoded pictures and the prior's
stage train_judge.py --minutes "$(part 36)" --batch 128                             # on other icon sets
stage train_photo_judge.py --steps "$(count 2000 50)" --scenes "$(count 4096 256)"  # the second judge, on the same
python export.py
stage train_guide.py --resolution 64 --size 128 --attack 3 --pool "$(count 100000 2048)" --minutes "$(part 600)"  # the robust guide
python export.py robust
stage train_denoiser.py --pool "$(count 126144 2048)" --minutes "$(part 220)"       # reads generator and guide, exported
python export.py denoiser
