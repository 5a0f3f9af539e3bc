"""The compiled modules; all else is in pyproject.toml. Their C is made in ``build/``."""

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

SOURCES = sorted(
    path.as_posix()
    for folder in ("ensign_core", "connectors")
    for path in Path(folder).rglob("*.pyx")
)

setup(
    ext_modules=cythonize(
        [
            Extension(
                source.removesuffix(".pyx").replace("/", "."), [source], extra_compile_args=["-O3"]
            )
            for source in SOURCES
        ],
        build_dir="build/cython",
        compiler_directives={"language_level": 3},
    )
)
