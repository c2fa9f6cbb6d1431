# syntax=docker/dockerfile:1
# One gateway in a small image: docker build -t knockx .

FROM rust:1.95-slim-bookworm AS build
# scripts/dist runs training calls, with and without Redis and Postgres, and optimizes the program by their profile, on x86-64
# only.
RUN if [ "$(dpkg --print-architecture)" = amd64 ]; then \
        apt-get update \
        && apt-get install -y --no-install-recommends bolt-16 postgresql python3 redis-server \
        && rm -rf /var/lib/apt/lists/* \
        && rustup component add llvm-tools; \
    fi
WORKDIR /src
COPY . .
# The caches stay outside the image, so the program is copied out of its target folder.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    if [ "$(dpkg --print-architecture)" = amd64 ]; then scripts/dist --require-profile; else scripts/dist; fi \
    && install -D target/optimized/knockx /out/knockx

FROM debian:bookworm-slim
# Upstreams are verified against the system's authorities.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /data knockx \
    && install -d -o knockx -g knockx -m 0700 /data
COPY --from=build /out/knockx /usr/local/bin/knockx
COPY LICENSE LICENSE-MIT LICENSE-APACHE /usr/share/doc/knockx/

USER knockx
WORKDIR /data
# The database, its lock and the generated secret live here: keep it.
VOLUME /data
ENV HOST=0.0.0.0 \
    PORT=8000 \
    DATABASE_URL=sqlite:/data/knockx.db \
    LOG_FORMAT=json
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["knockx", "healthcheck"]
ENTRYPOINT ["knockx"]
CMD ["serve"]
