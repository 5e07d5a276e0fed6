"""A stack by the real engine: what an update gives, changes, refuses and repairs.

Tests are marked long if they repeat an update that another test makes, or if unit tests check the same rule.
"""

import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from open_webui_edge.benchmarks.model_server import ModelServer, count_to
from open_webui_edge.benchmarks.open_webui_client import Answer, OpenWebUIClient, OpenWebUIError
from open_webui_edge.benchmarks.waiting import wait_until
from tests.integration.conftest import ADMIN_PASSWORD, FIRST_KEY
from tests.support.load import Http1, Http2, Load, SocketIo
from tests.support.stack import NO_CHANGE, StackUnderTest, end

SECOND_KEY = "sk-second"


def test_a_second_update_changes_nothing(chat: StackUnderTest) -> None:
    assert NO_CHANGE.search(chat.up().succeeded().output)
    chat.preview("--expect-no-changes").succeeded()


def test_sign_up_is_closed_once_there_is_an_administrator(chat: StackUnderTest) -> None:
    with chat.client() as client, pytest.raises(OpenWebUIError, match="403"):
        client.sign_up("stranger@example.com", "a strangers password")


@pytest.mark.parametrize("way", ["chat_over_socket", "chat_over_sse"])
def test_tokens_arrive_one_by_one(admin: OpenWebUIClient, model_server: ModelServer, way: str) -> None:
    prompt = count_to(12, every=0.1)
    answer: Answer = getattr(admin, way)(prompt, model_server.models[0])
    sent = model_server.completion(prompt).tokens
    assert answer.text == "".join(token.text for token in sent)
    assert len(answer.deltas) >= len(sent) / 2, "tokens came in lumps"
    assert answer.deltas[0].at < sent[-1].at, "the first token came after the last was sent"


@pytest.mark.long
@pytest.mark.parametrize("way", ["chat_over_socket", "chat_over_sse"])
def test_the_proxy_costs_less_than_20_ms_to_the_first_token(
    chat: StackUnderTest, admin: OpenWebUIClient, model_server: ModelServer, way: str
) -> None:
    def delay(client: OpenWebUIClient) -> float:
        prompt = count_to(3, every=0.02)
        answer: Answer = getattr(client, way)(prompt, model_server.models[0])
        return answer.deltas[0].at - model_server.completion(prompt).tokens[0].at

    # Side by side, in turns, so that whatever else the machine does hits both; medians, so that no hiccup counts.
    with OpenWebUIClient(chat.direct_url(), token=admin.token) as direct:
        pairs = [(delay(admin), delay(direct)) for _ in range(9)]
    through = statistics.median(pair[0] for pair in pairs)
    past = statistics.median(pair[1] for pair in pairs)
    assert through - past < 0.020, f"through the proxy {through * 1000:.1f} ms, past it {past * 1000:.1f} ms"


def test_a_changed_timeout_costs_no_request_and_no_socket(chat: StackUnderTest) -> None:
    before = chat.container("nginx").id
    with Load(chat.url, chat.ca_file, Http1(), Http2(), SocketIo()) as load:
        for read in ("31m", "32m", "33m"):
            chat.config["proxy"] = {"timeouts": {"read": read}}
            chat.write()
            asked = load.requests
            output = chat.up().succeeded().output
            assert "1 replaced" in output or "+-1" in output, output
            wait_until(lambda asked=asked: load.requests > asked + 50, what="requests after the reload")
    assert load.failures == [], str(load)
    assert load.requests > 500
    assert chat.container("nginx").id == before, "the proxy was replaced"
    assert "proxy_read_timeout 1980s;" in _served_configuration(chat)


def test_a_refused_configuration_leaves_the_old_one_serving_and_fails_until_mended(chat: StackUnderTest) -> None:
    template = chat.workshop.directory / "components/reverse_proxy/templates/nginx.conf.j2"
    good = template.read_text()
    served = _served_configuration(chat)
    try:
        template.write_text(good + "\nthis_is_no_directive on;\n")
        with Load(chat.url, chat.ca_file, Http1(connections=2)) as load:
            for _ in range(2):
                output = chat.up().failed().output
                assert 'unknown directive "this_is_no_directive"' in output
                assert "the previous one is still active" in output
        assert load.failures == [], str(load)
        assert _served_configuration(chat) == served
        # What it comes back with is the last good one.
        chat.container("nginx").restart()
        chat.wait_until_ready()
    finally:
        template.write_text(good)
    chat.up().succeeded()
    assert NO_CHANGE.search(chat.up().succeeded().output)


@pytest.mark.long
def test_a_proxy_that_was_removed_by_hand_comes_back_with_its_configuration(chat: StackUnderTest) -> None:
    served = _served_configuration(chat)
    chat.container("nginx").remove(force=True)
    chat.up().succeeded()
    chat.wait_until_ready()
    assert _served_configuration(chat) == served


def test_an_application_that_was_removed_by_hand_comes_back_with_its_data(
    chat: StackUnderTest, admin: OpenWebUIClient
) -> None:
    chat_id = admin.create_chat("before the accident")
    chat.container("open-webui").remove(force=True)
    with chat.client() as client:
        assert not client.ready()
    chat.up().succeeded()
    # The same token: the secret key is the one from before.
    assert chat_id in {saved["id"] for saved in admin.chats()}


