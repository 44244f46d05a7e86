# lictor, built from source and nothing else. An application's image takes the binary from it:
#
#   docker build -t lictor .
#   COPY --from=lictor /usr/local/bin/lictor /usr/local/bin/lictor
#
# or is built on it, with `CMD ["--", "mariadbd", ..]`. BUILDER needs Rust 1.85 or newer and a C
# compiler, BASE a glibc that is not older than BUILDER's.
ARG BUILDER=rust:1-slim-bookworm
ARG BASE=debian:bookworm-slim

FROM ${BUILDER} AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
# Not built, but Cargo.toml names some of them.
COPY tests tests
COPY examples examples
RUN cargo build --release --locked --bin lictor && target/release/lictor --version

FROM ${BASE}
COPY --from=build /src/target/release/lictor /usr/local/bin/lictor
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/lictor/
# The application's data in /data/app, lictor's in /data/.lictor.
VOLUME /data
# Health, control and peers.
EXPOSE 8008
ENTRYPOINT ["lictor", "run"]
