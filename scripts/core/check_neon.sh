#!/bin/sh
# Compiles the NEON kernels for 64-bit ARM, of the direct draws and of the race, runs them under emulation, and compares
# their bits with those of the kernels that this machine runs itself. Installs nothing. CXX and CROSS_CXX name other
# compilers.
set -eu

cd "$(dirname "$0")/../.."
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
cpp=src/banditcore/cpp
flags="-std=c++17 -O3 -g0 -ffp-contract=off -fno-math-errno -fno-trapping-math -Wall -Wextra -Werror -I$cpp"

# own_flags SOURCE: those that setup.py gives this file where the compiler builds for x86-64.
own_flags() {
  sed -n "s|^ *\"${1#"$cpp/"}\": \[\(.*\)\],\$|\1|p" setup.py | tr -d '",'
}

# compile COMPILER PROGRAM SOURCE...
compile() {
  compiler=$1 program=$2
  shift 2
  mkdir -p "$program.o"
  for source in "$@"; do
    own=""
    if [ "$("$compiler" -dumpmachine | cut -d- -f1)" = x86_64 ]; then own=$(own_flags "$source"); fi
    object=$program.o/$(basename "$source" .cpp).o
    "$compiler" $flags $own -c "$source" -o "$object"
    # The linker keeps one copy of a weak symbol: it must not be the one for machines that have these instructions.
    if [ -n "$own" ] && "$("$compiler" -print-prog-name=nm)" -C "$object" | grep ' [uvVwW] '; then
      echo "$source emits weak symbols." >&2
      exit 1
    fi
  done
  "$compiler" -static "$program.o"/*.o -o "$program"
}

# compare NAME SOURCE...: scripts/core/NAME_digest.cpp, linked with these, prints a line a kernel.
compare() {
  name=$1
  shift
  compile "$CXX" "$work/$name" "scripts/core/${name}_digest.cpp" "$@"
  compile "$CROSS_CXX" "$work/$name.arm" "scripts/core/${name}_digest.cpp" "$@"
  echo "$name, this machine:"
  "$work/$name" > "$work/$name.txt"
  cat "$work/$name.txt"
  echo "$name, 64-bit ARM, emulated:"
  qemu-aarch64 "$work/$name.arm" > "$work/$name.arm.txt"
  cat "$work/$name.arm.txt"
  grep -q '^neon ' "$work/$name.arm.txt" || { echo "The ARM build holds no NEON kernel." >&2; exit 1; }
  grep -q '^serial ' "$work/$name.txt" || { echo "This machine's build holds no serial kernel." >&2; exit 1; }
  if [ "$(cat "$work/$name.txt" "$work/$name.arm.txt" | cut -d' ' -f2- | sort -u | wc -l)" -ne 1 ]; then
    echo "Kernels disagree." >&2
    exit 1
  fi
}

compare kernel $cpp/kernel/*.cpp $cpp/runtime/*.cpp
compare race $cpp/race/*.cpp
echo "All kernels agree."
