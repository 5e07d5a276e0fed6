"""How each image is made: whose layout it has, and where that is known from."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from open_webui_edge.bootstrap import command
from open_webui_edge.bootstrap.console import Step
from open_webui_edge.bootstrap.images import rootfs
from open_webui_edge.bootstrap.images.postgres import give_id
from open_webui_edge.settings import images
from open_webui_edge.settings.images import Image
from tests.support.official_images import python
from tests.support.official_images.donor import PATH, SUITE, Donor, Settings

_HERE = Path(__file__).parent
_CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"


def _entry_point(name: str, target: Path) -> None:
    shutil.copyfile(_HERE / "entry_points" / name, target)
    target.chmod(0o755)


def _add_user(root: Path, user: str, number: int, home: str, shell: str) -> None:
    """Add a user and a group of that name, in place of a service's that has the number or the name."""
    for file, line in (
        ("passwd", f"{user}:x:{number}:{number}::{home}:{shell}"),
        ("group", f"{user}:x:{number}:"),
    ):
        path = root / "etc" / file
        path.parent.mkdir(exist_ok=True)
        before = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        stay = [text for text in before if user != text.split(":")[0] and str(number) != text.split(":")[2]]
        path.write_text("\n".join([*stay, line]) + "\n", encoding="utf-8")


# nginx/docker-nginx stable/debian/Dockerfile. Its package is nginx.org's; this one is Debian's, without its modules.

_NGINX_CONFIGURATION = """
user nginx;
worker_processes auto;
error_log /var/log/nginx/error.log notice;
pid /run/nginx.pid;
events { worker_connections 1024; }
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /var/log/nginx/access.log;
    include /etc/nginx/conf.d/*.conf;
}
"""
_NGINX_DEFAULT = """
server {
    listen 80;
    server_name localhost;
    location / { root /usr/share/nginx/html; index index.html; }
}
"""


def _nginx(image: Image, root: Path, donor: Donor, step: Step) -> Settings:
    del donor
    rootfs.make(SUITE, root, ("nginx", "libnginx-mod-stream", "ca-certificates", "curl", "gettext-base"), step)
    _add_user(root, "nginx", 101, "/nonexistent", "/bin/false")
    configuration = root / "etc/nginx"
    for folder in configuration.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    (configuration / "conf.d").mkdir()
    (configuration / "nginx.conf").write_text(_NGINX_CONFIGURATION, encoding="utf-8")
    (configuration / "conf.d/default.conf").write_text(_NGINX_DEFAULT, encoding="utf-8")
    real = root / "usr/libexec/nginx"
    real.mkdir(parents=True)
    (root / "usr/sbin/nginx").rename(real / "nginx")
    (root / "usr/lib/nginx/modules/ngx_stream_module.so").rename(real / "ngx_stream_module.so")
    _entry_point("nginx-with-stream.sh", root / "usr/sbin/nginx")
    for folder in ("usr/lib/nginx/modules", "var/lib/nginx"):
        shutil.rmtree(root / folder, ignore_errors=True)
    for folder in ("var/cache/nginx", "usr/lib/nginx/modules", "docker-entrypoint.d"):
        (root / folder).mkdir(parents=True)
    # Where this one has its temporary files is compiled into it.
    (root / "var/lib/nginx").symlink_to("/var/cache/nginx")
    (configuration / "modules").symlink_to("/usr/lib/nginx/modules")
    for log, stream in (("access.log", "/dev/stdout"), ("error.log", "/dev/stderr")):
        (root / "var/log/nginx" / log).unlink(missing_ok=True)
        (root / "var/log/nginx" / log).symlink_to(stream)
    _entry_point("nginx.sh", root / "docker-entrypoint.sh")
    _entry_point("nginx-ipv6.sh", root / "docker-entrypoint.d/10-listen-on-ipv6-by-default.sh")
    _entry_point("nginx-templates.sh", root / "docker-entrypoint.d/20-envsubst-on-templates.sh")
    return {
        "Entrypoint": ["/docker-entrypoint.sh"],
        "Cmd": ["nginx", "-g", "daemon off;"],
        "Env": [f"PATH={PATH}", f"NGINX_VERSION={image.version}", "PKG_RELEASE=1~trixie"],
        "ExposedPorts": {"80/tcp": {}},
        "StopSignal": "SIGQUIT",
    }


