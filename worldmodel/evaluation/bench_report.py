"""What `worldmodel bench` prints: a table for people, then one line of JSON."""

from typing import Any

from worldmodel.system.other_programs import disturbance
from worldmodel.system.printable import counted, tell, tell_json


def print_throughput(result: dict[str, Any]) -> None:
    """A row for each number of sessions, then one line of JSON."""
    tell(f"{result['world']} on {result['on']}, no window")
    for row in result["sessions"]:
        tell(
            f"{row['sessions']:4} sessions   {row['frame_ms']:8.2f} ms a frame   "
            f"{row['fps_each']:7.1f} frames/s each   {row['fps_together']:7.1f} together"
        )
    _say_disturbance(result)
    tell_json(result)


def print_bench(result: dict[str, Any]) -> None:
    """A table for a person, then one line of JSON."""
    latency, frame, split = result["latency_ms"], result["frame_ms"], result["split_ms"]
    machine, steps = result["machine"], result["steps"]
    own, best = machine["model_shapes"][result["dtype"]], result["peak_gflops"]
    lines = [
        f"world            {result['world']}, {steps} denoising step{'s' if steps > 1 else ''}",
        f"machine          {result['device']}, {counted(result['threads'], 'thread')}",
        f"engine           {result['engine']}, {result['dtype']}",
        f"frame rate       {result['fps']:.1f} frames/s, uncapped; a frame takes "
        f"{frame['p50']} ms (p95 {frame['p95']})",
        f"input to frame   p50 {latency['p50']} ms, p95 {latency['p95']} ms, "
        f"p99 {latency['p99']} ms",
        "split (median)   " + ", ".join(f"{part} {ms} ms" for part, ms in split.items()),
        f"work             {result['gflop_per_frame']} GFLOP a frame",
        f"efficiency       {100 * result['efficiency']:.1f} % of the machine's best "
        f"{result['dtype']} product ({best:.0f} GFLOP/s); without the window "
        f"{100 * result['efficiency_at_model_shapes']:.0f} % of torch's at the model's own shapes "
        f"({own:.0f} GFLOP/s)",
        f"memory           {result['rss_mb']} MB resident; copies {machine['copy_gb_per_s']} GB/s",
    ]
    lines.extend(
        f"at frame {row['frame']:6}  {row['frame_ms']} ms a frame, {row['rss_mb']} MB resident"
        for row in result.get("soak", [])
    )
    tell(*lines)
    _say_disturbance(result)
    tell_json(result)


def print_comparison(result: dict[str, Any]) -> None:
    """Two lines, the ratio, and one line of JSON."""
    low, high = result["ratio_range"]
    for key in ("a", "b"):
        row = result[key]
        tell(f"{key}  {row['frame_ms']:8.2f} ms a frame   {row['settings']}: {row['on']}")
    tell(
        f"a is {result['ratio']:.2f} times as fast as b (median of {result['turns']} turns, "
        f"{low:.2f} to {high:.2f})"
    )
    _say_disturbance(result)
    tell_json(result)


def _say_disturbance(result: dict[str, Any]) -> None:
    if warning := disturbance(result["other_cores"]):
        tell(warning)
