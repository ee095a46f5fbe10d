"""Run by test_escape.py, as root and as an ordinary user: scripts on a simulated host try to reach the machine.

Prints JSON: what the attempts did to the machine, once from inside the walls and once, as a control, without them.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from gpuwizard.fleet import landlock, open_fleet
from gpuwizard.remote.connect import connect
from gpuwizard.remote.target import parse_targets
from gpuwizard.remote.transport import Script

FLEET = """
[hosts.node]
distro = "debian-12"
gpus = ["T4"]
driver = "535.274.02"
containerd = "1.7.24"
kubernetes = { flavour = "kubeadm", version = "v1.34.1" }
"""

# Each attempt is one line: a name, then a command. OUT is a folder outside, PID a process there, PORT a TCP port.
ATTEMPTS = r"""
write-new       echo x >"$OUT/new"
overwrite       echo x >"$OUT/overwritten"
append          echo x >>"$OUT/appended"
delete          rm -f "$OUT/deleted"
rename          mv "$OUT/renamed" "$OUT/other-name"
take            mv "$OUT/taken" "$IN/taken"
give            echo x >"$IN/given"; mv "$IN/given" "$OUT/given"
copy            echo x >"$IN/copied"; cp "$IN/copied" "$OUT/copied"
make-folder     mkdir "$OUT/folder"
fifo            /usr/bin/mkfifo "$OUT/fifo"
by-symlink      ln -s "$OUT/linked" "$IN/symlink"; echo x >"$IN/symlink"
from-there      cd "$OUT" && echo x >./moved-there
by-dots         echo x >"$IN/../../../../../../../../../../../../../..$OUT/dots"
unset-root      (unset R GPUWIZARD_FLEET_ROOT; echo x >"${R-}$OUT/unset")
empty-env       env -i PATH=/usr/bin:/bin OUT="$OUT" sh -c 'echo x >"$OUT/empty-env"'
chmod           /bin/chmod 0777 "$OUT/chmod"
chmod-call      perl -e 'chmod 0777, "$ENV{OUT}/chmod-call"'
chmod-stand-in  chmod 0777 "$OUT/chmod-stand-in"
touch           touch -d 2001-01-01 "$OUT/touched"
utime-call      perl -e 'utime 1, 1, "$ENV{OUT}/utime"'
truncate-call   perl -e 'truncate "$ENV{OUT}/truncated", 0'
detached        setsid sh -c 'echo x >"$OUT/detached"'
read            grep -q kept-from-scripts "$OUT/secret"
read-proc       cat "/proc/$PID/environ" >/dev/null
home            echo x >"$REAL_HOME/.gpuwizard-escape" && rm -f "$REAL_HOME/.gpuwizard-escape"
tmp             echo x >/tmp/gpuwizard-escape.$$ && rm -f /tmp/gpuwizard-escape.$$
var-tmp         echo x >/var/tmp/gpuwizard-escape.$$ && rm -f /var/tmp/gpuwizard-escape.$$
shm             echo x >/dev/shm/gpuwizard-escape.$$ && rm -f /dev/shm/gpuwizard-escape.$$
signal          kill -0 "$PID"
signal-program  /bin/kill -0 "$PID"
signal-call     perl -e 'exit(kill(0, $ENV{PID}) ? 0 : 1)'
renice          perl -e 'setpriority(0, $ENV{PID}, 7) or exit 1'
tcp-connect     perl -MSocket -e 'socket(S,PF_INET,SOCK_STREAM,0) && connect(S,sockaddr_in($ENV{PORT},inet_aton("127.0.0.1"))) or exit 1'
tcp-listen      perl -MSocket -e 'socket(S,PF_INET,SOCK_STREAM,0) && bind(S,sockaddr_in(0,inet_aton("127.0.0.1"))) && listen(S,1) or exit 1'
udp-send        perl -MSocket -e 'socket(S,PF_INET,SOCK_DGRAM,0) && send(S,"x",0,sockaddr_in($ENV{PORT},inet_aton("127.0.0.1"))) or exit 1'
unix-connect    perl -MSocket -e 'socket(S,PF_UNIX,SOCK_STREAM,0) && connect(S,sockaddr_un("$ENV{OUT}/socket")) or exit 1'
abstract        perl -MSocket -e 'socket(S,PF_UNIX,SOCK_STREAM,0) && connect(S,pack("S a*",PF_UNIX,"\0$ENV{ABSTRACT}")) or exit 1'
"""  # noqa: E501

NEEDS_PLACE = ("overwritten", "appended", "deleted", "renamed", "taken", "linked", "chmod", "chmod-call")
MORE_PLACES = ("chmod-stand-in", "touched", "utime", "truncated", "secret")
BY_EFFECT = {  # attempts that count by what they changed, not by what they say
    "write-new": "new", "overwrite": "overwritten", "append": "appended", "delete": "deleted", "rename": "renamed",
    "take": "taken", "give": "given", "copy": "copied", "make-folder": "folder", "fifo": "fifo",
    "by-symlink": "linked", "from-there": "moved-there", "by-dots": "dots", "unset-root": "unset",
    "empty-env": "empty-env", "chmod": "chmod", "chmod-call": "chmod-call", "chmod-stand-in": "chmod-stand-in",
    "touch": "touched", "utime-call": "utime", "truncate-call": "truncated", "detached": "detached",
}  # fmt: skip


class Outside:
    """A folder, a process and listeners that no simulated host may touch."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        for name in (*NEEDS_PLACE, *MORE_PLACES):
            (folder / name).write_text("kept-from-scripts\n")
        self.process = subprocess.Popen(["sleep", "600"])
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(str(folder / "socket"))
        (folder / "socket").chmod(0o777)
        self.unix.listen(5)
        self.abstract_name = f"gpuwizard-escape-{os.getpid()}-{folder.name}"
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract.bind(f"\0{self.abstract_name}")
        self.abstract.listen(5)
        self.before = self.state()

    def state(self) -> dict[str, tuple[int, float, str]]:
        found = {}
        for path in self.folder.iterdir():
            status = path.lstat()
            text = path.read_text() if path.is_file() else ""
            found[path.name] = (status.st_mode, status.st_mtime, text)
        return found

    def environment(self, inside: str) -> dict[str, str]:
        return {
            "OUT": str(self.folder),
            "IN": inside,
            "PID": str(self.process.pid),
            "PORT": str(self.tcp.getsockname()[1]),
            "ABSTRACT": self.abstract_name,
            "REAL_HOME": os.environ["REAL_HOME"],
        }

    def done(self, said: dict[str, bool]) -> dict[str, bool]:
        after = self.state()
        changed = {name for name in {*self.before, *after} if self.before.get(name) != after.get(name)}
        return {name: BY_EFFECT[name] in changed if name in BY_EFFECT else ok for name, ok in said.items()}

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for listener in (self.tcp, self.unix, self.abstract):
            listener.close()


