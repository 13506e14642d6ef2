"""`image tree`: shared layers stand once, each branch shows what it costs."""

from __future__ import annotations


def test_what_is_shared_and_what_it_costs(busybox, minidock):
    base = "FROM busybox\nRUN head -c 5000 /dev/zero > /base\n"
    for name, size in (("one", 2000), ("two", 3000)):
        text = f"{base}RUN head -c {size} /dev/zero > /own\n"
        minidock("build", "-q", "-t", name, "-", input=text)
    lines = minidock("image", "tree").stdout.splitlines()
    assert lines[0].endswith("busybox:latest  (in 3 images)")
    assert lines[1].endswith("5kB  (in 2 images)")
    assert {line[:3] for line in lines[2:4]} == {"├─ ", "└─ "}
    costs = {line.split()[0]: line.split()[3] for line in lines[6:9]}
    assert costs == {"busybox:latest": "0B", "one:latest": "2kB", "two:latest": "3kB"}
    assert lines[-1].startswith("4 layers take ")


def test_no_images(root, minidock):
    assert minidock("image", "tree").stdout == "There are no images with layers.\n"