# docker-library/postgres 18/trixie/Dockerfile, on which pgvector/pgvector is built.


def _postgres(image: Image, root: Path, donor: Donor, step: Step) -> Settings:
    del image, donor
    major = images.POSTGRES_MAJOR
    packages = (f"postgresql-{major}", f"postgresql-{major}-pgvector", "gosu", "locales", "xz-utils", "zstd", "less")
    rootfs.make(SUITE, root, packages, step)
    give_id(root, "postgres", 999)
    for folder in ("var/lib/postgresql", "var/log/postgresql", "etc/postgresql"):
        shutil.rmtree(root / folder, ignore_errors=True)
    home = root / "var/lib/postgresql"
    home.mkdir()
    home.chmod(0o1777)
    shutil.chown(home, 999, 999)
    (gosu,) = (path for folder in ("usr/bin", "usr/sbin") if (path := root / folder / "gosu").exists())
    gosu.rename(root / "usr/local/bin/gosu")
    (root / "docker-entrypoint-initdb.d").mkdir()
    words = ["localedef", "-i", "en_US", "-f", "UTF-8", "en_US.UTF-8"]
    rootfs.run_inside(root, words, purpose="Making a locale")
    _entry_point("postgres.sh", root / "usr/local/bin/docker-entrypoint.sh")
    return {
        "Entrypoint": ["docker-entrypoint.sh"],
        "Cmd": ["postgres"],
        "Env": [
            f"PATH={PATH}:/usr/lib/postgresql/{major}/bin",
            "LANG=en_US.utf8",
            f"PG_MAJOR={major}",
            f"PGDATA=/var/lib/postgresql/{major}/docker",
        ],
        "ExposedPorts": {"5432/tcp": {}},
        "StopSignal": "SIGINT",
        "Volumes": {"/var/lib/postgresql": {}},
    }


# valkey-io/valkey-container Dockerfile.template.


def _valkey(image: Image, root: Path, donor: Donor, step: Step) -> Settings:
    del donor
    rootfs.make(SUITE, root, ("valkey-server", "valkey-tools", "tzdata"), step)
    _add_user(root, "valkey", 999, "/home/valkey", "/bin/sh")
    for program in sorted((root / "usr/bin").glob("valkey-*")):
        program.rename(root / "usr/local/bin" / program.name)
    for folder in ("etc/valkey", "var/lib/valkey", "var/log/valkey"):
        shutil.rmtree(root / folder, ignore_errors=True)
    (root / "data").mkdir()
    shutil.chown(root / "data", 999, 999)
    _entry_point("redis.sh", root / "usr/local/bin/docker-entrypoint.sh")
    return {
        "Entrypoint": ["docker-entrypoint.sh"],
        "Cmd": ["valkey-server"],
        "Env": [f"PATH={PATH}", f"VALKEY_VERSION={image.version}"],
        "ExposedPorts": {"6379/tcp": {}},
        "Volumes": {"/data": {}},
        "WorkingDir": "/data",
    }


def _busybox(root: Path, donor: Donor) -> None:
    """Give an image the shell and the tools of Alpine: BusyBox' and no others."""
    (root / "bin").mkdir(exist_ok=True)
    shutil.copy2(donor.root / "usr/bin/busybox", root / "bin/busybox")
    applets = rootfs.run_inside(donor.root, ["busybox", "--list-full"], purpose="Listing BusyBox' applets").split()
    for applet in applets:
        link = root / applet
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to("/bin/busybox")
    # Alpine's has this one too.
    if "usr/bin/flock" not in applets:
        donor.give(root, {"usr/bin/flock": "usr/bin/flock"})
    _add_user(root, "nobody", 65534, "/", "/sbin/nologin")
    _add_user(root, "root", 0, "/root", "/bin/sh")
    (root / "root").mkdir(mode=0o700)
    _temporary(root)


def _temporary(root: Path) -> None:
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)


# certbot/certbot tools/docker/Dockerfile: Python's Alpine image, whose Python is in /usr/local.


