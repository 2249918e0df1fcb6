#!/usr/bin/env bash
# Builds the container image of deploy/Containerfile from programs that are built.
#
# Arguments: the directory of malla-agent and malla, the image's name.
# Exit 69 where neither podman nor docker is installed.
set -euo pipefail
programs=$1
name=$2
deploy=$(cd "$(dirname "$0")" && pwd)

builder=$(command -v podman || command -v docker || true)
if [ -z "$builder" ]; then
    echo "malla: found neither podman nor docker to build $name; apt-get install podman" >&2
    exit 69
fi
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
# Without debugging symbols: half the size.
strip -o "$context/malla-agent" "$programs/malla-agent"
strip -o "$context/malla" "$programs/malla"
"$builder" build --file "$deploy/Containerfile" --tag "$name" "$context"
