#!/usr/bin/env bash
# From a folder of TIFFs to masks, on the command line. Usage: examples/command_line.sh FOLDER
# A small phantom stands in for your own volume; the training is far too short for good results.
set -euo pipefail

folder=${1:?usage: command_line.sh FOLDER}
mkdir -p "$folder"
cd "$folder"

# 1. Files as you might have them: one TIFF per slice, and nuclei painted on three of them.
cristae phantom phantom --shape 24 192 192 --labelled 3 --quiet
cristae export phantom image slices --quiet
cristae export phantom annotations/nucleus painted.tif --quiet

# 2. A project: the voxel size is z, y, x in nanometres.
cristae init bx1 --voxel-size 8 8 8
cristae import image bx1 slices/ --quiet
# The stack has all slices of the volume; 255 stands where nobody looked.
cristae import labels bx1 painted.tif --class nucleus --ignore-value 255 --quiet

# 3. Learn, predict, report. Leave out the --set options for your own data.
cristae run bx1 --quiet --set train.preset=fast --set train.updates=30 --set train.tile_px=64

# 4. What there is now, and the mask as a folder of TIFFs.
cristae status bx1
cristae export bx1 nucleus masks/ --mask-value 255 --quiet
