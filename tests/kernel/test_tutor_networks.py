"""Causes of refused calls about networks: provoked, and a counter-test with the same errno."""

from __future__ import annotations

import errno
import os

import pytest

from minidock.errors import KernelError, MinidockError
from minidock.kernel import nat, net, tutor
from minidock.kernel.netlink import Netlink


def test_nft_is_not_installed(monkeypatch):
    monkeypatch.setattr(nat, "_program", lambda: "/nowhere/nft")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(KernelError, match="ENOENT: the program nft is not installed") as caught:
        nat.run("list tables\n")
    assert "apt install nftables" in str(caught.value.hint)


def test_a_table_that_is_not_there_is_no_missing_program():
    with pytest.raises(KernelError) as caught:
        nat.run("delete table inet nowhere\n")
    assert caught.value.errno == errno.ENOENT
    assert caught.value.cause is None


def test_a_script_that_nft_does_not_understand_is_one_line():
    with pytest.raises(MinidockError, match=r"^nft: .*syntax error") as caught:
        nat.run("frobnicate {\n")
    assert "\n" not in caught.value.message


def test_the_name_of_an_interface_is_taken():
    with Netlink() as door:
        net.add_bridge(door, "twice", "02:42:00:00:00:01")
        with pytest.raises(KernelError, match="EEXIST: an interface called twice is there already"):
            net.add_bridge(door, "twice", "02:42:00:00:00:01")
    assert tutor.explain("RTM_NEWLINK", {"name": "other"}, errno.EEXIST) is None


def test_a_gateway_that_is_not_beside():
    with Netlink() as door:
        with pytest.raises(
            KernelError, match=r"no interface of this network has an address beside 10\.0\.0\.1"
        ):
            net.default_route(door, "10.0.0.1")
        index = net.add_bridge(door, "beside", "02:42:00:00:00:01")
        net.add_address(door, index, "10.0.0.9", 24)
        net.link_up(door, index)
        net.default_route(door, "10.0.0.1")
    assert tutor.explain("RTM_NEWROUTE", {"gateway": "10.0.0.1"}, errno.ENETUNREACH) is None


def _without_power() -> str:
    os.setresuid(65534, 65534, 65534)
    try:
        with Netlink() as door:
            net.add_bridge(door, "refused", "02:42:00:00:00:01")
    except KernelError as error:
        return error.message
    return "made"


def test_a_network_needs_its_capability(in_child):
    assert "this process lacks CAP_NET_ADMIN" in in_child(_without_power)
