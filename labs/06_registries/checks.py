"""The checks of lab 06. Each tries the student's functions in a world of its own (minidock.lab.checks)."""

import email.message
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from minidock.errors import MinidockError
from minidock.images import distribution
from minidock.lab.checks import World, expect, task
from minidock.lab.registry import TinyRegistry


def _compare(world: World, function, arguments, expected, next_step):
    """Call *function* in the world with *arguments*; its value must be *expected* (tuples count as lists)."""
    call = f"{function}({', '.join(repr(each) for each in arguments)})"

    def story():
        value = getattr(distribution, function)(*arguments)
        return list(value) if isinstance(value, tuple) else value

    told = world.tell(story, call=call, next_step=next_step)
    wanted = list(expected) if isinstance(expected, tuple) else expected
    expect(
        told.value == wanted, call=call, result=repr(told.value), expected=repr(wanted), next_step=next_step
    )


# --- task 1 --------------------------------------------------------------------------------------


@task(1)
def test_a_short_name_means_docker_hub(world: World):
    step = 'A name without a slash is an official image: put "library/" in front.'
    _compare(world, "split_domain", ["busybox"], ("docker.io", "library/busybox"), step)
    _compare(world, "split_domain", ["busybox:1.36"], ("docker.io", "library/busybox:1.36"), step)


@task(1)
def test_a_user_of_the_hub_is_no_registry(world: World):
    step = "No dot, no colon, not localhost: then the first word is a user of Docker Hub."
    _compare(world, "split_domain", ["ada/engine"], ("docker.io", "ada/engine"), step)
    _compare(world, "split_domain", ["registry/app:2"], ("docker.io", "registry/app:2"), step)


@task(1)
def test_a_dot_or_a_port_or_localhost_is_a_registry(world: World):
    step = 'Three signs of a registry: "." in the first word, ":" in it, or it is "localhost".'
    _compare(world, "split_domain", ["ghcr.io/ada/engine:1"], ("ghcr.io", "ada/engine:1"), step)
    _compare(world, "split_domain", ["registry:5000/app"], ("registry:5000", "app"), step)
    _compare(world, "split_domain", ["localhost/app"], ("localhost", "app"), step)


@task(1)
def test_what_is_not_there_is_none(world: World):
    step = "None for what is missing, not an empty text: the engine then knows that nobody asked for it."
    _compare(world, "split_suffix", ["library/busybox"], ("library/busybox", None, None), step)
    _compare(world, "split_suffix", ["library/busybox:1.36"], ("library/busybox", "1.36", None), step)


@task(1)
def test_a_digest_is_no_tag(world: World):
    digest = "sha256:" + 64 * "a"
    step = 'Cut off the digest, which follows "@", before you look for a tag.'
    _compare(world, "split_suffix", [f"app:1.0@{digest}"], ("app", "1.0", digest), step)


# --- task 2 --------------------------------------------------------------------------------------


@task(2)
def test_the_parameters_of_a_challenge(world: World):
    _compare(
        world,
        "parse_parameters",
        ['realm="https://auth.example/token",service="hub"'],
        {"realm": "https://auth.example/token", "service": "hub"},
        "A dictionary: names without =, values without quotes.",
    )


@task(2, needs=("test_the_parameters_of_a_challenge",))
def test_a_comma_in_quotes_belongs_to_the_value(world: World):
    _compare(
        world,
        "parse_parameters",
        ['realm="https://auth.example/token",scope="repository:app:pull,push"'],
        {"realm": "https://auth.example/token", "scope": "repository:app:pull,push"},
        'Do not split at commas: search for name="value" with re.findall.',
    )


REALM = "https://auth.example/token"


def _token_query(world: World, service, scopes, next_step):
    """What the student's token URL asks for: {"service": […], "scope": […]}."""
    call = f"token_url({REALM!r}, {service!r}, {scopes!r})"
    told = world.tell(lambda: distribution.token_url(REALM, service, scopes), call=call, next_step=next_step)
    url = told.value if isinstance(told.value, str) else ""
    expect(
        url.startswith(REALM + "?"),
        call=call,
        result=repr(told.value),
        expected=f"a text that begins with {REALM}?",
        next_step="The realm, a question mark, then the parameters.",
    )
    return call, url, parse_qs(urlsplit(url).query, keep_blank_values=True)


