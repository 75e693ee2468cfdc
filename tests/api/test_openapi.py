from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import threading
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from jsonschema import Draft202012Validator

from db.pool import Database
from tests.api.api_fixtures import Ids, build
from tests.api.server_fixture import RunningServer, Tenant, http_client
from voicebot.app import create_app

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "response_headers_conformance,negative_data_rejection,unsupported_method,ignored_auth,use_after_free,"
    "ensure_resource_availability"
)
EXAMPLES = 8
PARTS = (
    ("--include-path-regex", "^/api/v1/templates"),
    ("--include-path-regex", "^/api/v1/(numbers|leads|handoffs)"),
    ("--exclude-path-regex", "^/api/v1/(templates|numbers|leads|handoffs)"),
)
"""The paths that are fuzzed by one test each, side by side."""
CONFIG = """
[checks.negative_data_rejection]
# A request may be stale as well as malformed; either error may be returned.
expected-statuses = [400, 401, 403, 404, 405, 409, 412, 413, 414, 415, 422, 428, 431]
[checks.not_a_server_error]
# There is no carrier: ending a call fails with the documented 502.
expected-statuses = ["2xx", "3xx", "4xx", 502]
[[operations]]
include-path = "/api/v1/leads/upload"
# A file is text whatever it contains; its lines are refused one by one in an answer of success.
checks.negative_data_rejection.expected-statuses = [200, 413, 415, 422, 401]
[[operations]]
include-path = "/api/v1/templates/import"
# Its templates have the schema of POST /templates, where each limit of each field is covered.
phases.coverage.enabled = false
[[operations]]
include-path = "/api/v1/templates/{template_id}"
include-method = ["PUT", "PATCH"]
# So has its document; with another revision than the template's, it would not be read.
phases.coverage.enabled = false
parameters."header.if-match" = { dictionary = "any_revision", probability = 0.8 }
[dictionaries.any_revision]
values = ["*"]
"""
HOOKS = Path(__file__).with_name("fuzz_hooks.py")


def known(ids: Ids) -> str:
    """Configuration by which most requests use existing ids."""
    values = {name: value if name == "revision" else json.dumps(value) for name, value in ids.items()}
    dictionaries = "".join(f"[dictionaries.{name}]\nvalues = [{value}]\n" for name, value in values.items())
    paths = (f'"path.{name}" = {{ dictionary = "{name}", probability = 0.8 }}\n' for name in ids)
    return f"{dictionaries}[parameters]\n{''.join(paths)}"


@pytest.mark.long
@pytest.mark.timeout(1800)  # alone a part takes three minutes
@pytest.mark.parametrize("paths", PARTS, ids=["templates", "numbers-leads-handoffs", "others"])
async def test_responses_conform_to_the_openapi_document(
    server: RunningServer,
    tenant: Tenant,
    database: Database,
    tmp_path: Path,
    pytestconfig: pytest.Config,
    paths: tuple[str, str],
) -> None:
    """Fuzzed over its whole OpenAPI document, the server answers no 500 and nothing undocumented."""
    config = tmp_path / "schemathesis.toml"
    config.write_text(f"hooks = {json.dumps(str(HOOKS))}\n" + CONFIG + known(await build(tenant, database)))
    document = tmp_path / "openapi.json"  # schemathesis waits 10 s for it, a busy server needs more at first
    document.write_bytes((await tenant.owner.get(f"{server.url}/openapi.json")).content)
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("schemathesis"),
        *(
            "--config-file",
            str(config),
            "run",
            str(document),
            "--url",
            server.url,
            "--header",
            f"Authorization: Bearer {tenant.keys['owner']}",
            *paths,
        ),
        *("--checks", CHECKS, "--max-examples", str(EXAMPLES), "--no-shrink", "--continue-on-failure"),
        # A text call of 20 turns whose model cannot be reached takes half a second for each.
        *("--request-timeout", "60"),
        *(("--generation-deterministic",) if "CI" in os.environ else ("--generation-database", "none")),
        # This response does not end; tests/handoffs/test_stream.py covers it.
        *("--suppress-health-check", "all", "--no-color", "--exclude-path", "/api/v1/handoffs/stream"),
        cwd=tmp_path,
        # The table of Unicode is there (tests/conftest.py). Each request looks for a proxy in all variables.
        env={"HYPOTHESIS_STORAGE_DIRECTORY": str(pytestconfig.rootpath / ".hypothesis")},
        stdout=PIPE,
        stderr=STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()


