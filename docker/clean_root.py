"""Runs every line of docker/Dockerfile.cpu in a new Debian, where there is no container engine: a check of the image.

    sudo python docker/clean_root.py ROOT [--bind PATH ...] [--env NAME ...] [-- COMMAND ...]

Needs debootstrap and root. ROOT is a new folder, and stays. COMMAND is run at the end as a container would run it, by
default `edco-rl --help`: behind the image's entry point, unless it is a path (`/usr/bin/make quickstart`).
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
DOCKERFILE = REPOSITORY / "docker" / "Dockerfile.cpu"


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile and what they say, lines that go on joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


class Image:
    """What an image has come to, line by line.

    Args:
        root (`Path`):
            The new Debian's folder.
        bound (`list[str]`):
            Files and folders of this machine that can be read there, as a package index or certificates.
        environment (`dict[str, str]`):
            Variables that are set while lines run.
    """

    def __init__(self, root: Path, bound: list[str], environment: dict[str, str]) -> None:
        self.root, self.bound = root, bound
        self.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **environment}
        self.user, self.folder = "0", "/"
        self.shell, self.entry, self.command = ["/bin/sh", "-c"], [], []

    def do(self, name: str, rest: str) -> None:
        """Do what one instruction says.

        Raises:
            SystemExit: It fails, or is not known here.
        """
        if name == "FROM":
            suite = rest.partition(":")[2].partition("-")[0]
            subprocess.run(["debootstrap", "--variant=minbase", suite, str(self.root)], check=True)
        elif name == "SHELL":
            self.shell = json.loads(rest)
        elif name == "ENV":
            for setting in shlex.split(rest):
                key, _, value = setting.partition("=")
                self.environment[key] = value.replace(f"${key}", self.environment.get(key, ""))
        elif name == "USER":
            self.user = rest
        elif name == "WORKDIR":
            self.folder = rest
            (self.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            self._copy([word for word in rest.split() if not word.startswith("--chown")])
        elif name == "RUN":
            self.run([*self.shell, rest])
        elif name == "ENTRYPOINT":
            self.entry = json.loads(rest)
        elif name == "CMD":
            self.command = json.loads(rest)
        elif name != "HEALTHCHECK":
            sys.exit(f"{DOCKERFILE}: {name} is not known to {sys.argv[0]}.")

    def _copy(self, words: list[str]) -> None:
        *sources, target = words
        place = self.root / self.folder.lstrip("/") / target
        for source in sources:
            path = REPOSITORY / source
            if path.is_dir():
                shutil.copytree(path, place, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
            else:
                shutil.copy(path, place)
        subprocess.run(["chown", "--recursive", self.user, str(place)], check=True)

    def run(self, words: list[str]) -> None:
        """Run a command as a container would: alone, as the image's user, in its folder.

        Raises:
            SystemExit: It fails.
        """
        print("+", shlex.join(words), flush=True)
        # What is mounted is gone with the namespace, and what is started with its first process.
        mounts = [f"mount --bind --read-only {path} {self.root}{path}" for path in map(shlex.quote, self.bound)]
        mounts += [f"mount -t proc proc {self.root}/proc", f"mount -t sysfs -o ro sysfs {self.root}/sys"]
        # Shared memory of its own, as a container has: nothing of it is left on this machine.
        mounts += [f"mount --rbind /dev {self.root}/dev", f"mount -t tmpfs tmpfs {self.root}/dev/shm"]
        inside = f"cd {self.folder} && exec {shlex.join(words)}"
        enter = ["chroot", f"--userspec={self.user}", str(self.root), "/bin/bash", "-c", inside]
        script = " && ".join([*mounts, f"exec {shlex.join(enter)}"])
        for path in map(Path, self.bound):
            there = self.root / str(path).lstrip("/")
            there.parent.mkdir(parents=True, exist_ok=True)
            there.mkdir(exist_ok=True) if path.is_dir() else there.touch()
        shutil.copy("/etc/resolv.conf", self.root / "etc" / "resolv.conf")
        home = "/root" if self.user == "0" else self._home()
        alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/bash", "-c", script]
        code = subprocess.run(alone, env={**self.environment, "HOME": home}).returncode
        if code:
            sys.exit(f"It ended with exit code {code}.")

    def _home(self) -> str:
        lines = (self.root / "etc" / "passwd").read_text().splitlines()
        return next(line.split(":")[5] for line in lines if line.split(":")[2] == self.user)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--bind", nargs="*", default=[], metavar="PATH", help="of this machine, to be read there")
    parser.add_argument("--env", nargs="*", default=[], metavar="NAME", help="variables of this machine")
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    options = parser.parse_args(sys.argv[1:end])
    if options.root.exists():
        sys.exit(f"{options.root} is there already; remove it, or name another.")
    image = Image(options.root.resolve(), options.bind, {name: os.environ[name] for name in options.env})
    for name, rest in instructions(DOCKERFILE.read_text()):
        image.do(name, rest)
    words = sys.argv[end + 1 :] or image.command
    image.run(words if words[0].startswith("/") else [*image.entry, *words])


if __name__ == "__main__":
    main()
