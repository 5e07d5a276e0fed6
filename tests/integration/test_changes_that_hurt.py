"""What hurts elsewhere, on two replicas with a database and a Redis: one setting each, and no user is lost."""

import json
import ssl
from collections.abc import Iterator

import httpx
import pytest

from open_webui_edge.benchmarks.open_webui_client import OpenWebUIClient, OpenWebUIError
from tests.integration.conftest import ADMIN_PASSWORD
from tests.support.stack import NO_CHANGE, StackUnderTest, Workshop, free_port

pytestmark = pytest.mark.long

EMAIL = "admin@example.com"
NEW_NAME = "chat.example.com"
FUNCTION = """
from pydantic import BaseModel
class Filter:
    class Valves(BaseModel):
        word: str = "nothing"
    def __init__(self):
        self.valves = self.Valves()
"""

OWN_KEY = "a key; of one's own, 'quoted' and $long"
READ_VALVES = """
import json, sqlalchemy
given = json.load(open("/run/open-webui-edge/environment.json"))["environment"]
with sqlalchemy.create_engine(given["DATABASE_URL"]).connect() as connection:
    print(connection.execute(sqlalchemy.text("SELECT valves FROM function")).scalar_one())
"""


@pytest.fixture(scope="module")
def stack(workshop: Workshop) -> Iterator[StackUnderTest]:
    """Two replicas that share all, with an administrator; valves are encrypted."""
    stack = StackUnderTest(
        workshop,
        "it-signin-changes",
        {
            "site": {"listen": {"http_port": free_port(), "https_port": free_port()}},
            "open_webui": {
                "replicas": 2,
                "drain": "10s",
                "admin": {"email": EMAIL},
                "environment": {"ENABLE_VALVE_ENCRYPTION": "true"},
            },
            "models": {"ollama": {"mode": "none"}},
            "data": {"postgres": {"mode": "container"}, "redis": {"mode": "container"}},
        },
        secrets={"open_webui.admin.password": ADMIN_PASSWORD},
    )
    with stack.running():
        yield stack


def test_a_rotated_secret_key_costs_sessions_and_nothing_else(stack: StackUnderTest) -> None:
    keys = _secret_keys(stack)
    assert len(set(keys)) == 1
    with stack.client() as old:
        old.sign_in(EMAIL, ADMIN_PASSWORD)
        form = {"id": "kept", "name": "Kept", "content": FUNCTION, "meta": {"description": "keeps a word"}}
        old.request("POST", "/api/v1/functions/create", form)
        old.request("POST", "/api/v1/functions/id/kept/valves/update", {"word": "MARK4f1d"})
        assert "MARK4f1d" not in _valves(stack)
        encrypted = _valves(stack)

        stack.config["open_webui"]["secret_key_generation"] = 2
        stack.write()
        stack.up().succeeded()

        assert len(set(_secret_keys(stack))) == 1, "the replicas have different keys"
        assert set(_secret_keys(stack)).isdisjoint(keys)
        with pytest.raises(OpenWebUIError, match="401"):
            old.user()
    with stack.client() as new:
        new.sign_in(EMAIL, ADMIN_PASSWORD)
        assert new.user()["role"] == "admin"
        assert new.request("GET", "/api/v1/functions/id/kept/valves")["word"] == "MARK4f1d"
    assert _valves(stack) != encrypted
    assert "re-encrypted 1 records with the current secret key" in (stack.container("open-webui").logs().decode())
    assert NO_CHANGE.search(stack.up().succeeded().output)


def test_a_key_of_one_s_own_takes_over_from_the_generated_ones(stack: StackUnderTest) -> None:
    stack.set_secret("open_webui.secret_key", OWN_KEY)
    stack.up().succeeded()
    assert set(_secret_keys(stack)) == {OWN_KEY}
    with stack.client() as client:
        client.sign_in(EMAIL, ADMIN_PASSWORD)
        assert client.request("GET", "/api/v1/functions/id/kept/valves")["word"] == "MARK4f1d"


def test_a_forgotten_password_with_a_database_of_its_own(stack: StackUnderTest) -> None:
    asked = ("make", "reset-admin-password", f"STACK={stack.name}", "PASSWORD=stdin")
    with stack.client() as before, stack.client() as after:
        before.sign_in(EMAIL, ADMIN_PASSWORD)
        stack.workshop.run(*asked, given="another password\n").succeeded()
        with pytest.raises(OpenWebUIError, match="401"):
            before.user()
        after.sign_in(EMAIL, "another password")
    stack.workshop.run(*asked, given=f"{ADMIN_PASSWORD}\n").succeeded()


def test_a_new_domain_takes_the_old_one_along(stack: StackUnderTest) -> None:
    with stack.client() as old:
        token = old.sign_in(EMAIL, ADMIN_PASSWORD)
    before = stack.url
    stack.config["site"] |= {"domain": NEW_NAME, "aliases": ["localhost", "127.0.0.1"]}
    stack.write()
    stack.up().succeeded()
    url = f"https://{NEW_NAME}:{stack.https_port}"
    assert stack.outputs()["url"] == url

    trust = ssl.create_default_context(cafile=str(stack.ca_file))
    moved = httpx.get(f"{before}/c/a-chat?x=1", verify=trust, trust_env=False)
    assert (moved.status_code, moved.headers["Location"]) == (308, f"{url}/c/a-chat?x=1")
    with OpenWebUIClient(url, ca_file=stack.ca_file, resolve={NEW_NAME: "127.0.0.1"}, token=token) as client:
        # A session is the application's; a browser has its cookie for the old name, and asks for another one.
        assert client.user()["email"] == EMAIL
        for origin in (url, before):
            answer = client.http.get("/api/config", headers={"Origin": origin})
            assert answer.headers["Access-Control-Allow-Origin"] == origin
    given = json.loads(stack.read("open-webui", "cat", "/run/open-webui-edge/environment.json"))["environment"]
    assert given["WEBUI_URL"] == url


def test_a_rotated_authority_vouches_under_a_new_key_and_the_old_one_no_more(stack: StackUnderTest) -> None:
    old = stack.outputs()["ca_certificate"]
    stack.config["certificate"] = {"self_signed": {"generation": 2}}
    stack.write()
    stack.up().succeeded()
    assert stack.outputs()["ca_certificate"] != old
    port = stack.https_port
    with OpenWebUIClient(f"https://localhost:{port}", ca_file=stack.ca_file) as client:
        assert not client.http.get("/").is_error
    distrusting = ssl.create_default_context(cadata=old)
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"https://localhost:{port}/", verify=distrusting, trust_env=False)
    assert NO_CHANGE.search(stack.up().succeeded().output)


def _secret_keys(stack: StackUnderTest) -> list[str]:
    return [
        json.loads(stack.read(role, "cat", "/run/open-webui-edge/environment.json"))["environment"]["WEBUI_SECRET_KEY"]
        for role in ("open-webui", "open-webui-2")
    ]


def _valves(stack: StackUnderTest) -> str:
    return stack.read("open-webui", "python3", "-c", READ_VALVES)
