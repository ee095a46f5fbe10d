"""Pictures of the wizard for the README: ``python tests/pictures.py FOLDER [PAGE …]`` walks the demo fleet.

Writes FOLDER/PAGE.svg, and FOLDER/PAGE.png where rsvg-convert is installed. Without pages: all of them.
"""

import asyncio
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from textual.pilot import Pilot

from gpuwizard import flow
from gpuwizard.fleet import open_fleet
from gpuwizard.session import Session
from screens.app import GpuwizardApp

SIZE = (140, 36)
PAGES = ("hosts", "findings", "choices", "review", "apply", "monitor")


async def until(pilot: Pilot[int], condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until `condition` holds."""
    for _ in range(int(seconds / 0.1)):
        await pilot.pause(0.1)
        if condition():
            await pilot.pause(0.3)
            return
    raise SystemExit("the demo did not get there in time")


async def walk(folder: Path, wanted: tuple[str, ...], size: tuple[int, int]) -> None:
    """Go through the wizard and keep a picture of every page."""
    with tempfile.TemporaryDirectory() as state:
        Path(state).chmod(0o755)
        async with open_fleet("mixed", state_dir=Path(state)) as fleet:
            session = Session(clock=fleet.clock, state_dir=fleet.state_dir, fleet=fleet, interactive=True)
            session.set_hosts(fleet.targets)
            app = GpuwizardApp(session)
            async with app.run_test(size=size) as pilot:
                await pilot.press("f3")
                await until(pilot, lambda: not app.busy and bool(session.probes))
                keep(app, folder, "hosts", wanted)
                for page in ("findings", "choices", "review"):
                    await pilot.press("f3")
                    await until(pilot, lambda: not app.busy)
                    if page == "review":
                        await until(pilot, lambda: session.plan is not None and not app.busy)
                        await pilot.press("down", "down", "down")
                        await pilot.pause(0.3)
                    keep(app, folder, page, wanted)
                if {"apply", "monitor"} & set(wanted):
                    app.begin_apply()
                    await pilot.pause(6)
                    keep(app, folder, "apply", wanted)
                    await until(pilot, lambda: not app.busy, 120)
                    await pilot.press("f7")
                    await pilot.pause(5)
                    keep(app, folder, "monitor", wanted)
            await flow.close(session)


def keep(app: GpuwizardApp, folder: Path, page: str, wanted: tuple[str, ...]) -> None:
    """Write the picture of one page, if it is wanted."""
    if page not in wanted:
        return
    svg = folder / f"{page}.svg"
    drawn = app.export_screenshot(title="gpuwizard")
    svg.write_text(drawn.replace("<text ", '<text xml:space="preserve" '), encoding="utf-8")  # else spaces are lost
    converter = shutil.which("rsvg-convert")
    if converter:
        subprocess.run([converter, "--zoom", "0.8", str(svg), "-o", str(svg.with_suffix(".png"))], check=True)


def main() -> None:
    """Parse the arguments and walk."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    narrow = "--narrow" in sys.argv
    wanted = tuple(a for a in sys.argv[2:] if not a.startswith("--")) or PAGES
    asyncio.run(walk(folder, wanted, (80, 24) if narrow else SIZE))


if __name__ == "__main__":
    main()
