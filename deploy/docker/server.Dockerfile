# The server with its plugins and a CPU torch. Build from the repository's root:
#   docker build -f deploy/docker/server.Dockerfile -t edge-compress-server .
# Run (the server speaks loopback only until mutual TLS exists, so share the host's network):
#   docker run --network host -v edge-compress:/state edge-compress-server
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY edge_compress edge_compress
COPY plugins plugins
RUN python -m venv /opt/edge-compress \
 && /opt/edge-compress/bin/pip install --no-cache-dir -c constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu ".[server]"

FROM python:3.11-slim
COPY --from=build /opt/edge-compress /opt/edge-compress
RUN useradd --system --create-home edge && mkdir /state && chown edge /state
USER edge
ENV PATH=/opt/edge-compress/bin:$PATH EDGE_COMPRESS_STATE=/state EDGE_COMPRESS_LOG_FORMAT=json ORT_DISABLE_TELEMETRY=1
VOLUME /state
EXPOSE 50551 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["edge-compress"]
CMD ["server"]
