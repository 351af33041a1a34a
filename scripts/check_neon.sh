#!/bin/sh
# Compiles the NEON kernel for 64-bit ARM, runs it under emulation, and compares its bits with those of the kernels that
# this machine runs itself. Installs nothing. CXX and CROSS_CXX name other compilers.
set -eu

cd "$(dirname "$0")/.."
CXX=${CXX:-g++}
CROSS_CXX=${CROSS_CXX:-aarch64-linux-gnu-g++}
missing=""
command -v "$CXX" > /dev/null || missing="$missing $CXX"
command -v "$CROSS_CXX" > /dev/null || missing="$missing $CROSS_CXX (Debian: g++-aarch64-linux-gnu)"
command -v qemu-aarch64 > /dev/null || missing="$missing qemu-aarch64 (Debian: qemu-user)"
if [ -n "$missing" ]; then
  echo "Missing:$missing" >&2
  exit 2
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags="-std=c++17 -O3 -g0 -ffp-contract=off -fno-math-errno -fno-trapping-math -w -Isrc/banditcore/cpp"

# compile COMPILER DIRECTORY. The flags of single files are those of setup.py.
compile() {
  compiler=$1 out=$2
  mkdir -p "$out"
  for source in scripts/kernel_digest.cpp src/banditcore/cpp/dispatch.cpp src/banditcore/cpp/kernel_*.cpp; do
    own=""
    if [ "$("$compiler" -dumpmachine | cut -d- -f1)" = x86_64 ]; then
      case $source in
        */kernel_avx2.cpp) own="-mavx2 -mfma" ;;
        */kernel_avx512.cpp) own="-mavx512f -mavx512dq -mavx512vl -mavx512bw" ;;
        */kernel_serial_fma.cpp) own="-mfma" ;;
      esac
    fi
    "$compiler" $flags $own -c "$source" -o "$out/$(basename "$source" .cpp).o"
  done
  "$compiler" -static "$out"/*.o -o "$out/digest"
}

compile "$CXX" "$work/host"
compile "$CROSS_CXX" "$work/arm"
echo "this machine:"
"$work/host/digest" | tee "$work/host.txt"
echo "64-bit ARM, emulated:"
qemu-aarch64 "$work/arm/digest" | tee "$work/arm.txt"
grep -q '^neon ' "$work/arm.txt" || { echo "The ARM build holds no NEON kernel." >&2; exit 1; }
if [ "$(cat "$work/host.txt" "$work/arm.txt" | cut -d' ' -f2- | sort -u | wc -l)" -ne 1 ]; then
  echo "Kernels disagree." >&2
  exit 1
fi
echo "All kernels agree."