@task(2)
def test_the_url_names_the_service_and_the_scope(world: World):
    step = "Two parameters, service and scope, joined by &."
    call, url, query = _token_query(world, "hub", ["repository:app:pull"], step)
    expect(
        query == {"service": ["hub"], "scope": ["repository:app:pull"]},
        call=call,
        result=url,
        expected="service=hub and scope=repository:app:pull",
        next_step=step,
    )


@task(2, needs=("test_the_url_names_the_service_and_the_scope",))
def test_each_scope_stands_alone(world: World):
    scopes = ["repository:a:pull", "repository:b:pull,push"]
    step = "A list of pairs may hold the same name twice: [('scope', …), ('scope', …)]. A dictionary cannot."
    call, url, query = _token_query(world, "hub", scopes, step)
    expect(
        query.get("scope") == scopes,
        call=call,
        result=url,
        expected="scope= twice, once for each scope",
        next_step=step,
    )


@task(2, needs=("test_the_url_names_the_service_and_the_scope",))
def test_special_characters_are_made_safe(world: World):
    step = "urllib.parse.urlencode writes such characters as %26."
    call, url, query = _token_query(world, "research & teaching", ["repository:app:pull"], step)
    expect(
        query.get("service") == ["research & teaching"],
        call=call,
        result=url,
        expected="a URL from which the server can read the service again",
        next_step=step,
    )


@task(2, needs=("test_the_url_names_the_service_and_the_scope",))
def test_no_service_no_parameter(world: World):
    step = "Add the service only if it is not empty."
    call, url, query = _token_query(world, "", ["repository:app:pull"], step)
    expect("service" not in query, call=call, result=url, expected="no service= in the URL", next_step=step)


@task(2)
def test_a_token_has_one_of_two_names(world: World):
    step = 'Some servers say "token", some "access_token": look for both.'
    for name in ("token", "access_token"):
        answer = json.dumps({name: "abc", "expires_in": 300}).encode()
        _compare(world, "read_token", [answer], ("abc", 300.0), step)


@task(2, needs=("test_a_token_has_one_of_two_names",))
def test_a_token_lives_a_minute_if_nothing_is_said(world: World):
    _compare(
        world, "read_token", [b'{"token": "abc"}'], ("abc", 60.0), "60 seconds when expires_in is missing."
    )


@task(2)
def test_no_token_is_an_error(world: World):
    call = "read_token(b'{}')"

    def story():
        try:
            return repr(distribution.read_token(b"{}"))
        except MinidockError:
            return "MinidockError"

    step = "Without this, the engine would ask again and again with an empty token: raise MinidockError."
    told = world.tell(story, call=call, next_step=step)
    expect(
        told.value == "MinidockError", call=call, result=told.value, expected="MinidockError", next_step=step
    )


# --- task 3 --------------------------------------------------------------------------------------

MANIFEST = b'{"schemaVersion": 2, "layers": []}'
OTHER = b'{"schemaVersion": 2, "layers": [], "evil": true}'


def _digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _is_refused(world: World, reference, claimed, data, *, call, next_step):
    def story():
        try:
            return f"accepted, as {distribution.check_manifest(reference, claimed, data)[:19]}…"
        except MinidockError:
            return "MinidockError"

    told = world.tell(story, call=call, next_step=next_step)
    expect(
        told.value == "MinidockError",
        call=call,
        result=told.value,
        expected="MinidockError",
        next_step=next_step,
    )


@task(3)
def test_the_digest_is_computed(world: World):
    step = 'hashlib.sha256(data).hexdigest(), with "sha256:" in front.'
    _compare(world, "check_manifest", ["latest", "", MANIFEST], _digest(MANIFEST), step)
    _compare(world, "check_manifest", [_digest(MANIFEST), "", MANIFEST], _digest(MANIFEST), step)


@task(3, needs=("test_the_digest_is_computed",))
def test_another_image_than_asked_for_is_refused(world: World):
    _is_refused(
        world,
        _digest(MANIFEST),
        _digest(OTHER),
        OTHER,
        call="check_manifest(the digest of A, the digest of B, the bytes of B)",
        next_step="The registry is right about the wrong bytes. Compare with reference if it is a digest.",
    )


@task(3, needs=("test_the_digest_is_computed",))
def test_what_the_registry_claims_must_be_true(world: World):
    _is_refused(
        world,
        "latest",
        _digest(MANIFEST),
        OTHER,
        call='check_manifest("latest", the digest of A, the bytes of B)',
        next_step="A tag says nothing about bytes, the claimed digest does: compare with that.",
    )


