"""scripts/setup, with stand-ins for Python, pip and the system's package tools."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

TOOLS = ("bash", "cat", "cp", "dirname", "env", "git", "grep", "mkdir", "rm", "tail")

# Makes "environments" that are copies of itself, notes what pip is asked for, and leaves
# everything else to the real interpreter.
PYTHON = r"""#!/usr/bin/env bash
case "$*" in
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  *"-m pip"*)
    printf '%s\n' "${*#*pip }" >>"$LOG"
    [ -z "${PIP_FAILS_ON:-}" ] || case "$*" in *"$PIP_FAILS_ON"*) exit 1 ;; esac
    ;;
  *"import sys, torch"*) exit 1 ;;
  *) exec "$REAL_PYTHON" "$@" ;;
esac
"""


@dataclass
class Machine:
    """A checkout with nothing but the files that setup reads, and a PATH of our choice."""

    root: Path
    log: Path
    bin: Path

    def tool(self, name: str, text: str) -> None:
        (self.bin / name).unlink(missing_ok=True)
        (self.bin / name).write_text(text, encoding="utf-8")
        (self.bin / name).chmod(0o755)

    def setup(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        self.log.write_text("", encoding="utf-8")
        return subprocess.run(
            [self.root / "scripts" / "setup", *arguments],
            env={
                "PATH": str(self.bin),
                "LOG": str(self.log),
                "REAL_PYTHON": sys.executable,
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def calls(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").splitlines()

    @property
    def extras(self) -> list[str]:
        """Those that are installed one by one: all but what `all` holds and what needs CUDA."""
        text = (self.root / "pyproject.toml").read_text(encoding="utf-8")
        extras = tomllib.loads(text)["project"]["optional-dependencies"]
        held = re.search(r"napari-xt\[(.*?)\]", " ".join(extras["all"]))
        assert held is not None
        return sorted(set(extras) - {"all", "mamba", *held[1].split(",")})

    @property
    def n_calls(self) -> int:
        """Of pip, by a whole installation: its own upgrade, what everyone gets, each extra."""
        return 2 + len(self.extras)


@pytest.fixture
def machine(checkout: Path, tmp_path: Path) -> Machine:
    root = tmp_path / "check out"
    (root / "scripts").mkdir(parents=True)
    shutil.copy(checkout / "scripts" / "setup", root / "scripts")
    shutil.copy(checkout / "pyproject.toml", root)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"there is no {name}")
        (tools / name).symlink_to(found)
    machine = Machine(root, tmp_path / "log", tools)
    machine.tool("python3", PYTHON)
    return machine


def test_installs_everything_once(machine: Machine) -> None:
    first = machine.setup()
    assert first.returncode == 0, first.stderr
    upgrade, install, *extras = machine.calls
    assert "install --upgrade pip>=25.1" in upgrade
    assert install.endswith("install --editable .[all] --group test --group check")
    assert [call.rpartition("install --editable ")[2] for call in extras] == [
        f".[{name}]" for name in machine.extras
    ]
    assert "left out the extra 'mamba'" in first.stdout

    second = machine.setup()
    assert second.returncode == 0
    assert (second.stdout, second.stderr, machine.calls) == ("", "", [])


def test_installs_again_after_a_change(machine: Machine) -> None:
    machine.setup()
    with (machine.root / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert machine.setup().returncode == 0
    assert len(machine.calls) == machine.n_calls
    assert machine.setup("--force").returncode == 0
    assert len(machine.calls) == machine.n_calls


def test_an_interrupted_installation_is_not_taken_for_done(machine: Machine) -> None:
    failed = machine.setup(PIP_FAILS_ON=".[all]")
    assert failed.returncode != 0
    assert "done" not in failed.stdout
    assert machine.setup().returncode == 0
    assert len(machine.calls) == machine.n_calls


def test_reuses_an_environment_that_is_there(machine: Machine) -> None:
    place = machine.root / ".venv" / "bin"
    place.mkdir(parents=True)
    shutil.copy(machine.bin / "python3", place / "python")
    keep = machine.root / ".venv" / "keep"
    keep.touch()
    assert machine.setup().returncode == 0
    assert keep.exists()
    assert len(machine.calls) == machine.n_calls


def test_makes_a_moved_environment_anew(machine: Machine) -> None:
    machine.setup()
    keep = machine.root / ".venv" / "keep"
    keep.touch()
    machine.root = machine.root.rename(machine.root.with_name("elsewhere"))
    moved = machine.setup()
    assert moved.returncode == 0
    assert "moved" in moved.stdout
    assert not (machine.root / ".venv" / "keep").exists()
    assert len(machine.calls) == machine.n_calls


def test_an_extra_that_does_not_install_is_left_out(machine: Machine) -> None:
    project = machine.root / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    extra = '[project.optional-dependencies]\nodd = ["odd>=1"]\n'
    project.write_text(text.replace("[project.optional-dependencies]\n", extra), encoding="utf-8")
    done = machine.setup(PIP_FAILS_ON=".[odd]")
    assert done.returncode == 0, done.stderr
    assert "left out the extra 'odd'" in done.stdout
    assert machine.calls[-1].endswith("install --editable .[odd]")


def test_torch_is_taken_from_the_named_index(machine: Machine) -> None:
    machine.setup(XT_TORCH_INDEX="https://example.org/cpu")
    assert machine.calls[1].endswith("--index-url https://example.org/cpu torch torchvision")
    assert ".[all]" in machine.calls[2]


@pytest.mark.parametrize("python3", [None, "#!/usr/bin/env bash\nexit 1\n"])
def test_says_that_python_is_missing_or_old(machine: Machine, python3: str | None) -> None:
    (machine.bin / "python3").unlink()
    if python3 is not None:
        machine.tool("python3", python3)
    refused = machine.setup()
    assert refused.returncode == 1
    assert "no Python 3.11 or newer" in refused.stderr
    assert "XT_PYTHON" in refused.stderr
    named = machine.setup(XT_PYTHON="/no/such/python")
    assert named.returncode == 1
    assert "/no/such/python" in named.stderr


def test_says_which_package_brings_venv(machine: Machine) -> None:
    lacking = PYTHON.replace('  "-m venv', '  *"import ensurepip"*) exit 1 ;;\n  "-m venv', 1)
    machine.tool("python3", lacking)
    refused = machine.setup()
    assert refused.returncode == 1
    version = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    assert version in refused.stderr


def _debian(machine: Machine, user: int, missing: str) -> None:
    machine.tool("id", f"#!/usr/bin/env bash\necho {user}\n")
    machine.tool("sudo", "#!/usr/bin/env bash\nexit 1\n")
    noted = '#!/usr/bin/env bash\nprintf "apt-get %s\\n" "$*" >>"$LOG"\n'
    machine.tool("apt-get", noted)
    # Asked as -W -f=FORMAT NAME NAMEt64; here everything is called NAMEt64, as newer releases do.
    query = f"#!/usr/bin/env bash\n[[ $4 = {missing}t64 ]] && exit 1\necho installed\nexit 1\n"
    machine.tool("dpkg-query", query)


def test_root_gets_only_the_missing_system_packages(machine: Machine) -> None:
    _debian(machine, user=0, missing="libegl1")
    assert machine.setup().returncode == 0
    update, install = (call for call in machine.calls if call.startswith("apt-get"))
    assert update.startswith("apt-get update")
    assert install.endswith("--no-install-recommends libegl1")


def test_others_are_told_the_command(machine: Machine) -> None:
    _debian(machine, user=1000, missing="xvfb")
    told = machine.setup()
    assert told.returncode == 0
    assert "sudo apt-get install -y --no-install-recommends xvfb" in told.stdout
    assert not [call for call in machine.calls if call.startswith("apt-get")]


def test_bad_usage(machine: Machine) -> None:
    refused = machine.setup("--nonsense")
    assert refused.returncode == 2
    assert "Usage: scripts/setup" in refused.stderr
    assert not (machine.root / ".venv").exists()
