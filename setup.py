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
    "kernel/avx2.cpp": ["-mavx2", "-mfma"],
    "kernel/avx512.cpp": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw"],
    "kernel/serial_fma.cpp": ["-mfma"],
    "race/avx2.cpp": ["-mavx2"],
    # With avx512dq GCC would turn Philox's 32-bit products into vpmullq, three times as slow.
    "race/avx512.cpp": ["-mavx512f", "-mavx512cd"],
    "race/columns_avx2.cpp": ["-mavx2"],
    "race/columns_avx512.cpp": ["-mavx512f"],
    "rises/avx2.cpp": ["-mavx2"],
    "rises/avx512.cpp": ["-mavx512f"],
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
            own = FILE_ARGS.get(src.removeprefix(f"{CPP.as_posix()}/"), []) if x86 else []
            compile_one(obj, src, suffix, cc_args, [*extra, *own], pp_opts)

        self.compiler._compile = with_flags
        try:
            super().build_extension(ext)
        finally:
            self.compiler._compile = compile_one

    def _builds_for_x86(self) -> bool:
        return self.plat_name.endswith(("x86_64", "amd64"))


# Each module, and the folders whose sources it is made of; most need headers alone.
PARTS: dict[str, tuple[str, ...]] = {
    "_answer": (),
    "_exposures": (),
    "_hash_index": (),
    "_packed": (),
    "_poisson_binomial": (),
    "_race": ("race",),
    "_rises": ("rises",),
    "_sampling": ("kernel", "runtime"),
    "_user_keys": (),
}


def found(pattern: str, *folders: str) -> list[str]:
    """Return the files in folders of `CPP`, in an order that does not depend on the machine."""
    return sorted(str(path) for folder in folders for path in CPP.glob(f"{folder}/{pattern}"))


extensions = [
    Extension(
        f"banditcore.{module}",
        sources=[f"src/banditcore/{module}.pyx", *found("*.cpp", *folders)],
        depends=found("*.h", "*"),
        include_dirs=[str(CPP), np.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        language="c++",
        extra_compile_args=COMPILE_ARGS,
        extra_link_args=["-pthread"],
    )
    for module, folders in PARTS.items()
]

setup(ext_modules=cythonize(extensions), cmdclass={"build_ext": BuildKernels})
