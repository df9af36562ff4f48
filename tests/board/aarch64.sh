#!/usr/bin/env bash
# An Arm board without the hardware: Debian's Python for arm64 under qemu-user, with the packages that pip gives such a
# board. Nothing of it is installed on this machine but the two tools that make and run it.
#
#   tests/board/aarch64.sh FOLDER PYTHON
set -euo pipefail
folder=$1 python=$2
root=$(cd "$(dirname "$0")/../.." && pwd)
for tool in qemu-aarch64-static:qemu-user-static mmdebstrap:mmdebstrap; do
    command -v "${tool%%:*}" >/dev/null && continue
    if [ "$(id -u)" != 0 ]; then
        echo "missing ${tool%%:*}: sudo apt-get install qemu-user-static mmdebstrap" >&2
        exit 1
    fi
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "${tool##*:}"
done
rm -rf "$folder"
mkdir -p "$folder"
# Unpacked and not configured: no foreign program runs while it is made.
mmdebstrap --quiet --variant=extract --architectures=arm64 \
    --include=python3.11-minimal,libpython3.11-stdlib,libstdc++6 bookworm "$folder/root"
# qemu-user shows this machine's processor, in which runtimes find no Arm core: say what a Cortex-A72 says.
mkdir -p "$folder/root/proc"
printf '%s\t: %s\n' processor 0 BogoMIPS 108.00 Features 'fp asimd evtstrm crc32 cpuid' 'CPU implementer' 0x41 \
    'CPU architecture' 8 'CPU variant' 0x0 'CPU part' 0xd08 'CPU revision' 3 >"$folder/root/proc/cpuinfo"
"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$folder/wheel" "$root"
"$python" -m pip install --quiet --disable-pip-version-check --target "$folder/packages" --only-binary=:all: \
    --platform manylinux_2_27_aarch64 --platform manylinux_2_28_aarch64 --platform manylinux_2_34_aarch64 \
    --platform manylinux2014_aarch64 --python-version 3.11 --implementation cp \
    "$(echo "$folder"/wheel/*.whl)[tokenizers]"
# The working tree instead of the copy.
rm -rf "$folder/packages/tasuki" "$folder/wheel" "$root/build/lib" "$root"/build/bdist.*
ln -s "$root" "$folder/packages/tasuki"
