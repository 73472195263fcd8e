"""What is set in a process before torch is imported: for the commands, and for scripts that measure what they do."""

from compsrt_basicsr.utils import openmp, process_memory


def prepare() -> None:
    """Lets threads sleep early and keeps freed memory in this process. Settings of the user win."""
    openmp.wait_briefly()
    process_memory.keep()
