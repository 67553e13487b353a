"""deploy/ through the linters that can be had: schemas always, other tools where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[1] / "deploy"
KUBERNETES = sorted(p for p in (DEPLOY / "kubernetes").glob("*.yaml") if p.name != "kustomization.yaml")
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
DOCKERFILES = sorted(p for p in (DEPLOY / "docker").glob("Dockerfile*") if p.suffix != ".dockerignore")


def _documents(path: Path) -> list[Any]:
    return [found for found in yaml.safe_load_all(path.read_text(encoding="utf-8")) if found is not None]


def _tool(name: str) -> str:
    system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    found = shutil.which(name) or shutil.which(name, path=system)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def _run(*command: str | Path, **more: Any) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda p: p.name)
def test_manifests_follow_the_schema_of_their_kind(path: Path) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    for document in _documents(path):
        validate.validate(document, "1.29", strict=True)


def test_manifests_agree_with_each_other() -> None:
    named = {(d["kind"], d["metadata"]["name"]): d for path in KUBERNETES for d in _documents(path)}
    stateful, service = named["StatefulSet", "concept-monitor"], named["Service", "concept-monitor"]
    pod = stateful["spec"]["template"]
    labels = pod["metadata"]["labels"].items()
    for selector in (
        stateful["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        named["NetworkPolicy", "concept-monitor"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels
    ports = {port["name"]: port["containerPort"] for c in pod["spec"]["containers"] for port in c["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} == set(ports)
    opened = {p["port"] for rule in named["NetworkPolicy", "concept-monitor"]["spec"]["ingress"] for p in rule["ports"]}
    assert opened == set(ports.values())
    client = named["Job", "train"]["spec"]["template"]["metadata"]["labels"]
    wanted = named["NetworkPolicy", "concept-monitor"]["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    assert wanted.items() <= client.items()
    listed = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())["resources"]
    assert [name for name in listed if not (DEPLOY / "kubernetes" / name).exists()] == []


def _containers(document: Any) -> list[dict[str, Any]]:
    spec = document["spec"]["template"]["spec"] if "template" in document.get("spec", {}) else {}
    return [*spec.get("containers", []), *spec.get("initContainers", [])]


def test_our_containers_run_locked_down() -> None:
    found = [c for path in KUBERNETES for d in _documents(path) for c in _containers(d)]
    ours = [container for container in found if container["image"].startswith("concept-monitor/")]
    assert len(ours) == 4
    for container in ours:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"]["drop"] == ["ALL"]
        assert "memory" in container["resources"]["limits"]
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {"/data", "/tmp"} <= mounted, "nothing else can be written"
        memory = [int(a) for a in container["args"] if a.isdigit() and int(a) > 1000]
        assert all(mb * 2**20 < 8 * 2**30 for mb in memory), "it ends by itself before it is ended"


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: p.name)
def test_images_are_small_and_run_without_root(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    bases = [line.split()[1] for line in text.splitlines() if line.startswith("FROM")]
    known = {line.split()[3] for line in text.splitlines() if line.startswith("FROM") and " AS " in line}
    assert {base for base in bases if base not in known} == {"python:3.11-slim-bookworm"}
    for copied in [line.split()[1] for line in text.splitlines() if line.startswith("COPY") and "--from" not in line]:
        assert (DEPLOY.parent / copied).exists()
    assert "USER 10001:10001" in text
    assert text.count("HEALTHCHECK") == text.count("EXPOSE")
    ignored = path.with_name(path.name + ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} >= {"pyproject.toml", "cm_server", "dashboard"}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: p.name)
def test_images_by_hadolint(path: Path) -> None:
    _run(_tool("hadolint"), "--ignore", "DL3013", path)  # unpinned pip packages: pyproject bounds them


def test_compose_names_only_what_it_defines() -> None:
    compose = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())
    for name, service in compose["services"].items():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            known = (DEPLOY / "docker" / source).exists() if source.startswith(".") else source in compose["volumes"]
            assert known, (name, volume)
        build = service.get("build")
        assert build is None or (DEPLOY / "docker" / build["context"] / build["dockerfile"]).exists()
        assert build is None or f"AS {build['target']}" in (DEPLOY / "docker" / "Dockerfile").read_text()
        assert set(service.get("depends_on", {})) <= set(compose["services"])
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
    published = {port for service in compose["services"].values() for port in service.get("ports", [])}
    assert {port for port in published if not port.startswith("127.0.0.1:")} == {"7801:7801"}, "which has its keys"


@pytest.mark.parametrize("path", UNITS, ids=lambda p: p.name)
def test_units_by_systemd(path: Path, tmp_path: Path) -> None:
    analyze = _tool("systemd-analyze")
    program = tmp_path / "concept-monitor"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = path.read_text(encoding="utf-8")
    for place in ("/opt/concept-monitor/bin/concept-monitor", "%h/.venvs/concept-monitor/bin/concept-monitor"):
        text = text.replace(f"ExecStart={place}", f"ExecStart={program}")
    copied = tmp_path / path.name
    copied.write_text(text)
    assert str(program) in text
    scope = ["--user"] if "default.target" in text else []
    said = _run(analyze, "verify", "--man=no", *scope, copied, env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)})
    assert [line for line in said.splitlines() if path.name in line] == []


def test_rules_by_promtool() -> None:
    promtool, folder = _tool("promtool"), DEPLOY / "prometheus"
    _run(promtool, "check", "config", "--syntax-only", "prometheus.yml", cwd=folder)
    assert "SUCCESS" in _run(promtool, "check", "rules", "rules.yml", cwd=folder)
    assert "SUCCESS" in _run(promtool, "test", "rules", "rules_test.yml", cwd=folder)


_NGINX_FOLDERS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def test_the_proxy_by_nginx(tmp_path: Path) -> None:
    nginx, trustme = _tool("nginx"), pytest.importorskip("trustme")
    certificate = trustme.CA().issue_cert("monitor.example.com")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    text = (DEPLOY / "proxy" / "nginx.conf").read_text()
    place = "/etc/letsencrypt/live/monitor.example.com"
    text = text.replace(f"{place}/fullchain.pem", f"{tmp_path}/cert.pem")
    text = text.replace(f"{place}/privkey.pem", f"{tmp_path}/key.pem")
    (tmp_path / "site.conf").write_text(text)
    temporary = "".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in _NGINX_FOLDERS)
    block = f"http {{ access_log off; {temporary} include {tmp_path}/site.conf; }}"
    main = f"pid {tmp_path}/pid;\nerror_log stderr;\nevents {{}}\n{block}\n"
    (tmp_path / "nginx.conf").write_text(main)
    said = _run(nginx, "-t", "-p", tmp_path, "-c", tmp_path / "nginx.conf")
    assert "[warn]" not in said


def test_the_proxy_by_caddy(tmp_path: Path) -> None:
    command = [_tool("caddy"), "validate", "--adapter", "caddyfile", "--config", DEPLOY / "proxy" / "Caddyfile"]
    said = _run(*command, env={**os.environ, "HOME": str(tmp_path)})
    assert "Valid configuration" in said


def test_the_batch_script_by_bash_and_shellcheck() -> None:
    script = DEPLOY / "slurm" / "train.sbatch"
    _run(_tool("bash"), "-n", script)
    _run(_tool("shellcheck"), "--shell=bash", script)
