"""What NVRTC makes of the kernels: compiled and disassembled on a machine without a GPU."""
