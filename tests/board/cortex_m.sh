#!/usr/bin/env bash
# What Cortex-M images are compiled, checked and run with: Debian's packages, of which root gets those that are missing.
set -euo pipefail
missing=()
for tool in arm-none-eabi-gcc:gcc-arm-none-eabi qemu-system-arm:qemu-system-arm gcc:gcc g++:g++ clang:clang \
    clang-tidy:clang-tidy cmake:cmake make:make; do
    command -v "${tool%%:*}" >/dev/null || missing+=("${tool##*:}")
done
# GCC answers with a path only where it has the file.
if ! command -v arm-none-eabi-gcc >/dev/null || [ "$(arm-none-eabi-gcc -print-file-name=nano.specs)" = nano.specs ]; then
    missing+=(libnewlib-arm-none-eabi)
fi
[ ${#missing[@]} = 0 ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing for Cortex-M: sudo apt-get install ${missing[*]}" >&2
    exit 1
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}"
