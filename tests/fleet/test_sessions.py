"""Logins on simulated hosts: who gets in, how root is had, what a cut link and a lost power leave behind."""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from gpuwizard.errors import GpuwizardError, RefusedError, UnreachableError
from gpuwizard.events import Choice, SecretPrompt
from gpuwizard.fleet import open_fleet
from gpuwizard.remote.connect import connect
from gpuwizard.remote.options import ConnectOptions
from gpuwizard.remote.target import parse_targets
from gpuwizard.remote.transport import Script
from gpuwizard.secret import Secret

from .conftest import OpenFleet, log_in, run_on, said

PLAIN = """
speed = 50
[hosts.node]
distro = "ubuntu-24.04"
containerd = "2.1.4"
sudo = {sudo}
kubernetes = {{ flavour = "kubeadm", version = "v1.34.1" }}
"""
NOPASSWD = PLAIN.format(sudo='"nopasswd"')


class Says:
    """An operator who gives these passwords, one after the other."""

    def __init__(self, *passwords: str) -> None:
        self.passwords = list(passwords)

    async def choose(self, question: Choice) -> str:
        raise AssertionError(question)

    async def secret(self, question: SecretPrompt) -> Secret | None:
        return Secret(self.passwords.pop(0)) if self.passwords else None


@pytest.mark.parametrize("form", ["classic", "sudo-rs"])
async def test_sudo_takes_the_right_password_only(fleet_of: OpenFleet, form: str) -> None:
    text = PLAIN.format(sudo=f'{{ kind = "password", form = "{form}", password = "correct horse" }}')
    async with fleet_of(text) as fleet:
        known = await log_in(fleet, "node")
        assert (
            await said(known, "id -u; id -un; echo $HOME", root=True) == f"0\nroot\n{fleet.state_dir}/hosts/node/root\n"
        )
        assert await said(known, "id -un") == "ops\n"
        assert (await run_on(known, "sudo -n id -u")).status == 1
        await known.close()
        asked = replace(fleet.options, sudo_password=None, shared=type(fleet.options.shared)())
        wrong = await connect(parse_targets(["node"])[0], asked, Says("wrong", "wrong again"))
        with pytest.raises(GpuwizardError):
            await wrong.run(Script("main() { id; }"), root=True)
        await wrong.close()


async def test_a_user_who_may_not_become_root(fleet_of: OpenFleet) -> None:
    async with fleet_of(PLAIN.format(sudo='"none"')) as fleet:
        transport = await connect(parse_targets(["node"])[0], fleet.options, Says("any"))
        with pytest.raises(GpuwizardError):
            await transport.run(Script("main() { id; }"), root=True)
        await transport.close()


async def test_only_the_key_of_this_run_opens_a_host(fleet_of: OpenFleet) -> None:
    async with fleet_of(NOPASSWD) as fleet:
        endpoint = fleet.options.endpoints["node"]
        assert endpoint.address == "127.0.0.1"
        other = asyncssh.generate_private_key("ssh-ed25519")
        with pytest.raises(asyncssh.PermissionDenied):
            await asyncssh.connect(
                endpoint.address, endpoint.port, username="ops", client_keys=[other], known_hosts=None, config=None
            )
        mine = asyncssh.import_private_key(endpoint.client_key)
        with pytest.raises(asyncssh.PermissionDenied):
            await asyncssh.connect(
                endpoint.address, endpoint.port, username="root", client_keys=[mine], known_hosts=None, config=None
            )
        assert endpoint.client_key not in repr(fleet.options)


async def test_no_other_name_is_reached(fleet_of: OpenFleet) -> None:
    async with fleet_of(NOPASSWD) as fleet:
        for name in ("localhost", "local", "example.org"):
            with pytest.raises(RefusedError):
                await connect(parse_targets([name])[0], fleet.options, Says())


