"""Lab 06, solved. Try the skeleton first: reading a solution teaches less than one wrong attempt.

Each function stands in for the one of the same name in minidock/images/distribution.py. None of them
opens a connection: the engine does that, and asks your functions what to do.

    "a/b".partition("/")                 ("a", "/", "b"); the last two are empty when there is no "/"
    urlencode([("scope", "x"), …])       "scope=x&…", with special characters made safe
    json.loads(data)                     Python values from JSON bytes
    hashlib.sha256(data).hexdigest()     64 hexadecimal digits
    raise MinidockError("one line")      how the engine hears that something is wrong
"""

import hashlib
import json
import re
from urllib.parse import urlencode

from minidock.errors import MinidockError

DEFAULT_VARIANT = {"arm64": "v8", "amd64": "v1", "arm": "v7"}  # what a platform without a variant means


def split_domain(text):
    """Task 1. Split an image name into registry and rest: "host:5000/app:1" → ("host:5000", "app:1").

    The first word is a registry only when it has a dot or a colon, or is "localhost".
    Otherwise the registry is "docker.io", and a rest without "/" gets "library/" in front.
    """
    first, slash, rest = text.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first, rest
    return "docker.io", text if slash else "library/" + text


def split_suffix(rest):
    """Task 1. Split "app:1.0@sha256:…" into ("app", "1.0", "sha256:…").

    A part that is not there is None: "app" → ("app", None, None).
    """
    named, at, digest = rest.partition("@")
    path, colon, tag = named.partition(":")
    return path, tag if colon else None, digest if at else None


def parse_parameters(text):
    """Task 2. Read the parameters of a challenge: 'realm="https://…",service="hub"' → a dictionary.

    A value in quotes may hold commas: scope="repository:app:pull,push".
    """
    return dict(re.findall(r'(\w+)="([^"]*)"', text))


def token_url(realm, service, scopes):
    """Task 2. The URL that gives a token: realm?service=…&scope=…&scope=…

    One scope= for each of the list scopes. No service= when service is empty.
    """
    query = [("service", service)] if service else []
    query += [("scope", scope) for scope in scopes]
    return realm + "?" + urlencode(query)


def read_token(answer):
    """Task 2. Return (token, seconds that it lives) from the token server's answer, JSON as bytes.

    The token is called "token" or "access_token"; the seconds are called "expires_in", and are 60
    when nothing is said. Raises MinidockError when there is no token.
    """
    fields = json.loads(answer)
    token = fields.get("token") or fields.get("access_token")
    if not token:
        raise MinidockError("the token server's answer holds no token")
    return token, float(fields.get("expires_in", 60))


def check_manifest(reference, claimed, data):
    """Task 3. Return the digest ("sha256:…") of the manifest data (bytes), or refuse it.

    reference: what was asked for, a tag or a digest (a digest has a colon in it).
    claimed: the digest that the registry says it sent, or "".
    Raises MinidockError when the digest that was asked for is another one. When a tag was asked
    for, the claimed digest (if there is one) must be right.
    """
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    expected = reference if ":" in reference else claimed
    if expected and expected != digest:
        raise MinidockError(f"digest mismatch: asked for {expected}, got {digest}")
    return digest


def choose_platform(offered, wanted):
    """Task 3. The position in the list offered of the platform that fits wanted best, or None.

    Platforms look like "linux/amd64" or "linux/arm/v7". System and architecture must be the same.
    A variant (v7) must not be newer than the wanted one; of those that fit, the newest is best.
    """
    system, architecture, level = _parts(wanted)
    fitting = []
    for position, text in enumerate(offered):
        its_system, its_architecture, its_level = _parts(text)
        if its_system == system and its_architecture == architecture and its_level <= level:
            fitting.append((level - its_level, position))
    return min(fitting)[1] if fitting else None


def _parts(text):
    """Three parts, the variant as a number: "linux/arm/v7" → ("linux", "arm", 7)."""
    system, architecture, variant = [*text.split("/"), "", ""][:3]
    variant = variant or DEFAULT_VARIANT.get(architecture, "v0")
    return system, architecture, int(variant[1:])


def open_blob(get, start):
    """Task 4. Begin to fetch a blob from byte start on. Return (answer, where its body begins).

    get(headers) sends the request; give it {"Range": "bytes=START-"}, or {} when start is 0.
    answer.status says what happened:
        206  a part; answer.headers["Content-Range"] ("bytes 1000-1999/2000") says where it begins
        200  everything, from byte 0
        416  there is nothing after start: answer.close(), and ask again for everything
    Any other answer is returned with 0. The engine knows what it means.
    """
    answer = get({"Range": f"bytes={start}-"} if start else {})
    if answer.status == 206:
        return answer, int(re.match(r"bytes (\d+)-", answer.headers["Content-Range"])[1])
    if answer.status == 416:
        answer.close()
        return get({}), 0
    return answer, 0


def new_bytes(block, at, have):
    """Task 4. The part of block that is new. block begins at offset at; we have the first have bytes.

    new_bytes(b"abcdef", 100, 103) → b"def"
    """
    return block[max(0, have - at) :]
