# One file, four images: api (no torch), migrations (the api image with another command), worker, worker-gpu.
#
#   docker build --target api -t bfc-api .
#
# The packages are those of constraints.txt. The worker images differ in the build of torch only: a
# wheel index that offers one without CUDA makes the CPU image several gigabytes smaller,
#   docker build --target worker --build-arg PIP_EXTRA_INDEX_URL=… .

FROM python:3.12-slim AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PATH=/opt/bfc/bin:$PATH
WORKDIR /srv/bfc

# Dependencies first, against a project without code: a change of code then leaves this layer alone.
FROM base AS dependencies
RUN python -m venv /opt/bfc
COPY pyproject.toml constraints.txt README.md ./

FROM dependencies AS api-dependencies
RUN pip install --quiet -c constraints.txt '.[api,s3]'

FROM dependencies AS worker-dependencies
ARG PIP_EXTRA_INDEX_URL=
RUN pip install --quiet -c constraints.txt '.[worker,s3]'

FROM dependencies AS worker-gpu-dependencies
ARG PIP_EXTRA_INDEX_URL=
RUN pip install --quiet -c constraints.txt '.[worker,s3]'

FROM dependencies AS wheel
COPY bfc_core bfc_core
COPY service service
COPY worker worker
COPY migrations migrations
COPY bfc_client bfc_client
COPY examples examples
RUN pip wheel --quiet --no-deps -w /wheel .

FROM api-dependencies AS api-environment
COPY --from=wheel /wheel /wheel
RUN pip install --quiet --no-deps --force-reinstall /wheel/*.whl

FROM worker-dependencies AS worker-environment
COPY --from=wheel /wheel /wheel
RUN pip install --quiet --no-deps --force-reinstall /wheel/*.whl

FROM worker-gpu-dependencies AS worker-gpu-environment
COPY --from=wheel /wheel /wheel
RUN pip install --quiet --no-deps --force-reinstall /wheel/*.whl

# What runs: no compiler, no pip cache, no source tree, no root.
FROM base AS runtime
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /var/lib/bfc bfc \
    && install --directory --owner=bfc --group=bfc /var/lib/bfc
ENV BFC_DATA_DIR=/var/lib/bfc
VOLUME /var/lib/bfc
WORKDIR /var/lib/bfc
USER bfc

FROM runtime AS api
ENV BFC_AUTH=keys
COPY --from=api-environment /opt/bfc /opt/bfc
EXPOSE 8000
CMD ["python", "-m", "service", "--host", "0.0.0.0", "--port", "8000"]

FROM runtime AS migrations
COPY --from=api-environment /opt/bfc /opt/bfc
CMD ["python", "-m", "migrations"]

FROM runtime AS worker-gpu
COPY --from=worker-gpu-environment /opt/bfc /opt/bfc
CMD ["python", "-m", "worker"]

FROM runtime AS worker
COPY --from=worker-environment /opt/bfc /opt/bfc
CMD ["python", "-m", "worker"]