@pytest.mark.long
def test_a_container_that_an_interrupted_update_left_behind_is_replaced(chat: StackUnderTest) -> None:
    # The engine has it, the state does not: what a killed update leaves.
    left = chat.container("nginx-installer")
    urn = _urn(chat, "edge-nginx-installer")
    chat.pulumi("state", "delete", urn, "--yes", "--stack", chat.name).succeeded()
    chat.up().succeeded()
    assert chat.container("nginx-installer").id != left.id


def test_a_killed_update_is_followed_by_one_that_works(chat: StackUnderTest) -> None:
    chat.config["open_webui"]["environment"] = {"WEBUI_NAME": "Interrupted"}
    chat.write()
    before = chat.container("open-webui").id
    update = chat.workshop.start("pulumi", "up", "--yes", "--skip-preview", "--non-interactive", "--stack", chat.name)
    wait_until(
        lambda: before not in {c.id for c in chat.engine.containers.list(all=True, ignore_removed=True)},
        what="the old to go",
    )
    end(update)
    chat.pulumi("cancel", "--yes", "--stack", chat.name)
    chat.up().succeeded()
    chat.wait_until_ready()
    with chat.client() as client:
        assert client.request("GET", "/api/config")["name"].startswith("Interrupted")


@pytest.mark.long
def test_a_changed_key_reaches_the_provider(
    chat: StackUnderTest, admin: OpenWebUIClient, model_server: ModelServer
) -> None:
    admin.chat_over_sse(count_to(1), model_server.models[0])
    assert model_server.requests[-1].key == FIRST_KEY
    model_server.keys = {FIRST_KEY, SECOND_KEY}
    try:
        for key in (SECOND_KEY, FIRST_KEY):
            chat.set_secret("models.providers[0].api_key", key)
            chat.up().succeeded()
            admin.chat_over_sse(count_to(2), model_server.models[0])
            assert model_server.requests[-1].key == key
    finally:
        model_server.keys = {FIRST_KEY}


@pytest.mark.long
def test_what_the_admin_panel_changed_stays_unless_the_stack_says_it(
    chat: StackUnderTest, admin: OpenWebUIClient
) -> None:
    banner = {"id": "1", "type": "info", "title": "", "content": "from the panel", "dismissible": True, "timestamp": 1}
    admin.request("POST", "/api/v1/configs/banners", {"banners": [banner]})
    changed = {"OPENAI_API_BASE_URLS": ["http://elsewhere.example/v1"]}
    admin.request("POST", "/openai/config/update", admin.openai_settings() | changed)
    chat.config["proxy"] = {"limits": {"max_upload": "7MiB"}}
    chat.write()
    chat.up().succeeded()
    assert [remaining["content"] for remaining in admin.request("GET", "/api/v1/configs/banners")] == ["from the panel"]
    assert admin.openai_settings()["OPENAI_API_BASE_URLS"] == [chat.config["models"]["providers"][0]["url"]]
    assert admin.request("GET", "/api/config")["file"]["max_size"] == 7


def test_no_secret_is_where_others_can_read_it(chat: StackUnderTest, admin: OpenWebUIClient) -> None:
    assert admin.token
    keys = admin.openai_settings()["OPENAI_API_KEYS"]
    private_key = chat.read("nginx", "cat", "/etc/open-webui-edge/current/tls/private_key.pem")
    secret_key = _environment_of(chat)["WEBUI_SECRET_KEY"]
    # Plain words inside the secrets, which no quoting or escaping changes.
    secrets = {"MARK9c1e", "MARK7f3a", *keys, secret_key, private_key.splitlines()[1]}
    assert any("MARK9c1e" in secret for secret in (ADMIN_PASSWORD, FIRST_KEY))
    clear = chat.pulumi("stack", "export", "--show-secrets", "--stack", chat.name).succeeded().output
    assert {secret for secret in ("MARK9c1e", secret_key) if secret in clear} == {"MARK9c1e", secret_key}
    for name in chat.owned("containers"):
        container = chat.engine.containers.get(name)
        places = {
            "docker inspect": json.dumps(chat.engine.api.inspect_container(name), ensure_ascii=False),
            "its log": container.logs().decode(),
        }
        if container.status == "running":
            places["argv"] = json.dumps(container.top()["Processes"], ensure_ascii=False)
        for place, text in places.items():
            assert not [secret for secret in secrets if secret in text], (name, place)
    update = chat.up().succeeded().output
    state = chat.pulumi("stack", "export", "--stack", chat.name).succeeded().output
    outputs = chat.pulumi("stack", "output", "--json", "--stack", chat.name).succeeded().output
    for place, text in {"update": update, "state": state, "outputs": outputs}.items():
        assert not [secret for secret in secrets if secret in text], place