@task(3)
def test_the_platform_of_the_machine_is_found(world: World):
    step = "Split at / and compare system and architecture of each entry."
    _compare(world, "choose_platform", [["linux/s390x", "linux/amd64", "linux/386"], "linux/amd64"], 1, step)
    _compare(world, "choose_platform", [["linux/amd64", "linux/arm64/v8"], "linux/arm64"], 1, step)


@task(3, needs=("test_the_platform_of_the_machine_is_found",))
def test_another_system_does_not_fit(world: World):
    step = "windows/amd64 has the same processor and another system."
    _compare(world, "choose_platform", [["windows/amd64", "linux/amd64"], "linux/amd64"], 1, step)


@task(3, needs=("test_the_platform_of_the_machine_is_found",))
def test_no_fit_is_none(world: World):
    step = "None means: this image does not exist for this machine."
    _compare(world, "choose_platform", [["linux/s390x", "unknown/unknown"], "linux/amd64"], None, step)


@task(3, needs=("test_the_platform_of_the_machine_is_found",))
def test_a_newer_variant_does_not_fit(world: World):
    step = (
        "Code for amd64/v3 uses instructions that a v1 processor lacks. A missing variant means v1 for amd64."
    )
    _compare(world, "choose_platform", [["linux/amd64/v3", "linux/amd64"], "linux/amd64"], 1, step)


