"""What one look costs a real host: at most 0.15 seconds of CPU of a quick machine, the login and nvidia-smi apart."""

import time
from collections.abc import Awaitable, Callable

from gpuwizard.remote.transport import Transport
from gpuwizard.work.probe import probe_host
from tests.lab.harness.host import LabHost
from tests.pace import slowness

LIMIT = 0.15
TIMES = 8

Login = Callable[..., Awaitable[Transport]]


def settled(host: LabHost) -> float:
    """The CPU seconds of the host, once nothing is added any more: the last processes end behind our back."""
    before = host.cpu_seconds()
    while True:
        time.sleep(0.05)
        now = host.cpu_seconds()
        if now - before < 0.0005:
            return now
        before = now


async def cost(login: Login, host: LabHost) -> float:
    """CPU seconds of one probe over an open connection: the least of several, because the machine does other things.
    The lab's nvidia-smi is a stand-in that takes next to none of it."""
    transport = await login(host)
    await probe_host(transport, sudo_password_known=False)
    spent = []
    for _ in range(TIMES):
        before = settled(host)
        probe = await probe_host(transport, sudo_password_known=False)
        spent.append(settled(host) - before)
        assert probe.readable
    return min(spent)


async def test_a_kubeadm_node(login: Login, each_containerd: LabHost) -> None:
    assert 0.02 < await cost(login, each_containerd) <= LIMIT * slowness()
