"""Which proxies there are, and the configuration written for each."""

from pathlib import Path

import pytest

from trimtab.errors import UsageError
from trimtab.fleets import proxies
from trimtab.fleets.proxies import PROXIES, check_command, configuration, proxy, run_command

SERVERS = ("127.0.0.1:8081", "[::1]:8082")
HAPROXY = """\
global
    nbthread 1
    maxconn 1024
defaults
    mode http
    timeout connect 1s
    timeout client 75s
    timeout server 10s
    option redispatch
listen rival
    bind 127.0.0.1:20001
    {rule}
    option httpchk GET /health
    default-server check inter 2s
    server server-1 127.0.0.1:8081
    server server-2 [::1]:8082
"""
NGINX = """\
daemon off;
master_process off;
pid /tmp/x/nginx.pid;
error_log stderr crit;
events { worker_connections 2048; }
http {
    access_log off;
    client_body_temp_path /tmp/x/body;
    proxy_temp_path /tmp/x/proxy;
    fastcgi_temp_path /tmp/x/fastcgi;
    uwsgi_temp_path /tmp/x/uwsgi;
    scgi_temp_path /tmp/x/scgi;
    upstream fleet {
        %s
        server 127.0.0.1:8081;
        server [::1]:8082;
        keepalive 256;
        keepalive_requests 1000000000;
    }
    server {
        listen 127.0.0.1:20001;
        keepalive_requests 1000000000;
        location / {
            proxy_pass http://fleet;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_connect_timeout 1s;
            proxy_read_timeout 10s;
        }
    }
}
"""
EXPECTED = {
    "haproxy-leastconn": HAPROXY.format(rule="balance leastconn"),
    "haproxy-random2": HAPROXY.format(rule="balance random(2)"),
    "haproxy-roundrobin": HAPROXY.format(rule="balance roundrobin"),
    "nginx-least-conn": NGINX % "least_conn;",
    "nginx-random-two": NGINX % "random two least_conn;",
}


@pytest.mark.parametrize("one", PROXIES, ids=lambda one: one.name)
def test_the_configuration_is_the_expected_one(one):
    assert configuration(one, 20001, SERVERS, Path("/tmp/x"), 1.0, 10.0) == EXPECTED[one.name]


def test_names_are_unique_and_an_unknown_one_is_an_error():
    assert len({one.name for one in PROXIES}) == len(PROXIES) == len(EXPECTED)
    assert [proxy(one.name) for one in PROXIES] == list(PROXIES)
    with pytest.raises(UsageError, match="unknown proxy 'haproxy-first'; allowed: haproxy-leastconn"):
        proxy("haproxy-first")


def program(folder, name):
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_programs_are_found_where_packages_put_them(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(proxies, "SBIN", (str(tmp_path),))
    assert "haproxy is not installed; install the package haproxy" in proxy("haproxy-leastconn").missing
    haproxy, nginx = program(tmp_path, "haproxy"), program(tmp_path, "nginx")
    assert proxy("haproxy-leastconn").missing == proxy("nginx-random-two").missing == ""
    path = Path("/tmp/x/one.cfg")
    assert run_command(proxy("haproxy-leastconn"), path) == [haproxy, "-f", str(path), "-db"]
    assert check_command(proxy("haproxy-leastconn"), path) == [haproxy, "-f", str(path), "-c"]
    assert run_command(proxy("nginx-least-conn"), path) == [nginx, "-e", "stderr", "-p", "/tmp/x", "-c", str(path)]
    assert check_command(proxy("nginx-least-conn"), path)[-1] == "-t"


def test_what_is_not_installed_has_no_command(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(proxies, "SBIN", ())
    with pytest.raises(UsageError, match="nginx-least-conn: nginx is not installed"):
        run_command(proxy("nginx-least-conn"), tmp_path)