@task(3, needs=("test_the_platform_of_the_machine_is_found",))
def test_the_newest_variant_that_fits_is_best(world: World):
    step = "All of them run. The one with the highest variant uses the processor best."
    _compare(world, "choose_platform", [["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7"], 1, step)


# --- task 4 --------------------------------------------------------------------------------------


class _Answer:
    """What get() gives back: as much of an HTTP response as open_blob may look at."""

    def __init__(self, status, content_range=""):
        self.status, self.closed = status, False
        self.headers = email.message.Message()
        if content_range:
            self.headers["Content-Range"] = content_range

    def close(self):
        self.closed = True


def _open(world: World, start, *answers, next_step):
    """Tell the student's open_blob; returns (call, {"asked": headers, "which": answer, "begins": offset})."""
    statuses = ", then ".join(str(each.status) for each in answers)
    call = f"open_blob(get, {start}), where the registry answers {statuses}"

    def story():
        asked, waiting = [], list(answers)

        def get(headers):
            asked.append(dict(headers))
            return waiting.pop(0) if waiting else answers[-1]

        answer, begins = distribution.open_blob(get, start)
        return {
            "asked": asked,
            "which": answers.index(answer) if answer in answers else None,
            "begins": begins,
            "closed": [each.closed for each in answers],
        }

    return call, world.tell(story, call=call, next_step=next_step).value


@task(4)
def test_from_the_beginning_no_range_is_asked_for(world: World):
    step = "When start is 0, give get an empty dictionary: some registries answer badly to bytes=0-."
    call, value = _open(world, 0, _Answer(200), next_step=step)
    expect(
        value["asked"] == [{}] and (value["which"], value["begins"]) == (0, 0),
        call=call,
        result=f"asked with {value['asked']}, begins at {value['begins']}",
        expected="asked once with {}, and (answer, 0) comes back",
        next_step=step,
    )


@task(4)
def test_the_rest_is_asked_for(world: World):
    step = 'The header is {"Range": "bytes=1000-"}. Bytes count from 0: after 1000 bytes, 1000 is next.'
    call, value = _open(world, 1000, _Answer(206, "bytes 1000-1999/2000"), next_step=step)
    expect(
        value["asked"] == [{"Range": "bytes=1000-"}] and (value["which"], value["begins"]) == (0, 1000),
        call=call,
        result=f"asked with {value['asked']}, begins at {value['begins']}",
        expected="asked once with {'Range': 'bytes=1000-'}, and (answer, 1000) comes back",
        next_step=step,
    )


@task(4, needs=("test_the_rest_is_asked_for",))
def test_a_registry_without_ranges_sends_everything(world: World):
    step = "200 means that the body is the whole blob, whatever you asked for: it begins at 0."
    call, value = _open(world, 1000, _Answer(200), next_step=step)
    expect(
        (value["which"], value["begins"]) == (0, 0),
        call=call,
        result=f"begins at {value['begins']}",
        expected="(answer, 0)",
        next_step=step,
    )


@task(4, needs=("test_the_rest_is_asked_for",))
def test_the_answer_says_where_it_begins(world: World):
    step = "Read the first number of Content-Range: the registry may send more than you asked for."
    call, value = _open(world, 1000, _Answer(206, "bytes 512-1999/2000"), next_step=step)
    expect(
        value["begins"] == 512,
        call=f"{call} and Content-Range: bytes 512-1999/2000",
        result=f"begins at {value['begins']}",
        expected="(answer, 512)",
        next_step=step,
    )


@task(4, needs=("test_the_rest_is_asked_for",))
def test_nothing_left_means_begin_anew(world: World):
    step = "416 says that the blob is shorter than what we have: close this answer and return get({}), 0."
    call, value = _open(world, 1000, _Answer(416), _Answer(200), next_step=step)
    expect(
        value["asked"][1:] == [{}] and (value["which"], value["begins"]) == (1, 0) and value["closed"][0],
        call=call,
        result=f"asked with {value['asked']}, first answer closed: {value['closed'][0]}",
        expected="the first answer closed, a second request with {}, and (second answer, 0)",
        next_step=step,
    )


def _new_bytes(world: World, at, have, expected, next_step):
    call = f"new_bytes(b'abcdef', {at}, {have})"
    told = world.tell(
        lambda: bytes(distribution.new_bytes(memoryview(b"abcdef"), at, have)).decode(),
        call=call,
        next_step=next_step,
    )
    expect(
        told.value == expected,
        call=call,
        result=repr(told.value),
        expected=repr(expected),
        next_step=next_step,
    )


@task(4)
def test_bytes_that_are_here_are_left_out(world: World):
    step = "The first `have` bytes of the blob are on disk already: cut them off."
    _new_bytes(world, 0, 0, "abcdef", step)
    _new_bytes(world, 0, 4, "ef", step)
    _new_bytes(world, 0, 6, "", step)


@task(4, needs=("test_bytes_that_are_here_are_left_out",))
def test_a_block_in_the_middle_counts_from_its_own_place(world: World):
    step = "The block begins at offset `at` of the blob: have - at bytes of it are old."
    _new_bytes(world, 100, 103, "def", step)
    _new_bytes(world, 100, 100, "abcdef", step)


# --- task 5 --------------------------------------------------------------------------------------

PULL = """
import json, sys
from pathlib import Path
from minidock import trace
from minidock.config import Config
from minidock.engine import Engine
root, layers, mirror = sys.argv[1:]
engine = Engine(root, layers=layers, config=Config(root=Path(root), registry_mirrors=(mirror,)))
with trace.recording(trace.Recorder()) as recorder:
    engine.pull("busybox")
print(json.dumps(sorted({step.source for step in recorder.steps})))
"""


@task(5, needs=tuple(name for name in globals() if name.startswith("test_")))
def test_a_real_image_arrives_on_your_layer(tmp_path):
    layers, root = Path(os.environ["MINIDOCK_LAYERS"]), tmp_path / "state"
    archive = Path(os.environ["MINIDOCK_LAB_IMAGE"])

    def run(words, *command):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        expect(
            done.returncode == 0,
            call=words,
            result=f"exit code {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}",
            expected="exit code 0",
            next_step="Try it by hand: minidock rmi -f busybox; sudo minidock --layers ~/mydock pull busybox",
        )
        return done.stdout

    with TinyRegistry(archive, cut_after=1000) as registry:
        words = "minidock --layers … pull busybox, over a line that breaks once"
        said = run(words, sys.executable, "-c", PULL, root, layers, f"http://{registry.host}")
    asked = [f"{each.path} {each.range}".strip() for each in registry.requests]
    expect(
        any("/library/busybox/blobs/" in each and "bytes=1000-" in each for each in asked),
        call=words,
        result=f"the registry was asked for: {', '.join(asked)}",
        expected="a blob of library/busybox, and after the break its rest: Range: bytes=1000-",
        next_step="Look at open_blob: it was told to start at 1000.",
    )
    expect(
        str(layers / "distribution.py") in json.loads(said),
        call=words,
        result=f"its record names {said.strip()}",
        expected=f"a request made by {layers / 'distribution.py'}",
        next_step="Call get(…) inside open_blob: then the record names your file.",
    )
    minidock = [Path(sys.executable).with_name("minidock"), "--root", root, "--layers", layers]
    words = "minidock --layers … run --rm busybox echo arrived"
    said = run(words, *minidock, "run", "--rm", "--pull", "never", "busybox", "echo", "arrived")
    expect(
        said == "arrived\n",
        call=words,
        result=repr(said),
        expected="arrived",
        next_step="Check the image's files.",
    )
