"""Services of simulated hosts do what their configuration makes of them."""

import asyncio
import re

import pytest

from gpuwizard.fleet.host import SimulatedHost

from .conftest import OpenFleet, log_in, run_on, said

KUBEADM = """
speed = 50
[hosts.node]
distro = "debian-12"
gpus = ["T4"]
driver = "535.274.02"
toolkit = "1.18.0"
containerd = "{containerd}"
kubernetes = {{ flavour = "kubeadm", version = "v1.34.1" }}
"""
K3S = """
speed = 50
[hosts.node]
gpus = ["L4"]
driver = "580.95.05"
toolkit = "1.18.0"
kubernetes = { flavour = "k3s", role = "server", version = "v1.34.1+k3s1", started_before_toolkit = true }
"""
CRI, RUNTIME = "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"
SHOW = "systemctl show -p ActiveState -p SubState -p MainPID -p NRestarts"


def shown(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if line)


async def until(host: SimulatedHost, unit: str, wanted: str) -> None:
    """Wait until the unit's state or count of restarts is the one that is wanted."""
    async with asyncio.timeout(10):
        while True:
            found = host.init.unit(unit)
            if found is not None and wanted in (found.active, found.sub, f"restarts {found.restarts}"):
                return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("containerd", "text", "starts", "cri"),
    [
        ("1.7.24", "version = 2\n", True, "ok"),
        ("1.7.24", "version = 3\n", False, None),
        ("1.7.24", "version = 2\n[plugins.cri]\n", False, None),
        ("1.7.24", f"version = 2\n[plugins.'{CRI}'.containerd]\ndefault_runtime_name = 'nvidia'\n", True, "error"),
        ("2.1.4", "version = 3\n", True, "ok"),
        ("2.1.4", "version = 3\nversion = 3\n", False, None),
        ("2.1.4", f"version = 3\n[plugins.'{RUNTIME}'.containerd]\ndefault_runtime_name = 'nvidia'\n", True, "error"),
        ("2.1.4", "version = 3\ndisabled_plugins = ['io.containerd.cri.v1.runtime']\n", True, "disabled"),
    ],
)  # fmt: skip
async def test_containerd_judges_its_configuration(
    fleet_of: OpenFleet, containerd: str, text: str, starts: bool, cri: str | None
) -> None:
    async with fleet_of(KUBEADM.format(containerd=containerd)) as fleet:
        host = fleet.hosts["node"]
        transport = await log_in(fleet, "node")
        before = shown(await said(transport, f"{SHOW} containerd"))
        assert before["ActiveState"] == "active"
        host.tree.write("/etc/containerd/config.toml", text.encode())
        dump = await run_on(transport, "containerd config dump >/dev/null", root=True)
        assert (dump.status == 0) is starts
        done = await run_on(transport, "systemctl restart containerd", root=True)
        assert (done.status == 0) is starts
        after = shown(await said(transport, f"{SHOW} containerd"))
        state = await host.runtime_state()
        if starts:
            assert (after["ActiveState"], after["NRestarts"]) == ("active", "0")
            assert after["MainPID"] != before["MainPID"]
            assert state.cri == cri
            plugins = await said(transport, "ctr plugins ls", root=True)
            lines = [line.split() for line in plugins.splitlines() if line.split()[1:2] == ["cri"]]
            assert [line[-1] for line in lines] == ([] if cri == "disabled" else [cri])
        else:
            assert b"Job for containerd.service failed" in done.stderr
            assert state.service_active is False
            assert (await run_on(transport, "ctr plugins ls", root=True)).status != 0
            await until(host, "containerd.service", "restarts 2")
            journal = await said(transport, "journalctl -u containerd -n 30 -o cat --no-pager", root=True)
            assert "failed to load TOML" in journal
        await transport.close()


async def test_a_mended_configuration_brings_containerd_back(fleet_of: OpenFleet) -> None:
    async with fleet_of(KUBEADM.format(containerd="2.1.4")) as fleet:
        host = fleet.hosts["node"]
        transport = await log_in(fleet, "node")
        good = host.tree.read("/etc/containerd/config.toml")
        assert good is not None
        host.tree.write("/etc/containerd/config.toml", b"nonsense")
        await said(transport, "systemctl restart --no-block containerd", root=True)
        await until(host, "containerd.service", "auto-restart")
        host.tree.write("/etc/containerd/config.toml", good)
        await until(host, "containerd.service", "active")
        assert (await host.runtime_state()).cri == "ok"
        await transport.close()


