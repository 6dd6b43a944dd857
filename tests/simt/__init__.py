"""The SIMT harness: the .cu files compiled by g++ and run on the CPU, without a GPU."""
