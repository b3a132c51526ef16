#!/usr/bin/env bash
# Builds src/cristae/report/page.min.js from src/cristae/report/page/*.js and three.js. Needs npm and, once, a network.
# Only who changes these sources needs it: the built file is part of the repository.
set -euo pipefail
page=$(cd "$(dirname "$0")/../src/cristae/report/page" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$page"/*.js "$page"/package.json "$work"
[ -f "$page/package-lock.json" ] && cp "$page/package-lock.json" "$work"
mkdir "$work/out"
cd "$work"
npm ci --ignore-scripts --no-audit --no-fund --silent 2>/dev/null || npm install --ignore-scripts --no-audit --no-fund --silent
npm run --silent build -- --outfile=out/body.js
# The first line says of which sources it was built; a test compares.
sources=$(cd "$page" && cat $(ls *.js | LC_ALL=C sort) package.json | sha256sum | cut -c1-16)
{ echo "/* cristae report page, sources $sources; holds three.js, MIT, see page/THREE-LICENSE */"; cat out/body.js; } > out/page.min.js
cp package-lock.json "$page"
cp node_modules/three/LICENSE "$page/THREE-LICENSE"
cp out/page.min.js "$page/../page.min.js"
echo "built $page/../page.min.js ($(wc -c < out/page.min.js) bytes)"
