#!/usr/bin/env bash
# A Docker engine with Compose and buildx, promtool and mmdebstrap: installs what is missing (Debian 12, as root) and starts the engine
# where none answers. Run again it finds everything and does nothing. What cannot be had is one line on stderr and exit code 1.
set -euo pipefail
exec </dev/null

readonly LOG=${TMPDIR:-/tmp}/trimtab-dockerd.log
readonly DEADLINE_S=60
readonly LISTS=/etc/apt/sources.list.d PINS=/etc/apt/preferences.d
export DEBIAN_FRONTEND=noninteractive

fail() {
  echo "error: $*" >&2
  exit 1
}

# Package lists may be missing or out of date; then they are fetched and the installation is tried once more.
install() {
  local command=(apt-get install -y --no-install-recommends "$@")
  "${command[@]}" >/dev/null 2>&1 && return
  apt-get update -qq >&2 && "${command[@]}" >/dev/null
}

need_apt() {
  command -v apt-get >/dev/null || fail "$1 is missing, and this is not Debian; install it by hand"
  [ "$(id -u)" = 0 ] || fail "$1 is missing, and only root can install it; run this as root, or install it by hand"
}

# Debian 12 has Compose v1 only. The plugins come from its next release, pinned low, so that nothing else does.
trixie() {
  [ -e "$LISTS/debian.sources" ] || fail "Docker Compose v2 is missing, and $LISTS/debian.sources, which names the mirror, as well"
  sed -n '1,/^$/p' "$LISTS/debian.sources" | sed 's/^Suites:.*/Suites: trixie/' >"$LISTS/trixie.sources"
  printf 'Package: *\nPin: release n=trixie\nPin-Priority: 100\n' >"$PINS/trixie"
  apt-get update -qq >&2
}

install_engine() {
  command -v dockerd >/dev/null && return
  need_apt "a Docker engine"
  install docker.io || fail "docker.io could not be installed, see above"
}

# Without recommendations: docker-compose recommends docker-cli, which would remove docker.io.
install_plugins() {
  docker compose version >/dev/null 2>&1 && docker buildx version >/dev/null 2>&1 && return
  need_apt "Docker Compose v2"
  trixie
  install docker-compose/trixie docker-buildx/trixie || fail "docker-compose and docker-buildx could not be installed, see above"
}

# Unpacked, not installed: Debian's package would start a Prometheus of its own on port 9090.
install_promtool() {
  command -v promtool >/dev/null && return
  need_apt promtool
  local folder
  folder=$(mktemp -d)
  chown _apt "$folder" # apt downloads as this user
  (cd "$folder" && { apt-get download -qq prometheus 2>/dev/null || { apt-get update -qq && apt-get download -qq prometheus; }; }) >&2 \
    || fail "Debian's package prometheus, which holds promtool, could not be downloaded, see above"
  dpkg-deb --fsys-tarfile "$folder"/prometheus_*.deb | tar -xO ./usr/bin/promtool >"$folder/promtool"
  command install -m 755 "$folder/promtool" /usr/local/bin/promtool
  rm -rf "$folder"
}

# For .ci/offline/base-image.sh, which is needed only where no registry answers.
install_mmdebstrap() {
  command -v mmdebstrap >/dev/null && return
  command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || return 0
  install mmdebstrap || fail "mmdebstrap could not be installed, see above"
}

# The last complaint in the engine's log, which may end in a continuation line.
complaint() {
  grep -iE 'fail|error|denied' "$LOG" | tail -n 1 || true
}

start_engine() {
  docker info >/dev/null 2>&1 && return
  [ "$(id -u)" = 0 ] || fail "no Docker engine answers, and only root can start one; start it by hand"
  setsid nohup dockerd >"$LOG" 2>&1 &
  local engine=$! deadline=$((SECONDS + DEADLINE_S))
  until docker info >/dev/null 2>&1; do
    kill -0 "$engine" 2>/dev/null || fail "dockerd ended at once: $(complaint); all of it is in $LOG"
    ((SECONDS < deadline)) || fail "dockerd did not answer within $DEADLINE_S s: $(complaint); all of it is in $LOG"
    sleep 0.2
  done
}

# An engine that answers need not be a local one.
docker info >/dev/null 2>&1 || install_engine
install_plugins
install_promtool
install_mmdebstrap
start_engine
