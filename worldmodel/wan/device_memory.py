"""How much memory a device has left."""

from pathlib import Path

import torch


def free_bytes(device: torch.device) -> float:
    """Bytes that can still be taken; infinite where nothing tells."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux: let it try
        return float("inf")
    table = {line.split(":")[0]: line.split()[1] for line in lines}
    return 1024.0 * float(table["MemAvailable"])
