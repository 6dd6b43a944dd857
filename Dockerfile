# gpukmeans in a container.
#
#   docker build -t gpukmeans .                              CPU
#   docker build -t gpukmeans --build-arg VARIANT=cuda13 .   CUDA 13, for the GPU backends (cuda12: CUDA 12)
#   docker run --rm -v "$PWD:/data" gpukmeans fit points.npy -k 64 -o model.npz
#   docker run --rm --gpus all gpukmeans doctor --verify     the bits of a card (built with VARIANT=cuda12 or cuda13)
#
# CUDA comes from the wheels of the extras, so the base stays slim; the host needs only the driver.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ARG VARIANT=cpu
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE CHANGELOG.md /src/
COPY gpukmeans /src/gpukmeans
COPY kernels /src/kernels
RUN case "$VARIANT" in \
        cpu) extras="" ;; \
        cuda12|cuda13) extras="[$VARIANT]" ;; \
        *) echo "VARIANT is '$VARIANT'; it must be cpu, cuda12 or cuda13" >&2; exit 1 ;; \
    esac \
    && python -m venv /opt/gpukmeans \
    && /opt/gpukmeans/bin/pip install --no-cache-dir "/src$extras"

FROM python:${PYTHON}-slim
RUN useradd --create-home --uid 1000 gpukmeans && mkdir /data && chown gpukmeans /data
COPY --from=build /opt/gpukmeans /opt/gpukmeans
# The NVIDIA_ variables tell the container runtime to bring the driver; CUDA kernels are compiled at their first use.
ENV PATH=/opt/gpukmeans/bin:$PATH \
    NUMBA_CACHE_DIR=/home/gpukmeans/.cache/numba \
    CUPY_CACHE_DIR=/home/gpukmeans/.cache/cupy \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER gpukmeans
WORKDIR /data
# Compiles the kernels once for the processor that builds the image; another processor compiles its own
# at its first fit. It also proves that the image works.
RUN python -c "import numpy as np, gpukmeans; [gpukmeans.KMeans(2, random_state=0).fit(np.arange(200, dtype=t).reshape(100, 2)) for t in ('f4', 'f8')]"
ENTRYPOINT ["gpukmeans"]
CMD ["--help"]
