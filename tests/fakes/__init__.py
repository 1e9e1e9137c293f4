"""Trees of files in the kernel's formats, which the real readers can be pointed at."""
