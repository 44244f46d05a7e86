# lictor, built from source and nothing else. An application's image takes the binary from it:
#
#   docker build -t lictor .
#   COPY --from=lictor /usr/local/bin/lictor /usr/local/bin/lictor
#
# or is built on it, with `CMD ["--", "mariadbd", ..]`. BUILDER needs Rust 1.85 or newer and a C compiler, BASE a glibc that is not older
# than BUILDER's.
ARG BUILDER=rust:1-slim-bookworm
ARG BASE=debian:bookworm-slim

FROM ${BUILDER} AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
# Not built, but Cargo.toml may name them.
COPY tests tests
# `install` copies out of the cache mount, which is not part of the layer.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin lictor \
    && install -D -m 755 target/release/lictor /out/lictor \
    && /out/lictor --version

FROM ${BASE}
COPY --from=build /out/lictor /usr/local/bin/lictor
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/lictor/
# The application's data in /data/app, lictor's in /data/.lictor.
VOLUME /data
# Health, control and peers.
EXPOSE 8008
ENTRYPOINT ["lictor", "run"]
