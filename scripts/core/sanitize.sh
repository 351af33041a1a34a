#!/bin/sh
# Builds the compiled core with AddressSanitizer and UndefinedBehaviorSanitizer in a directory of its own, and runs the
# tests of what is compiled under it (but those of answers, which need servers), then hostile arguments by the thousand
# (scripts/core/fuzz_sampling.py). PYTHON names an interpreter that has what the tests need. Arguments go to pytest.
set -eu

cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}
CXX=${CXX:-g++}
for library in libasan.so libubsan.so; do
  path=$("$CXX" -print-file-name=$library)
  [ "$path" != $library ] || { echo "$CXX has no $library" >&2; exit 2; }
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r setup.py pyproject.toml README.md LICENSE docs src tests scripts "$work"
cd "$work"
find src -name '*.so' -delete
rm -rf src/banditcore/_*.cpp
echo "Building ..."
# One level of optimization: the stack of a kernel is large as it is.
CFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -O1 -g -w" \
  LDFLAGS="-fsanitize=address,undefined" \
  "$PYTHON" setup.py -q build_ext --inplace > build.log 2>&1 || { tail -n 30 build.log >&2; exit 1; }

# Python itself leaks by design, and LD_PRELOAD reaches every child.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:halt_on_error=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export PYTHONPATH="$work/src" PYTHONMALLOC=malloc
preload="$("$CXX" -print-file-name=libasan.so) $("$CXX" -print-file-name=libubsan.so)"
LD_PRELOAD="$preload" "$PYTHON" -m pytest -q tests/sampling tests/unit/test_packed.py tests/unit/test_exposures.py \
  tests/unit/test_hash_index.py tests/unit/test_poisson_binomial.py tests/unit/test_rises.py \
  tests/unit/test_user_keys.py tests/unit/test_slate_format.py "$@"
for kernel in $(LD_PRELOAD="$preload" "$PYTHON" -c \
  'from banditcore import _sampling; print(*_sampling.kernel_names())'); do
  LD_PRELOAD="$preload" BANDITCORE_KERNEL=$kernel "$PYTHON" scripts/core/fuzz_sampling.py
done
