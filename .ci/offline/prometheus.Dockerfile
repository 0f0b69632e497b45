# Debian's Prometheus with the paths, user and entry point of prom/prometheus, for .ci/offline/compose.yml. No build context is used.
ARG BASE_IMAGE=local/python:3.11-slim-ca
FROM ${BASE_IMAGE}

# The package's own service settings do not matter: every option comes from the Compose file's command.
RUN apt-get update \
    && apt-get install -y --no-install-recommends prometheus \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o nobody -g nogroup /prometheus

USER nobody
WORKDIR /prometheus
VOLUME /prometheus
EXPOSE 9090
ENTRYPOINT ["prometheus"]