async def test_streams_statuses_and_much_data(fleet_of: OpenFleet) -> None:
    async with fleet_of(NOPASSWD) as fleet:
        transport = await log_in(fleet, "node")
        done = await run_on(transport, "echo out; echo err >&2; exit 7")
        assert (done.status, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
        big = await run_on(transport, "head -c 3000000 /dev/zero | tr '\\0' x")
        assert big.stdout == b"x" * 3_000_000
        many = await asyncio.gather(*(run_on(transport, f"sleep 1; echo {n}") for n in range(5)))
        assert [m.stdout for m in many] == [f"{n}\n".encode() for n in range(5)]
        await transport.close()


async def test_time_goes_faster(fleet_of: OpenFleet) -> None:
    async with fleet_of(NOPASSWD) as fleet:
        transport = await log_in(fleet, "node")
        began = asyncio.get_running_loop().time()
        first, second = (await said(transport, "date +%s; sleep 50.5; date +%s")).split()
        assert 50 <= int(second) - int(first) < 1000
        assert asyncio.get_running_loop().time() - began < 30
        await transport.close()


async def test_what_pid_1_owns_outlives_a_cut_link(fleet_of: OpenFleet) -> None:
    async with fleet_of(NOPASSWD) as fleet:
        host = fleet.hosts["node"]
        transport = await log_in(fleet, "node")
        work = 'i=0; while [ $i -lt 20 ]; do i=$((i + 1)); sleep 1; done; echo done >"$GPUWIZARD_FLEET_ROOT/tmp/result"'
        await said(transport, f"systemd-run -q --collect --unit=work sh -c '{work}'", root=True)
        running = asyncio.create_task(run_on(transport, "sleep 100000"))
        await asyncio.sleep(0)
        fleet.servers["node"].block()
        with pytest.raises(UnreachableError):
            await running
        with pytest.raises(UnreachableError):
            await log_in(fleet, "node")
        async with asyncio.timeout(10):
            while host.tree.read("/tmp/result") is None:
                await asyncio.sleep(0.01)
        fleet.servers["node"].block(False)
        await transport.reconnect()
        assert await said(transport, 'cat "$R/tmp/result"') == "done\n"
        await transport.close()


async def test_a_reboot_runs_what_is_enabled(fleet_of: OpenFleet) -> None:
    unit = (
        "[Unit]\\nConditionPathExists=%s/tmp/armed\\n"
        '[Service]\\nType=oneshot\\nExecStart=/bin/sh "%s/tmp/at-boot" now\\n'
        "[Install]\\nWantedBy=multi-user.target\\n"
    )
    async with fleet_of(NOPASSWD) as fleet:
        host = fleet.hosts["node"]
        transport = await log_in(fleet, "node")
        boot = await said(transport, 'cat "$R/proc/sys/kernel/random/boot_id"')
        await said(
            transport,
            f"""touch "$R/tmp/armed"
            echo 'echo "$1" >"$GPUWIZARD_FLEET_ROOT/tmp/booted"' >"$R/tmp/at-boot"
            printf '{unit}' "$R" "$R" >"$R/etc/systemd/system/at-boot.service"
            systemctl enable --no-reload --quiet at-boot.service
            systemd-run -q --unit=forgotten --on-active=1000000s true""",
            root=True,
        )
        await host.reboot()
        assert not transport.alive or (await _fails(transport))
        again = await log_in(fleet, "node")
        assert host.tree.text("/tmp/booted") == "now\n"
        assert await said(again, 'cat "$R/proc/sys/kernel/random/boot_id"') != boot
        assert (await run_on(again, "systemctl is-active -q forgotten.timer")).status != 0
        assert (await host.runtime_state()).cri == "ok"
        await again.close()


async def _fails(transport: object) -> bool:
    try:
        await run_on(transport, "true")  # type: ignore[arg-type]
    except UnreachableError:
        return True
    return False


async def test_a_fleet_goes_on_where_it_was_left(fleet_of: OpenFleet) -> None:
    async with fleet_of(NOPASSWD) as fleet:
        transport = await log_in(fleet, "node")
        await said(
            transport, 'echo kept >"$R/etc/note"; echo "# not loaded" >>"$R/etc/containerd/config.toml"', root=True
        )
        pid = await said(transport, "systemctl show -p MainPID containerd")
        boot = await said(transport, 'cat "$R/proc/sys/kernel/random/boot_id"')
        await transport.close()
    async with fleet_of(NOPASSWD) as fleet:
        transport = await log_in(fleet, "node")
        assert await said(transport, 'cat "$R/etc/note"') == "kept\n"
        assert await said(transport, "systemctl show -p MainPID containerd") == pid
        assert await said(transport, 'cat "$R/proc/sys/kernel/random/boot_id"') == boot
        loaded = fleet.hosts["node"].runtime.loaded
        assert loaded is not None
        assert b"# not loaded" not in loaded["/etc/containerd/config.toml"]
        await said(transport, "systemd-run -q --unit=cut sleep 100000", root=True)
        await transport.close()
    async with fleet_of(NOPASSWD) as fleet:  # work was cut: as if the host had lost its power
        transport = await log_in(fleet, "node")
        assert await said(transport, 'cat "$R/proc/sys/kernel/random/boot_id"') != boot
        await transport.close()
    async with fleet_of(NOPASSWD, fresh=True) as fleet:
        assert fleet.hosts["node"].tree.read("/etc/note") is None


async def test_a_fleet_is_open_once(fleet_of: OpenFleet) -> None:
    async with fleet_of(NOPASSWD):
        with pytest.raises(RefusedError, match="open already"):
            async with fleet_of(NOPASSWD):
                pass


async def test_without_a_sandbox_only_looking_is_possible(fleet_of: OpenFleet) -> None:
    async with fleet_of(NOPASSWD, sandboxed=False) as fleet:
        assert fleet.can_apply is not None
        transport = await log_in(fleet, "node")
        assert await said(transport, "containerd --version")
        for command in ("systemctl restart containerd", "systemd-run true"):
            done = await run_on(transport, command, root=True)
            assert done.status == 1
            assert b"simulated host" in done.stderr
        await transport.close()


async def test_files_of_the_author_are_laid_over(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/fleet.toml").write_text(NOPASSWD)
    config = tmp_path / "own/hosts/node/etc/containerd/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("version = 3\n# mine\n")
    async with open_fleet(str(tmp_path / "own"), state_dir=tmp_path / "state") as fleet:
        assert fleet.hosts["node"].tree.read("/etc/containerd/config.toml") == b"version = 3\n# mine\n"
        assert isinstance(fleet.options, ConnectOptions)
        assert fleet.options.isolated


async def test_a_fleet_that_was_killed_keeps_its_hosts_as_after_a_power_cut(tmp_path: Path) -> None:
    code = (
        "import asyncio, os, sys\nfrom pathlib import Path\nfrom gpuwizard.fleet import open_fleet\n"
        "async def main():\n"
        "    async with open_fleet('mixed', state_dir=Path(sys.argv[1])) as fleet:\n"
        "        fleet.hosts['kube-c17'].tree.write('etc/remember', b'me', 0o644)\n"
        "        os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(tmp_path))
    assert await killed.wait() == -9
    async with open_fleet("mixed", state_dir=tmp_path) as fleet:
        assert fleet.hosts["kube-c17"].tree.read("etc/remember") == b"me"
