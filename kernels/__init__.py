"""The CUDA C++ sources of gpukmeans, shipped as data: one verb a file."""
