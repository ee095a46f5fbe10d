"""Until when a release of a distribution gets updates for everybody (endoflife.date, 2026-08-22; `hosts.md §1.2`)."""

from collections.abc import Mapping
from datetime import UTC, date, datetime

from gpuwizard.facts.model import OsFacts

__all__ = ["end_of_updates", "paid_updates", "today"]

_DATES: Mapping[str, str] = {
    "ubuntu": "14.04=2019-04-25 16.04=2021-04-02 18.04=2023-05-31 20.04=2025-05-31 22.04=2027-04-01 24.04=2029-05-31 "
    "26.04=2031-04-30 22.10=2023-07-20 23.04=2024-01-20 23.10=2024-07-12 24.10=2025-07-10 25.04=2026-01-17 "
    "25.10=2026-07-01",
    "debian": "8=2020-06-30 9=2022-07-01 10=2024-06-30 11=2026-08-31 12=2028-06-30 13=2030-06-30",
    "rhel": "6=2020-11-30 7=2024-06-30 8=2029-05-31 9=2032-05-31 10=2035-05-31",
    "rocky": "8=2029-05-31 9=2032-05-31 10=2035-05-31",
    "almalinux": "8=2029-05-31 9=2032-05-31 10=2035-05-31",
    "ol": "6=2021-03-31 7=2024-12-31 8=2029-07-31 9=2032-06-30",
    "centos": "6=2020-11-30 7=2024-06-30 8=2024-05-31 9=2027-05-31 10=2030-05-31",
    "fedora": "36=2023-05-16 37=2023-12-05 38=2024-05-21 39=2024-11-26 40=2025-05-13 41=2025-12-15 42=2026-05-27 "
    "43=2026-12-09 44=2027-06-02",
    "amzn": "2018=2023-12-31 2=2026-06-30 2023=2029-06-30",
    "sles": "12.5=2024-10-31 15.1=2021-01-31 15.2=2021-12-31 15.3=2022-12-31 15.4=2023-12-31 15.5=2024-12-31 "
    "15.6=2025-12-31 15.7=2031-07-31 16.0=2027-11-30",
    "opensuse-leap": "15.0=2019-12-03 15.1=2021-02-02 15.2=2022-01-04 15.3=2022-12-31 15.4=2023-12-07 15.5=2024-12-31 "
    "15.6=2026-04-30 16.0=2027-10-31",
}
"""The last day of updates, by VERSION_ID or its integer part. Debian's is that of its long-term support, CentOS 8's
that of Stream 8, the longer-lived of the two."""

_PAID: Mapping[str, str] = {
    "ubuntu": "16.04=2026-04-02 18.04=2028-04-01 20.04=2030-04-02 22.04=2032-04-09 24.04=2036-05-31 26.04=2036-04-30",
}
"""The last day of Ubuntu's updates for those who pay (ESM), which a host shows by its repositories."""


def today() -> date:
    """The day, on this machine's clock."""
    return datetime.now(UTC).date()


def end_of_updates(system: OsFacts) -> date | None:
    """The last day of updates; None where it is not known: rolling releases, derivatives, systems of a vendor."""
    return _day(_DATES, system)


def paid_updates(system: OsFacts) -> date | None:
    """The last day of updates for those who pay, where the host shows whether they are set up."""
    return _day(_PAID, system)


def _day(table: Mapping[str, str], system: OsFacts) -> date | None:
    if system.dgx or system.dgx_name or system.kind in ("jetson", "bottlerocket"):
        return None
    days = dict(entry.split("=") for entry in table.get(system.id or "", "").split())
    found = days.get(system.version_id or "") or days.get(str(system.major))
    return date.fromisoformat(found) if found else None
