"""Clients that generators make of the OpenAPI document: they type-check, and save a template.

The generators are installed into temporary directories, in the versions of `clients/`.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.api.server_fixture import RunningServer, Tenant, http_client

CLIENTS = Path(__file__).with_name("clients")

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]


async def run(*command: str | Path, cwd: Path, path: Path | None = None) -> str:
    """The output of a command that is to succeed; programs in ``path`` are found first."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = os.pathsep.join(filter(None, [str(path or ""), environment.get("PATH", "")]))
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, f"{command}: {out.decode()[-4000:]}"
    return out.decode()


async def document_of(server: RunningServer, directory: Path) -> Path:
    """The OpenAPI document of the server, as a file."""
    async with http_client() as client:
        document = (await client.get(f"{server.url}/openapi.json")).json()
    path = directory / "openapi.json"
    path.write_text(json.dumps(document))
    return path


async def saved(tenant: Tenant, printed: str, name: str) -> None:
    """The template whose id and revision a client has printed is in the account."""
    template_id, revision = printed.split()
    found = (await tenant.owner.get(f"/templates/{template_id}")).json()
    assert (found["name"], found["status"], found["revision"]) == (name, "active", int(revision))


async def test_a_python_client(server: RunningServer, tenant: Tenant, tmp_path: Path) -> None:
    """openapi-python-client drops no operation on templates; its client passes mypy, and saves one."""
    programs, uv = tmp_path / "venv" / "bin", Path(sys.executable).with_name("uv")
    await run(uv, "venv", "-q", "--python", sys.executable, tmp_path / "venv", cwd=tmp_path)
    install = ("pip", "install", "-q", "--python", programs / "python", "--require-hashes")
    await run(uv, *install, "-r", CLIENTS / "python-requirements.txt", cwd=tmp_path)
    document = await document_of(server, tmp_path)
    generate = (
        "generate",
        "--path",
        document,
        "--output-path",
        tmp_path / "voicebot_client",
        "--meta",
        "none",
    )
    out = await run(programs / "openapi-python-client", *generate, cwd=tmp_path, path=programs)
    dropped = [line for line in out.splitlines() if "Endpoint will not be generated" in line]
    assert [line.split()[3] for line in dropped] == ["/api/v1/leads/upload"]  # it takes no JSON
    shutil.copy(CLIENTS / "save.py.txt", tmp_path / "save.py")
    # "misc": the generator declares the type of an entry of a dictionary, which mypy has no rule for.
    check = ("--disable-error-code", "misc", "--cache-dir", os.devnull, "save.py", "voicebot_client")
    await run(programs / "mypy", *check, cwd=tmp_path)
    printed = await run(programs / "python", "save.py", server.url, tenant.keys["owner"], cwd=tmp_path)
    await saved(tenant, printed, "Saved by Python")


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm (Node.js) is not installed")
async def test_a_typescript_client(server: RunningServer, tenant: Tenant, tmp_path: Path) -> None:
    """The types of openapi-typescript pass tsc in a strict program, which saves a template."""
    programs = Path(str(shutil.which("npm"))).parent
    for name in ("package.json", "package-lock.json", "save.ts"):
        shutil.copy(CLIENTS / name, tmp_path / name)
    await run("npm", "ci", "--no-audit", "--no-fund", cwd=tmp_path, path=programs)
    document = await document_of(server, tmp_path)
    # A member with a default need not be sent.
    types = (document, "-o", "schema.d.ts", "--default-non-nullable=false")
    await run("npx", "openapi-typescript", *types, cwd=tmp_path, path=programs)
    modules = ("--module", "nodenext", "--moduleResolution", "nodenext", "--types", "node")
    options = ("--strict", "--target", "es2022", "--skipDefaultLibCheck", *modules)
    await run("npx", "tsc", *options, "save.ts", cwd=tmp_path, path=programs)
    printed = await run("node", "save.js", server.url, tenant.keys["owner"], cwd=tmp_path, path=programs)
    await saved(tenant, printed, "Saved by TypeScript")
