"""Disks of a few KB and read-only ones, in a name space of their own."""

import shutil
import subprocess

import pytest


@pytest.fixture(scope="session")
def mounting():
    """What to put before a command so that it sees these mounts alone; skips where a user may not
    mount.
    """

    def wrapper(*commands: str) -> list[str]:
        return ["unshare", "-m", "sh", "-c", " && ".join([*commands, 'exec "$@"']), "sh"]

    if (
        not shutil.which("unshare")
        or subprocess.run(wrapper("mount -t tmpfs tmpfs /mnt") + ["true"]).returncode
    ):
        pytest.skip("needs the right to mount (unshare -m)")
    return wrapper
