# The agent: no torch, no onnx. Build from the repository's root:
#   docker build -f deploy/docker/agent.Dockerfile -t edge-compress-agent .
# Run:
#   docker run --network host -v cam-01:/state edge-compress-agent --profile cam --name cam-01 --labels site=plant-1
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY edge_compress edge_compress
COPY plugins plugins
RUN python -m venv /opt/edge-compress && /opt/edge-compress/bin/pip install --no-cache-dir -c constraints.txt .

FROM python:3.11-slim
COPY --from=build /opt/edge-compress /opt/edge-compress
RUN useradd --system --create-home edge && mkdir /state && chown edge /state
USER edge
ENV PATH=/opt/edge-compress/bin:$PATH EDGE_COMPRESS_STATE=/state EDGE_COMPRESS_LOG_FORMAT=json ORT_DISABLE_TELEMETRY=1
VOLUME /state
STOPSIGNAL SIGTERM
ENTRYPOINT ["edge-compress", "agent"]
