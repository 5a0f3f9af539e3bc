"""The compiled modules; all else is in pyproject.toml. Their C is made in ``build/``."""

from Cython.Build import cythonize
from setuptools import Extension, setup

MODULES = (
    "ensign_core.rows.layout",
    "ensign_core.rows.table",
    "ensign_core.rows.lines",
    "ensign_core.rows.json",
    "ensign_core.rows.cloudevents",
    "ensign_core.rows.messages",
    "ensign_core.rows.members",
    "ensign_core.rows.published",
    "ensign_core.rows.edit",
    "connectors.mysql.gathered",
    "connectors.mysql.floats",
    "connectors.mysql.fields",
    "connectors.mysql.stored",
    "connectors.mysql.rowimage",
    "connectors.mysql.shown",
    "connectors.mysql.textrows",
    "connectors.postgres.copylines",
    "connectors.postgres.copydata",
    "connectors.mysql.framing",
    "connectors.mysql.jsonscalars",
    "connectors.mysql.binaryjson",
    "connectors.kafka.records",
)

setup(
    ext_modules=cythonize(
        [
            Extension(name, [f"{name.replace('.', '/')}.pyx"], extra_compile_args=["-O3", "-g0"])
            for name in MODULES
        ],
        build_dir="build/cython",
        compiler_directives={"language_level": 3},
    )
)