async def test_the_staged_files_are_judged_in_a_private_namespace(fleet_of: OpenFleet) -> None:
    async with fleet_of(KUBEADM.format(containerd="1.7.24")) as fleet:
        transport = await log_in(fleet, "node")
        text = """
        cp -a "$R/etc/containerd" "$R/tmp/copy"
        printf 'version = 3\\n' >"$R/tmp/copy/config.toml"
        unshare -m sh -c 'mount --bind "$GPUWIZARD_FLEET_ROOT/tmp/copy" "$GPUWIZARD_FLEET_ROOT/etc/containerd" &&
            containerd --config "$GPUWIZARD_FLEET_ROOT/etc/containerd/config.toml" config dump' && exit 9
        containerd --config "$R/etc/containerd/config.toml" config dump
        mount --bind "$R/tmp" "$R/etc" 2>/dev/null && exit 8
        exit 0"""
        done = await run_on(transport, text, root=True)
        assert done.status == 0, done
        assert b"unsupported config version 3" in done.stderr or b"version" in done.stderr
        assert b"SystemdCgroup = true" in done.stdout
        await transport.close()


async def test_k3s_finds_the_toolkit_at_its_next_start(fleet_of: OpenFleet) -> None:
    async with fleet_of(K3S) as fleet:
        host = fleet.hosts["node"]
        transport = await log_in(fleet, "node")
        assert (await host.runtime_state()).handlers == ("runc",)
        await said(transport, "systemctl restart k3s", root=True)
        state = await host.runtime_state()
        assert set(state.handlers) == {"nvidia", "runc"}
        assert state.default_handler == "runc"
        assert state.toolkit_ok
        rendered = host.tree.text("/var/lib/rancher/k3s/agent/etc/containerd/config.toml")
        assert re.search(r"runtimes\.'nvidia'", rendered)
        await transport.close()


@pytest.mark.parametrize(
    ("path", "text", "why"),
    [
        ("/etc/rancher/k3s/config.yaml.d/50-x.yaml", "default-runtime: crun\n", "default runtime crun was not found"),
        ("/etc/rancher/k3s/config.yaml.d/50-x.yaml", "a: [\n", "failed to load configuration file"),
        ("/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.tmpl", "{{ .SELinuxEnabled }}\n", "can't evaluate"),
        (
            "/var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.tmpl",
            "{{ template \"base\" . }}\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia]\n",
            "failed to load TOML",
        ),
    ],
)
async def test_k3s_goes_round_in_circles_over_a_bad_file(fleet_of: OpenFleet, path: str, text: str, why: str) -> None:
    async with fleet_of(K3S) as fleet:
        host = fleet.hosts["node"]
        transport = await log_in(fleet, "node")
        host.tree.write(path, text.encode(), 0o600)
        assert (await run_on(transport, "systemctl restart k3s", root=True)).status == 1
        await until(host, "k3s.service", "restarts 2")
        assert why in await said(transport, "journalctl -u k3s -n 20 -o cat", root=True)
        host.tree.remove(path)
        await until(host, "k3s.service", "active")
        await transport.close()


async def test_default_runtime_of_k3s(fleet_of: OpenFleet) -> None:
    async with fleet_of(K3S) as fleet:
        host = fleet.hosts["node"]
        transport = await log_in(fleet, "node")
        host.tree.write("/etc/rancher/k3s/config.yaml.d/50-x.yaml", b"default-runtime: nvidia\n", 0o600)
        await said(transport, "systemctl restart k3s", root=True)
        assert (await host.runtime_state()).default_handler == "nvidia"
        await transport.close()


async def test_a_host_can_be_told_not_to_start_again(fleet_of: OpenFleet) -> None:
    text = KUBEADM.format(containerd="2.1.4").replace("[hosts.node]", '[hosts.node]\nfaults = ["does-not-start-again"]')
    async with fleet_of(text) as fleet:
        transport = await log_in(fleet, "node")
        assert (await run_on(transport, "systemctl is-active -q containerd")).status == 0
        assert (await run_on(transport, "systemctl restart containerd", root=True)).status == 1
        await transport.close()


async def test_a_host_can_be_told_to_die_of_changes(fleet_of: OpenFleet) -> None:
    text = KUBEADM.format(containerd="2.1.4").replace("[hosts.node]", '[hosts.node]\nfaults = ["dies-of-changes"]')
    async with fleet_of(text) as fleet:
        host = fleet.hosts["node"]
        transport = await log_in(fleet, "node")
        await said(transport, "systemctl restart containerd", root=True)
        await said(
            transport, 'cd "$R/etc/containerd" && cp config.toml ../old && echo "# new" >>config.toml', root=True
        )
        assert (await run_on(transport, "systemctl restart containerd", root=True)).status == 1
        await said(transport, 'cp "$R/etc/old" "$R/etc/containerd/config.toml"', root=True)
        await until(host, "containerd.service", "active")
        await transport.close()


