# One image for servers (keelson), command line (keelsonctl) and operator (keelson-operator): the programs, the libraries they load, nothing else.
#
#   docker build -t ghcr.io/keelson/keelson:0.1.0 .
#
# `make image` packs the same files without a container engine.
FROM docker.io/library/rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends libclang-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Told by --version: --build-arg KEELSON_COMMIT=$(git rev-parse --short HEAD)
ARG KEELSON_COMMIT
# The caches outlive a build, and with them RocksDB, which takes long to compile.
RUN --mount=type=cache,target=/root/.cache/keelson --mount=type=cache,target=/usr/local/cargo/registry \
    make image IMAGE_ARGS="--folder /image"

FROM scratch
COPY --from=build /image /
ENV PATH=/usr/local/bin
USER 65532:65532
WORKDIR /var/lib/keelson
EXPOSE 2379 2380
ENTRYPOINT ["/usr/local/bin/keelson"]
