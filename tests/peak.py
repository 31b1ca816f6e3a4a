"""The memory that a tool takes, in a process of its own."""

import subprocess
import sys


def peak_memory(tool, argv):
    """Of ``vqclip.cli.<tool>`` with these words, in KiB."""
    code = (
        "import torch; torch.set_num_threads(1)\n"
        f"from vqclip.cli.{tool} import main\n"
        f"main({list(map(str, argv))!r})\n"
        # Not ru_maxrss: across exec it keeps the peak of the process that started this one, which is pytest.
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    return int(done.stdout.split()[-1])
