"""Lab 06: registries. Write these functions; minidock then pulls images with them.

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
    raise NotImplementedError("task 1")


def split_suffix(rest):
    """Task 1. Split "app:1.0@sha256:…" into ("app", "1.0", "sha256:…").

    A part that is not there is None: "app" → ("app", None, None).
    """
    raise NotImplementedError("task 1")


def parse_parameters(text):
    """Task 2. Read the parameters of a challenge: 'realm="https://…",service="hub"' → a dictionary.

    A value in quotes may hold commas: scope="repository:app:pull,push".
    """
    raise NotImplementedError("task 2")


def token_url(realm, service, scopes):
    """Task 2. The URL that gives a token: realm?service=…&scope=…&scope=…

    One scope= for each of the list scopes. No service= when service is empty.
    """
    raise NotImplementedError("task 2")


def read_token(answer):
    """Task 2. Return (token, seconds that it lives) from the token server's answer, JSON as bytes.

    The token is called "token" or "access_token"; the seconds are called "expires_in", and are 60
    when nothing is said. Raises MinidockError when there is no token.
    """
    raise NotImplementedError("task 2")


def check_manifest(reference, claimed, data):
    """Task 3. Return the digest ("sha256:…") of the manifest data (bytes), or refuse it.

    reference: what was asked for, a tag or a digest (a digest has a colon in it).
    claimed: the digest that the registry says it sent, or "".
    Raises MinidockError when the digest that was asked for is another one. When a tag was asked
    for, the claimed digest (if there is one) must be right.
    """
    raise NotImplementedError("task 3")


def choose_platform(offered, wanted):
    """Task 3. The position in the list offered of the platform that fits wanted best, or None.

    Platforms look like "linux/amd64" or "linux/arm/v7". System and architecture must be the same.
    A variant (v7) must not be newer than the wanted one; of those that fit, the newest is best.
    """
    raise NotImplementedError("task 3")


def open_blob(get, start):
    """Task 4. Begin to fetch a blob from byte start on. Return (answer, where its body begins).

    get(headers) sends the request; give it {"Range": "bytes=START-"}, or {} when start is 0.
    answer.status says what happened:
        206  a part; answer.headers["Content-Range"] ("bytes 1000-1999/2000") says where it begins
        200  everything, from byte 0
        416  there is nothing after start: answer.close(), and ask again for everything
    Any other answer is returned with 0. The engine knows what it means.
    """
    raise NotImplementedError("task 4")


def new_bytes(block, at, have):
    """Task 4. The part of block that is new. block begins at offset at; we have the first have bytes.

    new_bytes(b"abcdef", 100, 103) → b"def"
    """
    raise NotImplementedError("task 4")
