"""Builds the compiled core. Everything else about the package stands in pyproject.toml."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CPP = Path("src/banditcore/cpp")

# Contraction off: a fused multiply-add on one machine would change bits that all kernels share. The
# sources test no errno and trap no exception, so square roots may be plain instructions. Wheels
# must run elsewhere: never -march=native, never -ffast-math.
COMPILE_ARGS = [
    "-std=c++17",
    "-O3",
    "-g0",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-pthread",
]

# Flags of single files. A pragma in the file would not reach its lambdas (gcc 12).
FILE_ARGS = {
    "kernel_avx2.cpp": ["-mavx2", "-mfma"],
    "kernel_avx512.cpp": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw"],
    "kernel_serial_fma.cpp": ["-mfma"],
    "race_avx2.cpp": ["-mavx2"],
    # With avx512dq GCC would turn Philox's 32-bit products into vpmullq, three times as slow.
    "race_avx512.cpp": ["-mavx512f", "-mavx512cd"],
    "race_columns_avx2.cpp": ["-mavx2"],
    "race_columns_avx512.cpp": ["-mavx512f"],
    "rises_avx2.cpp": ["-mavx2"],
    "rises_avx512.cpp": ["-mavx512f"],
}


class BuildKernels(build_ext):
    """Gives each source of FILE_ARGS its flags, where the compiler builds for x86-64."""

    def build_extension(self, ext: Extension) -> None:
        """Compile and link `ext`."""
        compile_one = self.compiler._compile  # setuptools has no other place for a file's flags
        x86 = self._builds_for_x86()

        def with_flags(  # noqa: PLR0917 (setuptools passes them by place)
            obj: str,
            src: str,
            suffix: str,
            cc_args: list[str],
            extra: list[str],
            pp_opts: list[str],
        ) -> None:
            own = FILE_ARGS.get(Path(src).name, []) if x86 else []
            compile_one(obj, src, suffix, cc_args, [*extra, *own], pp_opts)

        self.compiler._compile = with_flags
        try:
            super().build_extension(ext)
        finally:
            self.compiler._compile = compile_one

    def _builds_for_x86(self) -> bool:
        return self.plat_name.endswith(("x86_64", "amd64"))


# Direct draws; the race, for posteriors that are asked often; sums of exact probabilities and of
# likelihoods.
PARTS: dict[str, tuple[str, ...]] = {
    "_answer": (),
    "_exposures": (),
    "_hash_index": (),
    "_packed": (),
    "_poisson_binomial": (),
    "_user_keys": (),
    "_rises": (
        "rises.cpp",
        "rises_avx2.cpp",
        "rises_avx512.cpp",
        "rises_serial.cpp",
    ),
    "_sampling": (
        "dispatch.cpp",
        "kernel_avx2.cpp",
        "kernel_avx512.cpp",
        "kernel_neon.cpp",
        "kernel_serial.cpp",
        "kernel_serial_fma.cpp",
        "pool.cpp",
        "process.cpp",
        "rows.cpp",
    ),
    "_race": (
        "race_avx2.cpp",
        "race_avx512.cpp",
        "race_build.cpp",
        "race_neon.cpp",
        "race_columns.cpp",
        "race_columns_avx2.cpp",
        "race_columns_avx512.cpp",
        "race_columns_serial.cpp",
        "race_entry.cpp",
        "race_fill.cpp",
        "race_march.cpp",
        "race_measure.cpp",
        "race_rows.cpp",
        "race_serial.cpp",
    ),
}

extensions = [
    Extension(
        f"banditcore.{module}",
        sources=[f"src/banditcore/{module}.pyx", *(str(CPP / name) for name in names)],
        depends=sorted(str(header) for header in CPP.glob("*.h")),
        include_dirs=[str(CPP), np.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        language="c++",
        extra_compile_args=COMPILE_ARGS,
        extra_link_args=["-pthread"],
    )
    for module, names in PARTS.items()
]

setup(ext_modules=cythonize(extensions), cmdclass={"build_ext": BuildKernels})