def script(environment: dict[str, str]) -> str:
    lines = [f"{name}='{value}'; export {name}" for name, value in environment.items()]
    for line in ATTEMPTS.strip().splitlines():
        name, command = line.split(None, 1)
        lines.append(f"if ( {command} ) >/dev/null 2>&1 </dev/null; then echo '{name} yes'; else echo '{name} no'; fi")
    return "main() {\n" + "\n".join(lines) + "\n}\n"


def answers(text: str) -> dict[str, bool]:
    return {line.split()[0]: line.endswith(" yes") for line in text.splitlines() if line.endswith((" yes", " no"))}


def without_walls(folder: Path) -> dict[str, bool]:
    inside = folder / "inside"
    inside.mkdir()
    outside = Outside(folder / "control")
    text = script(outside.environment(str(inside))) + "main\n"
    run = subprocess.run(["sh", "-s"], input=text, text=True, capture_output=True, check=True)
    done = outside.done(answers(run.stdout))
    outside.close()
    return done


async def within_walls(folder: Path, *, root: bool) -> dict[str, object]:
    spec = folder / f"walls-{root}.toml"
    spec.write_text(FLEET)
    outside = Outside(folder / f"outside-{root}")
    async with open_fleet(str(spec), state_dir=folder / "state") as fleet:
        transport = await connect(parse_targets(["node"])[0], fleet.options, None)  # type: ignore[arg-type]
        tree = fleet.state_dir / "hosts/node"
        run = await transport.run(Script(script(outside.environment(str(tree / "tmp")))), root=root)
        asked = await transport.run(Script("main() { kill -9 -1; }"), root=root, timeout=20)
        del asked
        await asyncio.sleep(0.2)
        alive = outside.process.poll() is None
        await transport.close()
        reason, user = fleet.can_apply, tree.stat().st_uid
    done = outside.done(answers(run.stdout.decode()))
    outside.close()
    return {"done": done, "alive": alive, "can_apply": reason, "tree_user": user, "errors": run.stderr.decode()}


async def dies_with_it(folder: Path) -> bool:
    """A fleet that is killed takes even what its hosts detached with it."""
    spec = folder / "dies.toml"
    spec.write_text(FLEET)
    mark = f"{os.getpid()}.625"  # the argument of the real sleep, by which it is found
    child = os.fork()
    if child == 0:
        os.setsid()
        asyncio.run(_leave_something(spec, folder / "state", mark))
        os._exit(0)
    try:
        await asyncio.to_thread(_until, lambda: _sleeps(mark), 20)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    return await asyncio.to_thread(_until, lambda: not _sleeps(mark), 10)


async def _leave_something(spec: Path, state: Path, mark: str) -> None:
    async with open_fleet(str(spec), state_dir=state) as fleet:
        transport = await connect(parse_targets(["node"])[0], fleet.options, None)  # type: ignore[arg-type]
        text = f'main() {{ setsid "$R/.fleet/real/sleep" {mark} </dev/null >/dev/null 2>&1 & }}'
        await transport.run(Script(text), root=True)
        threading.Event().wait()


def _sleeps(mark: str) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes().split(b"\0"):
                return True
        except OSError:
            continue
    return False


def _until(true, seconds: float) -> bool:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.02)
    return False


def main() -> None:
    folder = Path(sys.argv[1])
    if len(sys.argv) > 2:  # as on an older kernel
        older = int(sys.argv[2])
        landlock.abi = lambda: older
    result = {
        "control": without_walls(folder),
        "root": asyncio.run(within_walls(folder, root=True)),
        "user": asyncio.run(within_walls(folder, root=False)),
        "dies": asyncio.run(dies_with_it(folder)),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
