# Archon's image, and the image of its sandboxes:
#
#   docker build -t archon-backend .
#   docker build --target sandbox -t archon-sandbox .
#
# docs/how-to/containers.md says how to run them.

# What a running Archon needs of the system: git for repositories, ssh for those that want it. Everything else comes
# with the wheels, bubblewrap and ripgrep among it.
FROM python:3.11-slim-bookworm AS base
ENV LANG=C.UTF-8 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1
# Not pinned: Debian keeps only the newest build of a package, and a stable release changes nothing but what is broken.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git openssh-client \
    && rm -rf /var/lib/apt/lists/*


# The packages of the lock, each with the hash that it names, as wheels: nothing is compiled here but bytecode.
FROM base AS packages
COPY requirements.txt /tmp/requirements.txt
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --require-hashes --only-binary=:all: --no-compile -r /tmp/requirements.txt \
    && /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib \
    && cp /tmp/requirements.txt /opt/venv/archon-requirements.txt


# Where agents' commands run with ARCHON_SANDBOX=container: toolchains, and nothing of Archon's. Archon brings its own
# server for commands in, so any Linux image with python3 and bash can take this one's place.
FROM base AS sandbox
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        build-essential ca-certificates cmake curl file jq less nodejs npm patch pkg-config procps ripgrep unzip xz-utils \
    && rm -rf /var/lib/apt/lists/*
COPY requirements.txt /tmp/requirements.txt
RUN awk '/^[a-z]/ { uv = /^uv==/ } uv' /tmp/requirements.txt > /tmp/uv.txt \
    && pip install --require-hashes --only-binary=:all: -r /tmp/uv.txt \
    && rm /tmp/uv.txt /tmp/requirements.txt
LABEL org.opencontainers.image.title="archon-sandbox" \
      org.opencontainers.image.description="Toolchains for the commands of Archon's agents" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 65534:65534
CMD ["bash"]


FROM base AS backend
ARG VERSION=0.1.0
ARG REVISION=unknown
ENV ARCHON_HOME=/var/lib/archon \
    ARCHON_VENV=/opt/venv \
    DJANGO_SETTINGS_MODULE=config.settings.prod \
    PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app
RUN groupadd --gid 10001 archon \
    && useradd --uid 10001 --gid archon --home-dir /var/lib/archon --no-create-home --shell /usr/sbin/nologin archon \
    && install --directory --owner archon --group archon --mode 0755 /var/lib/archon
WORKDIR /app
COPY --from=packages /opt/venv /opt/venv
# Root's, and so nobody's to change.
COPY . /app
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash apps cli config integrations celery_app.py manage.py \
    && ln -s /app/archon /usr/local/bin/archon
LABEL org.opencontainers.image.title="archon-backend" \
      org.opencontainers.image.description="Self-hosted backend for autonomous coding agents" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
USER 10001:10001
VOLUME /var/lib/archon
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-m", "config.health"]
ENTRYPOINT ["/app/deploy/entrypoint.sh"]
CMD ["serve"]