def test_applications_of_a_process_share_their_routes(server: RunningServer) -> None:
    """A route is analysed where it is declared, and not again by each application that is made."""
    other = create_app(server.app_state.settings)
    routes = [route for route in other.routes if isinstance(route, APIRoute) and route.include_in_schema]
    assert len(routes) > 80
    assert {id(route) for route in routes} <= {id(route) for route in server.app.routes}


async def test_every_operation_is_described(server: RunningServer) -> None:
    """Each operation has a summary, a description, and an example of every error."""
    paths = server.app.openapi()["paths"]
    assert len(paths) > 15
    for path, operations in paths.items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            assert operation["description"], (method, path)
            for status, answer in operation["responses"].items():
                refusal = answer.get("content", {}).get("application/problem+json")
                if status >= "400" and path.startswith("/api"):
                    assert refusal["examples"], (method, path, status)


async def test_the_document_is_made_outside_the_event_loop(server: RunningServer) -> None:
    """The first request for /openapi.json, which anybody may send, does not hold up the event loop."""
    server.app.openapi_schema = None
    makers, make = list[threading.Thread](), server.app.openapi

    def noted() -> dict[str, Any]:
        makers.append(threading.current_thread())
        return make()

    app = create_app(server.app_state.settings)
    app.openapi = noted  # type: ignore[method-assign]
    app.state.app_state = server.app_state
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as anybody:
        answers = await asyncio.gather(*(anybody.get("/openapi.json") for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert answers[0].json()["paths"] == server.app.openapi()["paths"]
    assert len(makers) == 1
    assert makers[0] is not threading.current_thread()


async def test_examples_match_their_schemas(server: RunningServer) -> None:
    """Every example in the document is valid for its schema."""
    document = server.app.openapi()
    checked = 0
    for operations in document["paths"].values():
        for operation in operations.values():
            bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
            for media in (media for body in bodies for media in body.get("content", {}).values()):
                for example in media.get("examples", {}).values() if "schema" in media else ():
                    schema = {**media["schema"], "components": document["components"]}
                    Draft202012Validator(schema).validate(example["value"])
                    checked += 1
    assert checked > 100


async def test_the_documentation_loads_nothing_from_other_hosts(server: RunningServer) -> None:
    """/docs and its resources are served without a key by this server."""
    async with http_client(base_url=server.url) as anybody:
        page = await anybody.get("/docs")
        assert page.status_code == 200
        loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert len(loaded) >= 2
        for path in [*loaded, "/openapi.json"]:
            assert path.startswith("/"), path
            assert (await anybody.get(path)).status_code == 200, path


async def test_every_answer_has_an_example_and_every_schema_one_name(server: RunningServer) -> None:
    """Generated clients find a server, unique names, optional fields with defaults, and examples."""
    document = server.app.openapi()
    schemas = document["components"]["schemas"]
    titles = [schema.get("title", name) for name, schema in schemas.items()]
    assert [name for name in schemas if "__" in name] == []
    assert sorted(titles) == sorted(set(titles))
    assert document["servers"][0]["url"]
    for name, schema in schemas.items():
        for field in schema.get("required", ()):
            assert "default" not in schema["properties"][field], (name, field)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, answer in operation["responses"].items():
                for media in answer.get("content", {}).values() if status < "300" else ():
                    assert media.keys() & {"example", "examples"}, (method, path)
    patch = schemas["TemplatePatch"]
    assert patch["properties"].keys() == schemas["TemplateContent"]["properties"].keys()
    assert "required" not in patch
    kept = [name for name, member in patch["properties"].items() if {"type": "null"} not in member["anyOf"]]
    assert kept == schemas["TemplateContent"]["required"]


async def test_every_reference_leads_somewhere(server: RunningServer) -> None:
    """A `$ref` without a target makes generators drop the operation, or refuse the document."""
    async with httpx.AsyncClient() as client:
        document = (await client.get(f"{server.url}/openapi.json")).json()
    references = set(re.findall(r'"\$ref": "#/components/schemas/([^"]+)"', json.dumps(document)))
    assert references <= document["components"]["schemas"].keys()
    assert json.dumps(document).count('"$ref": "#/$defs') == 0


async def test_the_root_and_the_schemas_need_no_key(server: RunningServer) -> None:
    """`/` leads to the documentation, and an editor reads the JSON Schemas, without a key."""
    async with http_client(base_url=server.url) as anybody:
        root = await anybody.get("/", follow_redirects=False)
        assert (root.status_code, root.headers["Location"]) == (307, "/docs")
        for form in ("api", "file"):
            schema = await anybody.get("/api/v1/templates/schema", params={"form": form})
            assert schema.status_code == 200
            assert schema.json()["$schema"]
