"""Builds the compiled core. Everything else about the package stands in pyproject.toml."""

from __future__ import annotations

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

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

sampling = Extension(
    "banditcore._sampling",
    sources=[
        "src/banditcore/_sampling.pyx",
        *(str(CPP / name) for name in ("dispatch.cpp", "kernel_serial.cpp", "rows.cpp")),
    ],
    depends=sorted(str(header) for header in CPP.glob("*.h")),
    include_dirs=[str(CPP)],
    define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
    language="c++",
    extra_compile_args=COMPILE_ARGS,
    extra_link_args=["-pthread"],
)

setup(ext_modules=cythonize([sampling]))
