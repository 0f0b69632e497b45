#!/usr/bin/env bash
# Builds local/python:3.11-slim-ca, the stand-in for python:3.12-slim where no container registry can be reached: Debian 12 with its
# own Python, from the Debian mirror of this machine. Does nothing where the image exists. Needs root, Debian and mmdebstrap.
set -euo pipefail

IMAGE=local/python:3.11-slim-ca
CA=/etc/ssl/certs/ca-certificates.crt

fail() {
  echo "error: $*" >&2
  exit 1
}

docker info >/dev/null 2>&1 || fail "no Docker engine answers; start one (on Debian: .ci/engine.sh)"
if docker image inspect "$IMAGE" >/dev/null 2>&1; then
  exit 0
fi
command -v mmdebstrap >/dev/null || fail "mmdebstrap is missing; install it: apt-get install -y --no-install-recommends mmdebstrap"
[ -r "$CA" ] || fail "found no $CA; install it: apt-get install -y --no-install-recommends ca-certificates"

mirror=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null || true)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# This machine's certificates go into the image: behind a proxy of its own, pip in a build would trust nothing otherwise.
mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates,curl \
  --aptopt='Acquire::Check-Valid-Until "false"' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook="copy-in $CA $(dirname "$CA")" \
  --customize-hook='ln -sf python3 "$1/usr/bin/python"' \
  bookworm "$work/root.tar" "${mirror:-http://deb.debian.org/debian}" >&2 || fail "mmdebstrap failed, see above; no image was made"

# As the real image: pip installs for the whole system. PIP_BREAK_SYSTEM_PACKAGES is what Debian's own pip wants for that.
docker import \
  -c 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
  -c "ENV PIP_CERT=$CA SSL_CERT_FILE=$CA REQUESTS_CA_BUNDLE=$CA PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore" \
  -c 'CMD ["python3"]' "$work/root.tar" "$IMAGE" >/dev/null
echo "built $IMAGE"