@pytest.mark.parametrize(
    ("role", "directory"), [("open-webui", "/run/open-webui-edge"), ("nginx", "/etc/open-webui-edge")]
)
def test_no_secret_is_in_a_file_that_others_can_read(chat: StackUnderTest, role: str, directory: str) -> None:
    files = f"find -L {directory} -type f"
    assert chat.read(role, *files.split())
    # generation.conf holds a hash.
    readable = f"{files} ( -perm -o=r -o -perm -g=r ) -not -path */generation.conf"
    assert chat.read(role, *readable.split()).split() == []


@pytest.mark.alone
@pytest.mark.long
def test_a_moved_tag_replaces_nothing(chat: StackUnderTest) -> None:
    name = "open-webui-edge/nginx:1.30-debian-2"
    ours = chat.engine.images.get(name)
    other = chat.engine.containers.create(name, labels={"app": "open-webui-edge", "stack": chat.name})
    try:
        other.commit("open-webui-edge/nginx", "1.30-debian-2")
        assert chat.engine.images.get(name).id != ours.id
        assert NO_CHANGE.search(chat.up().succeeded().output)
    finally:
        moved = chat.engine.images.get(name).id
        ours.tag("open-webui-edge/nginx", "1.30-debian-2")
        other.remove()
        if moved != ours.id:
            chat.engine.images.remove(moved)


@pytest.mark.long
def test_an_update_fails_until_its_containers_are_healthy(side: StackUnderTest) -> None:
    side.config["open_webui"] = {"environment": {"VECTOR_DB": "pgvector"}}
    side.write()
    for _ in range(2):
        began = time.monotonic()
        output = side.up().failed().output
        assert "edge-it-side-open-webui ended with exit code" in output
        assert "Pgvector requires setting PGVECTOR_DB_URL" in output, output
        assert output.count("Its log ends with") == 1, "the reason stands there twice"
        assert f"make logs STACK={side.name} ROLE=open-webui" in output
        assert time.monotonic() - began < 120
    del side.config["open_webui"]
    side.write()
    side.up().succeeded()
    side.wait_until_ready()


@pytest.mark.long
@pytest.mark.parametrize("way", ["chat_over_socket", "chat_over_sse"])
def test_an_application_that_is_to_end_completes_its_answers_first(
    chat: StackUnderTest, admin: OpenWebUIClient, model_server: ModelServer, way: str
) -> None:
    prompt = count_to(12, every=0.5)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(getattr(admin, way), prompt, model_server.models[0])
        wait_until(lambda: model_server.completion(prompt).tokens, what="the first token", ignoring=(LookupError,))
        chat.container("open-webui").restart(timeout=60)
    assert answer.result().text == "".join(token.text for token in model_server.completion(prompt).tokens)
    chat.wait_until_ready()


def test_two_stacks_live_side_by_side(chat: StackUnderTest, side: StackUnderTest) -> None:
    for stack in (chat, side):
        with stack.client() as client:
            assert client.ready()
    assert not set(chat.owned("volumes")) & set(side.owned("volumes"))
    assert chat.outputs()["ca_certificate"] != side.outputs()["ca_certificate"]
    with OpenWebUIClient(side.url, ca_file=chat.ca_file) as client, pytest.raises(Exception, match="CERTIFICATE"):
        client.ready()


def test_another_deployment_of_the_same_name_is_left_alone(side: StackUnderTest, tmp_path: Path) -> None:
    from tests.support.stack import Workshop  # noqa: PLC0415 - only here

    elsewhere = Workshop.at(tmp_path, side.workshop.environment)
    twin = StackUnderTest(elsewhere, side.name, {}).create()
    before = set(side.owned("containers"))
    output = twin.up().failed().output
    assert "belongs to another deployment" in output
    assert set(side.owned("containers")) == before
    with side.client() as client:
        assert client.ready()


def test_data_outlives_down_and_up(side: StackUnderTest, model_server: ModelServer) -> None:
    with side.client() as client:
        client.sign_up("ada@example.com", "correct horse battery")
        chat_id = client.create_chat("kept")
        authority = side.outputs()["ca_certificate"]
        side.pulumi("destroy", "--yes", "--skip-preview", "--exclude-protected", "--stack", side.name).succeeded()
        assert side.owned("containers") == []
        assert side.owned("networks") == []
        assert side.owned("volumes") == ["edge-it-side-letsencrypt", "edge-it-side-open-webui-data"]
        side.up().succeeded()
        assert side.outputs()["ca_certificate"] == authority
        # The session from before is still good: the same secret key.
        assert chat_id in {saved["id"] for saved in client.chats()}
        client.chat_over_socket(count_to(2), model_server.models[0])


def _served_configuration(stack: StackUnderTest) -> str:
    return stack.read("nginx", "cat", "/etc/open-webui-edge/current/nginx.conf")


def _environment_of(stack: StackUnderTest) -> dict[str, str]:
    return json.loads(stack.read("open-webui", "cat", "/run/open-webui-edge/environment.json"))["environment"]


def _urn(stack: StackUnderTest, name: str) -> str:
    exported = json.loads(stack.pulumi("stack", "export", "--stack", stack.name).succeeded().output)
    (urn,) = (
        resource["urn"] for resource in exported["deployment"]["resources"] if resource["urn"].endswith(f"::{name}")
    )
    return urn
