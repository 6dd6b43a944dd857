"""The configuration is in pyproject.toml; this file makes a build start from nothing.

setuptools copies the package into build/lib and packs all that it finds there: without this, the build/ that
an earlier `pip install .` left behind would put files that are long gone into the wheel.
"""

import shutil

from setuptools import setup
from setuptools.command.build_py import build_py


class CleanBuildPy(build_py):
    """Copies the package into an empty folder."""

    def run(self) -> None:
        """Empty the folder, then copy."""
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


setup(cmdclass={"build_py": CleanBuildPy})