def _certbot(image: Image, root: Path, donor: Donor, step: Step) -> Settings:
    del image, step
    _busybox(root, donor)
    name = python.move(donor.root, root)
    packages = root / "usr/local/lib" / name / "site-packages"
    command.output(["cp", "-a", donor.root / "usr/lib/python3/dist-packages", packages], purpose="Copying certbot")
    extensions = [
        str(file.relative_to(donor.root))
        for folder in (f"usr/lib/{name}/lib-dynload", "usr/lib/python3/dist-packages")
        for file in (donor.root / folder).rglob("*.so")
    ]
    donor.give_libraries(root, [f"usr/bin/{name}", *extensions])
    donor.give(root, {"usr/bin/openssl": "usr/bin/openssl", _CERTIFICATES: _CERTIFICATES})
    for file in ("etc/ssl/openssl.cnf", "etc/mime.types"):
        if (donor.root / file).exists():
            donor.give(root, {file: file})
    (root / "usr/local/bin/certbot").write_text(_CERTBOT, encoding="utf-8")
    (root / "usr/local/bin/certbot").chmod(0o755)
    for folder in ("opt/certbot", "etc/letsencrypt", "var/lib/letsencrypt"):
        (root / folder).mkdir(parents=True)
    return {
        "Entrypoint": ["certbot"],
        "Cmd": ["python3"],
        "Env": [f"PATH={PATH}", "LANG=C.UTF-8", f"PYTHON_VERSION={name.removeprefix('python')}"],
        "ExposedPorts": {"80/tcp": {}, "443/tcp": {}},
        "Volumes": {"/etc/letsencrypt": {}, "/var/lib/letsencrypt": {}},
        "WorkingDir": "/opt/certbot",
    }


_CERTBOT = """#!/usr/local/bin/python3
import sys

from certbot.main import main

sys.exit(main())
"""


# restic/restic docker/Dockerfile: Alpine.


def _restic(image: Image, root: Path, donor: Donor, step: Step) -> Settings:
    del image, step
    _busybox(root, donor)
    donor.give(root, {"usr/bin/restic": "usr/bin/restic", _CERTIFICATES: _CERTIFICATES})
    return {"Entrypoint": ["/usr/bin/restic"], "Env": [f"PATH={PATH}"]}


# prometheus/prometheus Dockerfile; it has a shell, and its variant without one has none: here none, which is stricter.


def _prometheus(image: Image, root: Path, donor: Donor, step: Step) -> Settings:
    del image, step
    programs = {f"usr/bin/{name}": f"bin/{name}" for name in ("prometheus", "promtool")}
    donor.give(root, {**programs, "etc/prometheus/prometheus.yml": "etc/prometheus/prometheus.yml"})
    donor.give(root, {_CERTIFICATES: _CERTIFICATES})
    _add_user(root, "nobody", 65534, "/", "/sbin/nologin")
    _temporary(root)
    (root / "prometheus").mkdir()
    for folder in ("prometheus", "etc/prometheus"):
        shutil.chown(root / folder, 65534, 65534)
    return {
        "Entrypoint": ["/bin/prometheus"],
        "Cmd": ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"],
        "Env": [f"PATH={PATH}"],
        "ExposedPorts": {"9090/tcp": {}},
        "User": "nobody",
        "Volumes": {"/prometheus": {}},
        "WorkingDir": "/prometheus",
    }


# nginx/nginx-prometheus-exporter build/Dockerfile: from scratch.


def _exporter(image: Image, root: Path, donor: Donor, step: Step) -> Settings:
    del image, step
    programs = {"usr/bin/prometheus-nginx-exporter": "usr/bin/nginx-prometheus-exporter", _CERTIFICATES: _CERTIFICATES}
    donor.give(root, programs)
    return {"Entrypoint": ["/usr/bin/nginx-prometheus-exporter"], "Env": [f"PATH={PATH}"], "User": "1001:1001"}


RECIPES: Mapping[str, Callable[[Image, Path, Donor, Step], Settings]] = {
    images.NGINX.role: _nginx,
    images.NGINX_METRICS.role: _exporter,
    images.PROMETHEUS.role: _prometheus,
    images.CERTBOT.role: _certbot,
    images.POSTGRES.role: _postgres,
    images.REDIS.role: _valkey,
    images.RESTIC.role: _restic,
}