async def test_tools_that_are_made_up(fleet_of: OpenFleet) -> None:
    """Owners, disks, kernels and time are the simulated host's; what macOS lacks comes from the fleet in GNU's form."""
    text = KUBEADM.format(containerd="2.1.4").replace("[hosts.node]", '[hosts.node]\nfaults = ["disk-full"]')
    async with fleet_of(text) as fleet:
        transport = await log_in(fleet, "node")
        assert await said(transport, "uname -s -r -m; uname -n") == "Linux 6.8.0-86-generic x86_64\nnode\n"
        free = await said(transport, "df -P -k \"$R/etc\" | awk 'NR == 2 { print $4 }'")
        assert free == "4096\n"
        form = "%a %u %g %U %Y %s %h %n"
        wanted = f"""cd "$R/etc" && chmod 640 hostname && stat -c '{form}' hostname containerd"""
        own = await said(transport, wanted, root=True)
        assert own.startswith("640 0 0 root ")
        asked = (
            f"""ln -sf "$R/.fleet/ask" "$R/tmp/stat" && cd "$R/etc" && "$R/tmp/stat" -c '{form}' hostname containerd"""
        )
        assert await said(transport, asked, root=True) == own
        one, other = (await said(transport, 'date +%s; "$R/.fleet/now"')).split()
        assert abs(int(one) - int(other)) <= 300, "a second of real time is 50 here"
        await transport.close()


async def test_transient_services_and_timers(fleet_of: OpenFleet) -> None:
    async with fleet_of(KUBEADM.format(containerd="2.1.4")) as fleet:
        host = fleet.hosts["node"]
        transport = await log_in(fleet, "node")
        await said(
            transport,
            """systemd-run -q --collect --unit=now sh -c 'date +%s >"$GPUWIZARD_FLEET_ROOT/tmp/now"; sleep 3600'
            systemd-run -q --collect --unit=later --on-active=30s --timer-property=AccuracySec=1s \\
                sh -c 'echo later; cd "$GPUWIZARD_FLEET_ROOT/tmp"; date +%s >new; mv new later'
            systemctl is-active --quiet now later.timer""",
            root=True,
        )
        taken = await run_on(transport, "systemd-run --unit=now true", root=True)
        assert b"was already loaded" in taken.stderr
        async with asyncio.timeout(10):
            while host.tree.read("/tmp/later") is None:
                await asyncio.sleep(0.01)
        waited = int(host.tree.text("/tmp/later")) - int(host.tree.text("/tmp/now"))
        assert 29 <= waited < 600, "30 s of the fleet's time, not of the machine's"
        assert "later" in await said(transport, "journalctl -u later -o cat", root=True)
        await said(transport, "systemctl stop now; systemctl is-active now && exit 1; exit 0", root=True)
        assert (await run_on(transport, "systemd-run --unit=x true")).status == 1, "only root may"
        await transport.close()


async def test_nothing_reloads_systemd_but_a_reload(fleet_of: OpenFleet) -> None:
    async with fleet_of(KUBEADM.format(containerd="2.1.4")) as fleet:
        host = fleet.hosts["node"]
        transport = await log_in(fleet, "node")
        unit = "[Service]\\nType=oneshot\\nExecStart=/bin/true\\n[Install]\\nWantedBy=multi-user.target\\n"
        await said(
            transport,
            f"""printf '{unit}' >"$R/etc/systemd/system/x.service"
            systemctl enable --no-reload --quiet x.service && systemctl is-enabled x.service""",
            root=True,
        )
        assert host.init.reloads == 0
        await said(transport, "systemctl daemon-reload", root=True)
        assert host.init.reloads == 1
        await transport.close()


@pytest.mark.parametrize(
    ("driver", "status", "text"),
    [
        ('{ version = "580.95.05", loaded = "570.195.03" }', 18, "Driver/library version mismatch"),
        ('{ version = "580.95.05", loaded = "" }', 9, "couldn't communicate with the NVIDIA driver"),
    ],
)
async def test_nvidia_smi_says_what_is_wrong(fleet_of: OpenFleet, driver: str, status: int, text: str) -> None:
    async with fleet_of(KUBEADM.format(containerd="2.1.4").replace('"535.274.02"', driver)) as fleet:
        transport = await log_in(fleet, "node")
        done = await run_on(transport, "nvidia-smi -L")
        assert done.status == status
        assert text in done.stdout.decode()
        assert (await fleet.hosts["node"].runtime_state()).driver_ok is False
        await transport.close()


async def test_metrics_change_and_unknown_stays_unknown(fleet_of: OpenFleet) -> None:
    async with fleet_of(KUBEADM.format(containerd="2.1.4").replace('["T4"]', '["H100", "GB10"]')) as fleet:
        transport = await log_in(fleet, "node")
        query = "nvidia-smi --query-gpu=name,memory.total,utilization.gpu,power.limit --format=csv,noheader,nounits"
        seen = set()
        async with asyncio.timeout(20):
            while len(seen) < 3:
                first, second = (await said(transport, query)).splitlines()
                assert first.startswith("NVIDIA H100 80GB HBM3, 81559, ")
                assert second.startswith("NVIDIA GB10, [N/A], ")
                assert second.endswith(", [N/A]")
                seen.add(first.split(", ")[2])
        unknown = await run_on(transport, "nvidia-smi --query-gpu=nosuchfield --format=csv")
        assert unknown.status == 2
        await transport.close()
