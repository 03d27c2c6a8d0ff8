"""How the interactive page behaves in a browser: `python -m benchmarks.page PAGE [--json FILE] [--screenshot PNG]`.

Needs Chromium. A move of the pointer is timed with five tracks kept, all over the picture, in five frames for every
query frame: what the page's script takes to answer it, and the same until the canvas is painted (here by the CPU).
"CPU" leaves out painting and the time in which other programs had the core: a mean.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from evaluation.provenance import provenance
from evaluation.tables import markdown_table
from tests.browser import Page, browser, find_chromium
from utils.atomic import write_atomic
from utils.errors import InputError, exit_on_input_error

MOVES = 100  # of the pointer in a frame
# Moves all over the picture, each timed with the drawing that follows from it.
TIME_MOVES = """
(() => {
  const box = picture.getBoundingClientRect();
  return Array.from({ length: %d }, (_, k) => {
    const across = ((k * 37) %% 97) / 97, down = ((k * 17) %% 89) / 89;
    const at = { clientX: box.left + across * box.width, clientY: box.top + down * box.height };
    const start = performance.now();
    picture.dispatchEvent(new PointerEvent("pointermove", at));
    const answered = performance.now();
    picture.getContext("2d").getImageData(0, 0, 1, 1); // waits for the picture itself
    return [answered - start, performance.now() - start];
  });
})()
"""
KEEP_FIVE = "for (let k = 1; k < 6; k++) { hoverAt(WIDTH * k / 6, HEIGHT * k / 6); keepHovered(); }"


def measure(path: Path, screenshot: Path | None = None) -> dict[str, float | int]:
    """Size, time until it can be used, time of a pointer move, ms; the page with five tracks kept as `screenshot`."""
    with tempfile.TemporaryDirectory() as profile, browser(find_chromium(), Path(profile)) as shown:
        shown.ask("Performance.enable", timeDomain="threadTicks")
        shown.open(path, 1280, 900)
        shown.wait("view.tracks !== null")
        result = {"MB": path.stat().st_size / 1e6, "ms until usable": shown.run("performance.now()")}
        shown.run(KEEP_FIVE)
        if screenshot:
            shown.screenshot(screenshot)
        moves, switches, cpu = [], [], 0.0
        for query in range(shown.run("META.queries.length")):
            start = f"(async () => {{ const start = performance.now(); await chooseQuery({query}); "
            switches.append(shown.run(start + "return performance.now() - start; })()"))
            for frame in np.linspace(0, shown.run("FRAMES") - 1, 5).astype(int):
                shown.run(f"show({frame})")
                before = script_seconds(shown)
                moves += shown.run(TIME_MOVES % MOVES)
                cpu += script_seconds(shown) - before
        heap = shown.run("performance.memory.usedJSHeapSize") / 1e6
    for kind, times in zip(("script", "and painting"), np.transpose(moves), strict=True):
        for name, share in (("median", 50), ("99 %", 99), ("slowest", 100)):
            result[f"ms a move, {kind}, {name}"] = float(np.percentile(times, share))
    result["ms a move, script, CPU"] = 1000 * cpu / len(moves)
    return {**result, "moves": len(moves), "ms to another query frame": max(switches), "MB of script heap": heap}


def script_seconds(shown: Page) -> float:
    """Time that the page's thread has computed in scripts."""
    metrics = {metric["name"]: metric["value"] for metric in shown.ask("Performance.getMetrics")["metrics"]}
    return metrics["ScriptDuration"]


@exit_on_input_error
def main() -> None:
    """Print the table, and write it with the machine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path, help="index.html of a run's vis folder")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.add_argument("--screenshot", type=Path, help="write a picture of the whole page, five tracks kept (png)")
    args = parser.parse_args()
    if find_chromium() is None or not args.page.is_file():
        raise InputError(
            f"this needs Chromium on the PATH, and a page at {args.page}: make one with viz.py --style page"
        )
    result = measure(args.page, args.screenshot)
    print(markdown_table(["figure", "value"], [[name, f"{value:.1f}"] for name, value in result.items()]))
    if args.json:
        write_atomic(args.json, json.dumps({"result": result, **provenance()}, indent=1).encode("utf-8"))


if __name__ == "__main__":
    main()
